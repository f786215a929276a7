//! Owns the words for what a sandbox uses. It counts nothing.

use std::time::Duration;

/// What a sandbox uses. What nobody counts here is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes of memory, files in `/tmp` and `/dev/shm` included.
    pub memory_bytes: Option<u64>,
    /// Processor time since it was started.
    pub cpu: Option<Duration>,
    /// Processes and threads, our own in it included.
    pub processes: Option<u64>,
    /// Bytes on disk, of the workspace and of what was changed elsewhere.
    pub disk_bytes: u64,
    /// Whether the disk was not walked to its end: then it is more than `disk_bytes`.
    pub disk_more: bool,
}
