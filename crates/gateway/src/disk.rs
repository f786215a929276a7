//! Room on the disk that holds the database: while there is little, what would write is refused before
//! SQLite fails in the middle of something. It frees nothing.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use contract::error::{ApiError, ErrorKind};
use tokio::time::Instant;

use crate::metrics::{Limit, Metrics};

/// How long an answer of the file system is believed.
const FRESH: Duration = Duration::from_secs(1);

/// Which disk, and how much of it must stay free.
#[derive(Debug, Clone)]
pub struct Floor {
    /// A directory on it.
    pub path: PathBuf,
    /// Bytes that must be free for writes to be taken.
    pub free: u64,
}

/// A disk that is watched.
#[derive(Debug)]
pub(crate) struct Disk {
    floor: Floor,
    seen: Mutex<Option<(Instant, Option<u64>)>>,
}

impl Disk {
    pub(crate) fn new(floor: Floor) -> Self {
        Self {
            floor,
            seen: Mutex::default(),
        }
    }

    /// Bytes that are free; `None` if the file system does not say.
    pub(crate) fn free(&self) -> Option<u64> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((at, free)) if now.saturating_duration_since(at) < FRESH => free,
            _ => {
                let stat = rustix::fs::statvfs(&self.floor.path);
                let free = stat
                    .ok()
                    .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
                *seen = Some((now, free));
                free
            }
        }
    }

    /// Bytes that must be free.
    pub(crate) fn floor(&self) -> u64 {
        self.floor.free
    }

    /// Refuses a write while there is too little room.
    ///
    /// # Errors
    /// 503, to be tried again later.
    pub(crate) fn room(&self, metrics: &Metrics) -> Result<(), ApiError> {
        // A file system that does not say is left to SQLite.
        if self.free().is_none_or(|free| free >= self.floor.free) {
            return Ok(());
        }
        metrics.hit(Limit::Disk);
        let text = "The server's disk is almost full, so nothing new is taken; reading and deleting go on. \
                    The operator makes room.";
        Err(ApiError::new(ErrorKind::Unavailable, text).retry_after(30))
    }
}
