//! Owns looking at directories until something in them changes. It reads no file and follows no symlink.
//!
//! What happens while nobody takes what was said is gathered by the kernel, as much as it keeps: beyond that,
//! and beyond our own limits, all that is said is that there was more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::files::{self, Refused};
use crate::limits::{CHANGES, CHANGES_BYTES, CHANGES_TIME, WATCHED_DIRECTORIES};
use crate::wire::{Change, Changed, Changes, Refusal};

/// What is said of a directory.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// Bytes that are read from the kernel at once: room for some of the longest names.
const READ_BYTES: usize = 16 * 1024;

/// A look at a directory and what is below it.
pub(crate) struct Watch {
    kernel: OwnedFd,
    directories: HashMap<i32, PathBuf>,
    deep: bool,
    /// Only what has this name.
    only: Option<OsString>,
    /// The volume that it does not leave.
    device: u64,
    gathered: Gathered,
}

/// What has changed and was not told yet.
#[derive(Default)]
struct Gathered {
    names: HashMap<PathBuf, (Changed, bool)>,
    bytes: usize,
    more: bool,
}

impl Watch {
    /// Looks at what `path` names from now on.
    pub(crate) fn new(path: &str, deep: bool) -> Result<Self, Refused> {
        let (path, only) = files::watched(path)?;
        let refuse = |error: io::Error| (Refusal::Busy, format!("{}: {error}", path.display()));
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let device = fs::metadata(&path).map_err(refuse)?.dev();
        let mut watch = Self {
            kernel: kernel.map_err(|errno| refuse(errno.into()))?,
            directories: HashMap::new(),
            deep: deep && only.is_none(),
            only,
            device,
            gathered: Gathered::default(),
        };
        watch.add(&path, false).map_err(refuse)?;
        Ok(watch)
    }

    /// What has changed since this was asked last; at first that nothing has. Waits for it, but no longer than
    /// until `given_up` is readable: then there is none.
    pub(crate) fn next(&mut self, given_up: BorrowedFd<'_>) -> io::Result<Option<Changes>> {
        let kernel = self.kernel.as_fd();
        let mut fds = [
            PollFd::from_borrowed_fd(kernel, PollFlags::IN),
            PollFd::from_borrowed_fd(given_up, PollFlags::IN),
        ];
        while let Err(error) = poll(&mut fds, None) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        if !fds[1].revents().is_empty() {
            return Ok(None);
        }
        // What is written in pieces is told once.
        thread::sleep(CHANGES_TIME);
        self.read()?;
        Ok(Some(self.gathered.take()))
    }

    /// That it looks from now on, and whether at all of it.
    pub(crate) fn first(&mut self) -> Changes {
        self.gathered.take()
    }

    fn read(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        let mut space = [MaybeUninit::uninit(); READ_BYTES];
        let mut reader = Reader::new(&self.kernel, &mut space);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()));
                    found.push((event.wd(), event.events(), name.map(OsStr::to_owned)));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            // The rest waits in the kernel.
            if found.len() >= CHANGES && reader.is_buffer_empty() {
                break;
            }
        }
        for (directory, events, name) in found {
            self.take(directory, events, name);
        }
        Ok(())
    }

    fn take(&mut self, directory: i32, events: ReadFlags, name: Option<OsString>) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.gathered.more = true;
        }
        if events.contains(ReadFlags::IGNORED) {
            self.directories.remove(&directory);
            return;
        }
        let (Some(below), Some(name)) = (self.directories.get(&directory), name) else {
            return;
        };
        if self.only.as_ref().is_some_and(|only| *only != name) {
            return;
        }
        let path = below.join(name);
        let is_directory = events.contains(ReadFlags::ISDIR);
        if events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            self.gathered.add(&path, Changed::Created, is_directory);
            if is_directory && self.deep && self.add(&path, true).is_err() {
                self.gathered.more = true;
            }
        }
        if events.contains(ReadFlags::MODIFY) {
            self.gathered.add(&path, Changed::Written, is_directory);
        }
        if events.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            self.gathered.add(&path, Changed::Removed, is_directory);
        }
    }

    /// Looks at a directory, and if it is deep at what is below it. What is in one that is `new` was put there
    /// before anybody looked.
    fn add(&mut self, directory: &Path, new: bool) -> io::Result<()> {
        let mut waiting = vec![directory.to_owned()];
        while let Some(directory) = waiting.pop() {
            if self.directories.len() >= WATCHED_DIRECTORIES {
                self.gathered.more = true;
                return Ok(());
            }
            match inotify::add_watch(&self.kernel, &directory, WANTED) {
                Ok(number) => self.directories.insert(number, directory.clone()),
                // The first is what was asked for.
                Err(errno) if self.directories.is_empty() => return Err(errno.into()),
                Err(_) => {
                    self.gathered.more = true;
                    continue;
                }
            };
            if self.deep {
                waiting.extend(self.below(&directory, new));
            }
        }
        Ok(())
    }

    /// The directories in a directory, on the same volume.
    fn below(&mut self, directory: &Path, new: bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(directory) else {
            return found;
        };
        for entry in entries.flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if new {
                self.gathered
                    .add(&entry.path(), Changed::Created, is_directory);
            }
            let here =
                |entry: &fs::DirEntry| entry.metadata().is_ok_and(|m| m.dev() == self.device);
            if is_directory && here(&entry) {
                found.push(entry.path());
            }
        }
        found
    }
}

impl Gathered {
    fn add(&mut self, path: &Path, change: Changed, is_directory: bool) {
        let full =
            self.names.len() >= CHANGES || self.bytes + path.as_os_str().len() > CHANGES_BYTES;
        match self.names.entry(path.to_owned()) {
            Entry::Vacant(_) if full => self.more = true,
            Entry::Vacant(place) => {
                self.bytes += path.as_os_str().len();
                place.insert((change, is_directory));
            }
            Entry::Occupied(mut place) => {
                let now = match (place.get().0, change) {
                    // It was not there before, whatever was written to it since.
                    (Changed::Created, Changed::Written) => Changed::Created,
                    // Another one stands there than did.
                    (Changed::Removed, Changed::Created) => Changed::Written,
                    (_, change) => change,
                };
                place.insert((now, is_directory));
            }
        }
    }

    fn take(&mut self) -> Changes {
        let Self { names, more, .. } = std::mem::take(self);
        let changes = names.into_iter().map(|(path, (change, directory))| Change {
            path: path.to_string_lossy().into_owned(),
            change,
            directory,
        });
        Changes {
            changes: changes.collect(),
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_told_once_with_what_became_of_it() {
        use Changed::{Created, Removed, Written};
        for (happened, told) in [
            (vec![Created, Written], Created),
            (vec![Removed, Created], Written),
            (vec![Written, Removed], Removed),
            (vec![Created, Removed], Removed),
        ] {
            let mut gathered = Gathered::default();
            for change in &happened {
                gathered.add(Path::new("/a"), *change, false);
            }
            let said = gathered.take().changes;
            assert_eq!(said.len(), 1);
            assert_eq!(said[0].change, told, "{happened:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_only_said_to_be_more() {
        let mut gathered = Gathered::default();
        for number in 0..=CHANGES {
            gathered.add(Path::new(&format!("/{number}")), Changed::Created, false);
        }
        let said = gathered.take();
        assert_eq!((said.changes.len(), said.more), (CHANGES, true));
        let long = "x".repeat(CHANGES_BYTES);
        gathered.add(Path::new(&long), Changed::Created, false);
        gathered.add(Path::new("/a"), Changed::Created, false);
        let said = gathered.take();
        assert_eq!((said.changes.len(), said.more), (1, true));
        assert_eq!(gathered.take(), Changes::default());
    }
}
