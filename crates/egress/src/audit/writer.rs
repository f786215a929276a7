//! The thread that writes. It must never hold traffic up while the queue has room, and never lose a record
//! while it lives: what cannot be written is tried again, and whoever records waits.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::chain::{AuditError, Entry, append, body, ends, open};
use super::control::Control;
use super::record::Record;
use crate::limits;

/// How the audit writes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Records that may wait to be written. What is in the queue is lost when the process is killed.
    pub queue: usize,
    /// How long to wait after a failure before the same batch is tried again.
    pub retry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: limits::AUDIT_QUEUE,
            retry: Duration::from_secs(1),
        }
    }
}

/// The audit is closed, so nothing may go on that has to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit is closed")]
pub struct AuditClosed;

/// The way into the audit. Its thread ends when it is closed or dropped.
#[derive(Debug)]
pub struct Audit {
    queue: mpsc::Sender<Item>,
    head: watch::Receiver<u64>,
    thread: JoinHandle<()>,
}

struct Item {
    body: String,
    written: Option<oneshot::Sender<()>>,
}

impl Audit {
    /// Opens the database at `path` and starts the thread.
    ///
    /// # Errors
    /// [`AuditError`]: there is no audit, so there must be no traffic.
    pub fn open(path: &Path, options: Options) -> Result<Self, AuditError> {
        let conn = open(path)?;
        let (moved, head) = watch::channel(ends(&conn)?.head.seq);
        let (queue, items) = mpsc::channel(options.queue.max(1));
        let writer = Writer {
            conn,
            path: path.to_owned(),
            retry: options.retry,
            moved,
        };
        let thread = std::thread::Builder::new()
            .name("egress-audit".to_owned())
            .spawn(move || writer.run(items))
            .map_err(AuditError::Thread)?;
        Ok(Self {
            queue,
            head,
            thread,
        })
    }

    /// Queues a record; waits while the queue is full. Cancel safe: a record that was not queued is not
    /// written.
    ///
    /// # Errors
    /// [`AuditClosed`]. A text in it over [`limits::AUDIT_TEXT`] is cut, never refused.
    pub async fn record(&self, record: Record) -> Result<(), AuditClosed> {
        self.send(record, None).await
    }

    /// Queues a record and waits until it is on the disk. Cancel safe: it may be written all the same.
    ///
    /// # Errors
    /// [`AuditClosed`].
    pub async fn record_durably(&self, record: Record) -> Result<(), AuditClosed> {
        let (written, seen) = oneshot::channel();
        self.send(record, Some(written)).await?;
        seen.await.map_err(|_| AuditClosed)
    }

    /// Queues an action and waits until it is on the disk. Cancel safe: it may be written all the same.
    ///
    /// # Errors
    /// [`AuditClosed`], also for one that is too long.
    pub async fn note(&self, control: Control) -> Result<(), AuditClosed> {
        let body = body(&Entry::Control(Box::new(control))).map_err(|_| AuditClosed)?;
        let (written, seen) = oneshot::channel();
        self.queue(body, Some(written)).await?;
        seen.await.map_err(|_| AuditClosed)
    }

    /// The last place that is written, to wait for the next one.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    async fn send(
        &self,
        record: Record,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<(), AuditClosed> {
        let body = bounded(record).map_err(|_| AuditClosed)?;
        self.queue(body, written).await
    }

    async fn queue(
        &self,
        body: String,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<(), AuditClosed> {
        let item = Item { body, written };
        self.queue.send(item).await.map_err(|_| AuditClosed)
    }

    /// Writes what is queued and ends. It blocks: call it outside the runtime, or in `spawn_blocking`.
    pub fn close(self) {
        drop(self.queue);
        // A panic of the thread was printed where it happened; what it had is gone either way.
        let _ended = self.thread.join();
    }
}

/// The text of a record, in which what somebody made too long is cut.
fn bounded(mut record: Record) -> Result<String, AuditError> {
    let of_client = [&mut record.path, &mut record.name, &mut record.method];
    of_client.into_iter().flatten().for_each(cut);
    for text in [
        &mut record.reason,
        &mut record.rule,
        &mut record.sandbox,
        &mut record.protocol,
    ] {
        cut(text);
    }
    body(&Entry::Egress(Box::new(record)))
}

fn cut(text: &mut String) {
    if text.len() > limits::AUDIT_TEXT {
        text.truncate(text.floor_char_boundary(limits::AUDIT_TEXT));
        text.push('…');
    }
}

struct Writer {
    conn: Connection,
    path: PathBuf,
    retry: Duration,
    /// Tells whoever waits for the next record.
    moved: watch::Sender<u64>,
}

impl Writer {
    fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut batch = Vec::with_capacity(limits::AUDIT_BATCH);
        while items.blocking_recv_many(&mut batch, limits::AUDIT_BATCH) > 0 {
            let (bodies, waiting): (Vec<_>, Vec<_>) = batch
                .drain(..)
                .map(|item| (item.body, item.written))
                .unzip();
            while let Err(error) = self.write(&bodies) {
                tracing::error!(
                    path = %self.path.display(),
                    error = &error as &dyn std::error::Error,
                    "audit records cannot be written; traffic waits"
                );
                std::thread::sleep(self.retry);
            }
            for written in waiting.into_iter().flatten() {
                // Nobody may be waiting any more.
                let _gone = written.send(());
            }
        }
    }

    /// Writes a batch behind whatever the chain ends with, which retention may have moved.
    fn write(&mut self, bodies: &[String]) -> Result<(), AuditError> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let head = ends(&tx)?.head;
        let head = append(&tx, head, bodies)?;
        tx.commit()?;
        self.moved.send_replace(head.seq);
        Ok(())
    }
}
