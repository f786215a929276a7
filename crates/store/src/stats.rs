//! What the store has done since it was opened. Counting only; nothing is decided on it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Durable commits: each is one `fdatasync` of the write-ahead log.
    pub commits: u64,
    /// Writes that were committed.
    pub jobs: u64,
    /// Writes that were refused or failed, and rolled back alone.
    pub refused: u64,
    /// Events stored.
    pub events: u64,
    /// The most writes one commit held.
    pub max_batch: u64,
    /// Checkpoints of the write-ahead log (each syncs the database file).
    pub checkpoints: u64,
    /// Writes that wait now.
    pub queue_depth: u64,
    /// Reads that wait now.
    pub read_queue_depth: u64,
    /// Subscribers cut because they lagged.
    pub cut: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) jobs: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) max_batch: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) cut: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, [queue_depth, read_queue_depth]: [u64; 2]) -> Stats {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Stats {
            commits: get(&self.commits),
            jobs: get(&self.jobs),
            refused: get(&self.refused),
            events: get(&self.events),
            max_batch: get(&self.max_batch),
            checkpoints: get(&self.checkpoints),
            queue_depth,
            read_queue_depth,
            cut: get(&self.cut),
        }
    }
}
