//! Owns the removal of deleted sandboxes, by one worker, off everybody's path. It never follows a link.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use jail::plan::SubIds;

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::dirs::{former, private_dir, remove_socket};
use super::{groups, starts_at_once, sub_ids};
use crate::error::{Doing, Error};
use crate::limits::{HANDOVER, TRASH_QUEUE};

/// How long to wait before looking again whether a sandbox that was deleted has let go of its directory.
const LET_GO_RETRY: Duration = Duration::from_millis(5);
/// How long what was deleted makes way for sandboxes that are being started: they want the same disk, and the same locks
/// of its file system.
const MAKES_WAY: Duration = Duration::from_secs(2);

/// A directory whose content is going to be removed. The worker ends with this value; what it did
/// not reach is found at the next start.
pub(super) struct Trash {
    dir: PathBuf,
    queue: SyncSender<PathBuf>,
    /// Whether there was no room for something in the queue: whoever works it off looks for itself.
    more: Arc<AtomicBool>,
    next: AtomicU64,
}

impl Trash {
    /// With `sub_ids`, what is in it may belong to those. Those who wait for `starts`, or have one, come first.
    pub(super) fn open(
        dir: PathBuf,
        sub_ids: Option<SubIds>,
        starts: Arc<Semaphore>,
    ) -> Result<Self, Error> {
        private_dir(&dir)?;
        let (queue, work) = sync_channel(TRASH_QUEUE);
        // What an earlier process left.
        let more = Arc::new(AtomicBool::new(true));
        let (below, also) = (dir.clone(), Arc::clone(&more));
        thread::Builder::new()
            .name("trash".to_owned())
            .spawn(move || worker(&below, &also, &work, sub_ids, &starts))
            .doing(|| "start the trash worker".to_owned())?;
        Ok(Self {
            dir,
            queue,
            more,
            next: AtomicU64::new(0),
        })
    }

    /// Moves a directory out of sight and queues its removal, which begins when nobody has the lock in it any
    /// more. One that is not there is success.
    pub(super) fn take(&self, path: &Path) -> Result<(), Error> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let place = self.dir.join(format!("{}-{number}", std::process::id()));
            match renameat_with(CWD, path, CWD, &place, RenameFlags::NOREPLACE) {
                // Left by an earlier process of the same number.
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(()),
                Err(errno) => {
                    return Err(errno).doing(|| format!("move {} to the trash", path.display()));
                }
                Ok(()) => {
                    if self.queue.try_send(place).is_err() {
                        self.more.store(true, Ordering::SeqCst);
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// Removes what comes, each once it was let go.
fn worker(
    dir: &Path,
    more: &AtomicBool,
    work: &Receiver<PathBuf>,
    sub_ids: Option<SubIds>,
    starts: &Semaphore,
) {
    let mut next = 0;
    let mut places = Vec::new();
    loop {
        let come = match places.is_empty() && !more.load(Ordering::SeqCst) {
            true => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => work.recv_timeout(LET_GO_RETRY),
        };
        let is_over = matches!(come, Err(RecvTimeoutError::Disconnected));
        places.extend(come.into_iter().chain(work.try_iter()).map(Place::new));
        if places.is_empty() && more.swap(false, Ordering::SeqCst) {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            places.extend(entries.map(|entry| Place::new(entry.path())));
        }
        places.retain(|place| {
            let others_start = starts.available_permits() < starts_at_once();
            if others_start && !is_over && place.since.elapsed() < MAKES_WAY {
                return true;
            }
            if !place.is_let_go() {
                return !place.is_given_up();
            }
            let mut removed = remove(dir, &place.path, &mut next);
            if removed.is_err()
                && let Some(ids) = sub_ids
            {
                // All of the trash: what was moved up on the way is in it, and is looked for again.
                removed = sub_ids::reclaim(dir, ids).and_then(|()| remove(dir, &place.path, &mut next));
                more.fetch_or(removed.is_ok(), Ordering::SeqCst);
            }
            if let Err(error) = removed {
                tracing::warn!(path = %place.path.display(), %error, "trash stays until the next start");
            }
            false
        });
        if is_over {
            return;
        }
    }
}

/// One entry of the trash that is to be removed.
struct Place {
    path: PathBuf,
    since: Instant,
}

impl Place {
    fn new(path: PathBuf) -> Self {
        let since = Instant::now();
        Self { path, since }
    }

    /// Whether nothing of the sandbox that was here is left on the host but this. What a supervisor that was
    /// killed left is removed first.
    fn is_let_go(&self) -> bool {
        // Whoever is still there and has no server sees by this that none can come.
        remove_socket(&self.path);
        let Ok(lock) = File::open(self.path.join("lock")) else {
            return true;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return false;
        }
        let Some(former) = former(&lock) else {
            return true;
        };
        if former.lives() {
            groups::thaw(&former);
            return false;
        }
        groups::sweep(&former, Instant::now());
        true
    }

    fn is_given_up(&self) -> bool {
        let given_up = self.since.elapsed() > HANDOVER;
        if given_up {
            let path = self.path.display();
            tracing::warn!(%path, "somebody has what was deleted: it stays until the next start");
        }
        given_up
    }
}

/// Removes one entry of the trash. What a sandbox left may be deeper than any stack and any limit
/// of descriptors, so each directory found is moved up into the trash itself and waits its turn:
/// three descriptors and no recursion, whatever the depth. No link is followed.
fn remove(dir: &Path, place: &Path, next: &mut u64) -> io::Result<()> {
    let trash = open_dir(CWD, dir)?;
    let Some(name) = place.file_name() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut waiting = vec![name.to_owned()];
    let mut failed = Ok(());
    while let Some(name) = waiting.pop() {
        if let Err(error) = empty(&trash, &name, &mut waiting, next) {
            failed = Err(error);
        }
    }
    failed
}

/// Unlinks what is in one directory of the trash, moves its directories up, and removes it.
fn empty(
    trash: &OwnedFd,
    name: &OsStr,
    waiting: &mut Vec<OsString>,
    next: &mut u64,
) -> io::Result<()> {
    let mut here = open_dir(trash, name);
    if let Err(error) = &here
        && error.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
    {
        open_up(trash, name)?;
        here = open_dir(trash, name);
    }
    let here = match here {
        Ok(here) => here,
        Err(error) => {
            return match unlinkat(trash, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(_) => Err(error),
            };
        }
    };
    let mut opened = false;
    loop {
        let mut moved = false;
        // Opened anew each time: a listing may skip names while others are removed.
        for entry in Dir::read_from(&here)? {
            let entry = entry?;
            let child = entry.file_name();
            if matches!(child.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlinkat(&here, child, AtFlags::empty()) {
                Ok(()) => {}
                // What it must not look into it may be the owner of: where nobody has other ids, it is.
                Err(Errno::ACCESS) if !opened => {
                    opened = true;
                    rustix::fs::fchmod(&here, Mode::RWXU)?;
                }
                Err(Errno::ISDIR) => waiting.push(move_up(&here, child, trash, next)?),
                Err(error) => return Err(error.into()),
            }
            moved = true;
        }
        match unlinkat(trash, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) if moved => {}
            result => return Ok(result?),
        }
    }
}

fn move_up(from: &OwnedFd, name: &CStr, trash: &OwnedFd, next: &mut u64) -> io::Result<OsString> {
    let mut opened = false;
    loop {
        *next += 1;
        let place = OsString::from(format!("up-{}-{next}", std::process::id()));
        match renameat(from, name, trash, &place) {
            Ok(()) => return Ok(place),
            // To move a directory is to write to it.
            Err(Errno::ACCESS) if !opened => {
                opened = true;
                open_up(from, name)?;
            }
            // Left by an earlier process of the same number.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a directory one that its owner may change. It is no link: it was not to be unlinked as a file.
fn open_up(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<()> {
    Ok(rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?)
}

fn open_dir(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_stack_is_removed_and_no_link_in_it_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let host = base.path().join("host");
        fs::create_dir(&host).unwrap();
        fs::write(host.join("kept"), "kept").unwrap();
        let old = base.path().join("sandbox");
        fs::create_dir(&old).unwrap();
        let mut at = open_dir(CWD, &old).unwrap();
        for depth in 0..20_000 {
            if depth % 5_000 == 0 {
                rustix::fs::symlinkat(&host, &at, "link").unwrap();
            }
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open_dir(&at, "d").unwrap();
        }
        drop(at);
        let dir = base.path().join("trash");
        let starts = Arc::new(Semaphore::new(starts_at_once()));
        let trash = Trash::open(dir.clone(), None, starts).unwrap();
        trash.take(&old).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::read_dir(&dir).unwrap().next().is_some() {
            assert!(Instant::now() < deadline, "the trash is not empty");
            thread::yield_now();
        }
        assert_eq!(fs::read_to_string(host.join("kept")).unwrap(), "kept");
    }
}
