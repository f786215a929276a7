//! The checkpointer: copies the write-ahead log into the database on a thread and a connection of its
//! own, so that no write waits for it. It never lets the log start over: only the writer can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::store::Shared;

/// Passes of one checkpoint: the second copies what was written during the first, so that next to
/// nothing is left to the writer.
const PASSES: usize = 2;

/// The handle that the writer holds.
pub(super) struct Checkpointer {
    /// One request may wait; further ones would ask for the same.
    asked: SyncSender<()>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// Starts the thread; `conn` becomes its own.
    pub(super) fn start(conn: Connection, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (asked, requests) = sync_channel(1);
        let done = Arc::<AtomicBool>::default();
        let tell = Arc::clone(&done);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&conn, &requests, &tell, &shared))?;
        Ok(Self {
            asked,
            done,
            thread,
        })
    }

    /// Asks for a checkpoint, and does not wait for it.
    pub(super) fn ask(&self) {
        // Full: one is under way and the next is asked for already.
        let _ = self.asked.try_send(());
    }

    /// True once after each checkpoint: the log is copied but for what was written meanwhile.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed) && self.done.swap(false, Ordering::Acquire)
    }

    /// Waits for the checkpoint under way and ends the thread.
    pub(super) fn stop(self) {
        drop(self.asked);
        if self.thread.join().is_err() {
            tracing::error!("the checkpointer panicked");
        }
    }
}

fn run(conn: &Connection, requests: &Receiver<()>, done: &AtomicBool, shared: &Shared) {
    while requests.recv().is_ok() {
        for _ in 0..PASSES {
            checkpoint(conn, Mode::Passive, shared);
        }
        done.store(true, Ordering::Release);
    }
}

/// How far a checkpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// As far as it comes without waiting for anyone.
    Passive,
    /// All of it, and the log becomes an empty file.
    Truncate,
}

pub(super) fn checkpoint(conn: &Connection, mode: Mode, shared: &Shared) {
    let sql = match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    match conn.query_row(sql, [], |_| Ok(())) {
        Ok(()) => {
            let checkpoints = &shared.counters.checkpoints;
            checkpoints.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            tracing::warn!(%error, "a checkpoint failed; the log grows until one succeeds");
        }
    }
}
