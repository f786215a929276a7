//! Owns what is alike for all that is unpacked: how much of an archive may land on the disk, the bytes of its files, and
//! what a file is given when they are there. It chooses no place.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jail::plan::ID_COUNT;
use rustix::fs::{
    Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fsetxattr, ftruncate,
    futimens,
};
use rustix::io::pwrite;

use super::{Entry, Fault, Reader, Refused, shown};
use crate::limits::{ARCHIVE_FREE, ARCHIVE_LOOK, ARCHIVE_RATIO, ARCHIVE_ZEROS};

/// Bytes that are looked at whether they are zeros, and written at once.
const PIECE: usize = 64 * 1024;
/// Of attributes, those that programs in a sandbox set by themselves.
const ATTRIBUTES: [&str; 3] = [
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
];

/// What an archive may take here.
pub(crate) struct Bounds {
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    /// Files and directories.
    pub(crate) entries: u64,
    /// Bytes that have come of the archive itself.
    pub(crate) came: Arc<AtomicU64>,
    /// Whether sandboxes have ids of their own.
    pub(crate) own_ids: bool,
    /// Fails when the host's disk is nearly full; asked now and then.
    pub(crate) room: Box<dyn Fn() -> io::Result<()> + Send>,
}

/// Counts what lands.
pub(crate) struct Landing<'a> {
    pub(crate) bounds: &'a Bounds,
    entries: u64,
    /// Bytes that were written, and those that came.
    written: u64,
    unpacked: u64,
    /// When to look next whether there is room: bytes that were written.
    look: u64,
}

impl<'a> Landing<'a> {
    pub(crate) fn new(bounds: &'a Bounds) -> Self {
        Self {
            bounds,
            entries: 0,
            written: 0,
            unpacked: 0,
            look: ARCHIVE_LOOK,
        }
    }

    /// One more entry.
    pub(crate) fn entry(&mut self) -> Result<(), Refused> {
        self.entries += 1;
        match self.entries > self.bounds.entries {
            true => Err(Refused::Many(self.bounds.entries)),
            false => Ok(()),
        }
    }

    /// How many entries there were, and how many bytes were written of them.
    pub(crate) fn landed(&self) -> (u64, u64) {
        (self.entries, self.written)
    }

    /// Writes the content of the entry that `reader` has come to into a new, empty file.
    pub(crate) fn content<R: Read>(
        &mut self,
        file: &OwnedFd,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), Fault> {
        let whole = [(0, entry.size)];
        let (length, parts) = match &entry.records.sparse {
            Some(sparse) => (sparse.length, sparse.parts.as_slice()),
            None => (entry.size, whole.as_slice()),
        };
        for (start, length) in parts {
            let (mut at, end) = (*start, start.saturating_add(*length));
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let piece = reader.piece(most)?;
                let came = piece.len();
                if came == 0 {
                    return Err(Refused::Cut.into());
                }
                // What is nothing but zeros is left out: it takes no room.
                if piece.iter().any(|byte| *byte != 0) {
                    self.fits(write_all(file, piece, at))?;
                    self.written += came as u64;
                }
                reader.took(came);
                at += came as u64;
                self.unpacked += came as u64;
                self.count()?;
            }
        }
        self.fits(ftruncate(file, length).map_err(io::Error::from))
    }

    /// What a file says that would be longer than any can be.
    fn fits(&self, done: io::Result<()>) -> Result<(), Fault> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(Refused::Large(self.bounds.bytes).into())
            }
            other => Ok(other?),
        }
    }

    /// Whether there is too much of it.
    fn count(&mut self) -> Result<(), Fault> {
        let most = self.bounds.bytes;
        if self.written > most || self.unpacked > most.saturating_mul(ARCHIVE_ZEROS) {
            return Err(Refused::Large(most).into());
        }
        let came = self.bounds.came.load(Ordering::Relaxed);
        let free = came.saturating_mul(ARCHIVE_RATIO);
        if self.written > free.saturating_add(ARCHIVE_FREE) {
            return Err(Refused::Bomb(ARCHIVE_RATIO).into());
        }
        if self.written > self.look {
            self.look = self.written + ARCHIVE_LOOK;
            (self.bounds.room)()?;
        }
        Ok(())
    }
}

/// What a file or directory is given when all else is done.
pub(crate) struct Dress {
    pub(crate) mode: u32,
    pub(crate) owner: Option<(Uid, Gid)>,
    pub(crate) times: Timestamps,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
}

impl Dress {
    /// What the archive says of that entry. Without ids of its own a sandbox has one owner of everything.
    pub(crate) fn of(entry: &Entry, own_ids: bool) -> Result<Self, Refused> {
        let said = || shown(&entry.path);
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id < ID_COUNT);
        let owner = match (id(entry.uid), id(entry.gid)) {
            (Some(uid), Some(gid)) => (Uid::from_raw(uid), Gid::from_raw(gid)),
            _ => return Err(Refused::Owner(said(), entry.uid, entry.gid)),
        };
        for (name, _) in &entry.records.attributes {
            let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
            if !users && !ATTRIBUTES.contains(&name.as_str()) {
                return Err(Refused::Attribute(said(), shown(name.as_bytes())));
            }
        }
        let (seconds, nanos) = entry.mtime;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanos),
        };
        Ok(Self {
            mode: entry.mode & 0o7777,
            owner: own_ids.then_some(owner),
            times: Timestamps {
                last_access: time,
                last_modification: time,
            },
            attributes: entry.records.attributes.clone(),
        })
    }

    pub(crate) fn put_on(&self, fd: &OwnedFd) -> io::Result<()> {
        // In this order: a new owner takes set-id bits and capabilities away, and all of it sets the time.
        if let Some((uid, gid)) = self.owner {
            fchown(fd, Some(uid), Some(gid))?;
        }
        fchmod(fd, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.attributes {
            fsetxattr(fd, name.as_str(), value, XattrFlags::empty())?;
        }
        Ok(futimens(fd, &self.times)?)
    }
}

fn write_all(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| pwrite(&file, bytes, at))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}
