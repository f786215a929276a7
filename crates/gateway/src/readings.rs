//! Numbers that others keep and that are read when somebody asks for the metrics: of the store, of what
//! clients share and of the disk. Each queue has its depth and its limit.

use std::sync::Arc;

use store::Store;
use store::stats::Stats;

use crate::disk::Disk;
use crate::limits::Limits;
use crate::metrics::{Kind, Metrics};
use crate::shares::Shares;

type Read = fn(Stats) -> u64;

const OF_STORE: &[(&str, &str, Kind, Read)] = &[
    ("store_commits", "Durable commits", Kind::Count, |s| {
        s.commits
    }),
    (
        "store_writes",
        "Writes that were committed",
        Kind::Count,
        |s| s.jobs,
    ),
    (
        "store_writes_refused",
        "Writes that were refused or failed",
        Kind::Count,
        |s| s.refused,
    ),
    ("store_events", "Events stored", Kind::Count, |s| s.events),
    (
        "store_checkpoints",
        "Checkpoints of the write-ahead log",
        Kind::Count,
        |s| s.checkpoints,
    ),
    (
        "store_subscribers_cut",
        "Streams cut because their reader fell behind",
        Kind::Count,
        |s| s.cut,
    ),
    (
        "store_commit_writes_max",
        "The most writes that one commit held",
        Kind::Level,
        |s| s.max_batch,
    ),
    (
        "store_write_queue_depth",
        "Writes that wait",
        Kind::Level,
        |s| s.queue_depth,
    ),
    (
        "store_read_queue_depth",
        "Reads that wait",
        Kind::Level,
        |s| s.read_queue_depth,
    ),
];

/// Registers them all.
pub(crate) fn register(
    metrics: &Metrics,
    store: &Store,
    limits: &Limits,
    shares: &Arc<Shares>,
    disk: Option<&Arc<Disk>>,
) {
    for (name, help, kind, read) in OF_STORE {
        let store = store.clone();
        metrics.read(name, help, *kind, move || read(store.stats()));
    }
    let level = |name, help, value: usize| {
        metrics.read(name, help, Kind::Level, move || value as u64);
    };
    level(
        "store_write_queue_limit",
        "Writes that may wait; further callers are held back",
        store::limits::WRITE_QUEUE,
    );
    level(
        "store_read_queue_limit",
        "Reads that may wait; further callers are held back",
        store::limits::READ_QUEUE,
    );
    level(
        "gateway_connections_limit",
        "Connections at once; further ones wait in the kernel",
        limits.connections,
    );
    level(
        "gateway_body_limit_bytes",
        "Bytes of request bodies that may be held at once",
        limits.bodies,
    );
    level(
        "gateway_streams_per_key_limit",
        "Streams that one API key may have open",
        limits.streams_per_key,
    );
    let taken = Arc::clone(shares);
    metrics.read(
        "gateway_body_bytes",
        "Bytes of request bodies that are held",
        Kind::Level,
        move || taken.bodies() as u64,
    );
    let taken = Arc::clone(shares);
    metrics.read(
        "gateway_streams",
        "Streams that API keys have open",
        Kind::Level,
        move || taken.streams() as u64,
    );
    let Some(disk) = disk else { return };
    let (free, floor) = (Arc::clone(disk), disk.floor());
    metrics.read(
        "disk_free_bytes",
        "Bytes free on the disk of the database",
        Kind::Level,
        move || free.free().unwrap_or(0),
    );
    metrics.read(
        "disk_floor_bytes",
        "Below so many free bytes writes are refused",
        Kind::Level,
        move || floor,
    );
}
