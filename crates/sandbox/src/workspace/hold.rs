//! Owns who may make layers and who may remove them. It touches neither.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// While it is there, no garbage is collected; or, for the collector, nothing is made. The kernel gives it back for
/// a process that is killed.
#[derive(Debug)]
pub(super) struct Hold {
    _lock: File,
}

impl Hold {
    /// Shared with all that make something. Waits for the collector.
    pub(super) fn shared(file: &Path) -> io::Result<Self> {
        let lock = open(file)?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockShared))?;
        Ok(Self { _lock: lock })
    }

    /// For the collector alone; none while anybody makes something.
    pub(super) fn alone(file: &Path) -> io::Result<Option<Self>> {
        let lock = open(file)?;
        match rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(Some(Self { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
}
