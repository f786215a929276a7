//! Owns the removal of deleted sandboxes, by one worker, off everybody's path. It never follows a link.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::dirs::private_dir;
use crate::error::{Doing, Error};
use crate::limits::TRASH_QUEUE;

/// A directory whose content is going to be removed. The worker ends with this value; what it did
/// not reach is found at the next start.
pub(super) struct Trash {
    dir: PathBuf,
    queue: SyncSender<PathBuf>,
    next: AtomicU64,
}

impl Trash {
    pub(super) fn open(dir: PathBuf) -> Result<Self, Error> {
        private_dir(&dir)?;
        let (queue, work) = sync_channel(TRASH_QUEUE);
        // Listed before anything new is taken: the worker must not remove a place being filled.
        let leftovers = fs::read_dir(&dir).doing(|| "list the trash".to_owned())?;
        let leftovers = leftovers.flatten().map(|entry| entry.path()).collect();
        let below = dir.clone();
        thread::Builder::new()
            .name("trash".to_owned())
            .spawn(move || worker(&below, leftovers, &work))
            .doing(|| "start the trash worker".to_owned())?;
        Ok(Self {
            dir,
            queue,
            next: AtomicU64::new(0),
        })
    }

    /// Moves a directory out of sight and queues its removal.
    pub(super) fn take(&self, path: &Path) -> Result<(), Error> {
        let doing = || format!("move {} to the trash", path.display());
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let place = self.dir.join(format!("{}-{number}", std::process::id()));
            match fs::create_dir(&place) {
                // Left by an earlier process of the same number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).doing(doing),
                Ok(()) => {
                    fs::rename(path, place.join("old")).doing(doing)?;
                    // A full queue only delays the removal until the next start.
                    let _ = self.queue.try_send(place);
                    return Ok(());
                }
            }
        }
    }
}

fn worker(dir: &Path, leftovers: Vec<PathBuf>, work: &Receiver<PathBuf>) {
    let mut next = 0;
    for place in leftovers.into_iter().chain(work.iter()) {
        if let Err(error) = remove(dir, &place, &mut next) {
            tracing::warn!(path = %place.display(), %error, "trash stays until the next start");
        }
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
    use std::time::{Duration, Instant};

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
        let trash = Trash::open(dir.clone()).unwrap();
        trash.take(&old).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::read_dir(&dir).unwrap().next().is_some() {
            assert!(Instant::now() < deadline, "the trash is not empty");
            thread::yield_now();
        }
        assert_eq!(fs::read_to_string(host.join("kept")).unwrap(), "kept");
    }
}
