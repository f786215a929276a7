//! The checkpointer: copies the write-ahead log into the database on a thread and a connection of its
//! own, so that no write waits for it. It empties the log only when a secret in it was purged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::Shared;

/// Passes of one checkpoint: the second copies what was written during the first, so that next to
/// nothing is left to the writer.
const PASSES: usize = 2;

/// How often the log is emptied at most, and how long after an attempt that found it in use the next one comes.
const EMPTY_EVERY: Duration = Duration::from_secs(1);

/// How long emptying waits for readers: writers wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(50);

/// The handle that the writer holds.
pub(super) struct Checkpointer {
    /// One request may wait; further ones would ask for the same.
    asked: SyncSender<()>,
    done: Arc<AtomicBool>,
    /// Whether the log must be emptied.
    empty: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    /// Starts the thread; `conn` becomes its own.
    pub(super) fn start(conn: Connection, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (asked, requests) = sync_channel(1);
        let done = Arc::<AtomicBool>::default();
        let tell = Arc::clone(&done);
        let empty = Arc::<AtomicBool>::default();
        let wanted = Arc::clone(&empty);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&conn, &requests, (&tell, &wanted), &shared))?;
        Ok(Self {
            asked,
            done,
            empty,
            thread,
        })
    }

    /// Asks for a checkpoint, and does not wait for it.
    pub(super) fn ask(&self) {
        // Full: one is under way and the next is asked for already.
        let _ = self.asked.try_send(());
    }

    /// Has the log emptied soon, and does not wait for it.
    pub(super) fn empty(&self) {
        self.empty.store(true, Ordering::Release);
        self.ask();
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

fn run(
    conn: &Connection,
    requests: &Receiver<()>,
    (done, empty): (&AtomicBool, &AtomicBool),
    shared: &Shared,
) {
    if let Err(error) = conn.busy_timeout(PATIENCE) {
        tracing::warn!(%error, "the checkpointer waits for readers as long as everybody else");
    }
    let (mut emptying, mut last) = (false, None::<Instant>);
    loop {
        let asked = if emptying {
            requests.recv_timeout(EMPTY_EVERY)
        } else {
            requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match asked {
            Ok(()) => {
                for _ in 0..PASSES {
                    checkpoint(conn, Mode::Passive, shared);
                }
                done.store(true, Ordering::Release);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        emptying |= empty.swap(false, Ordering::Acquire);
        if emptying && last.is_none_or(|last| last.elapsed() >= EMPTY_EVERY) {
            emptying = !checkpoint(conn, Mode::Truncate, shared);
            last = Some(Instant::now());
        }
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

/// Returns whether it came as far as it was meant to.
pub(super) fn checkpoint(conn: &Connection, mode: Mode, shared: &Shared) -> bool {
    let sql = match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    match conn.query_row(sql, [], |row| row.get::<_, bool>(0)) {
        Ok(busy) => {
            let checkpoints = &shared.counters.checkpoints;
            checkpoints.fetch_add(1, Ordering::Relaxed);
            !busy
        }
        Err(error) => {
            tracing::warn!(%error, "a checkpoint failed; the log grows until one succeeds");
            false
        }
    }
}
