//! The writer: takes what is queued, runs it in one transaction on one connection, commits, publishes,
//! answers; in that order. A write that fails rolls back alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use deadpool_postgres::Pool;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::{Notify, mpsc, oneshot};

use super::batch::Batch;
use super::changes;
use super::conn::Conn;
use super::fault::{Failed, Fault, Read, Told, told, why};
use super::{kept, remove, tallies, usage};
use crate::error::Cause;
use crate::kept::Keep;
use crate::limits;
use crate::rules::change::Change;
use crate::rules::fault::Trouble;
use crate::rules::sums::Sums;
use crate::rules::told::{Note, Talk, answer, said};
use crate::store::Shared;

/// What a write sees: the connection, inside its savepoint, and what it wants told.
pub(crate) struct Cx {
    /// The connection.
    pub(super) conn: Conn,
    /// What is told after the commit.
    pub(super) talk: Talk,
    /// Whether it may wait for a session that another server is at: only who holds no rows yet.
    pub(super) waits: bool,
    /// It might not, and somebody was.
    pub(super) busy: bool,
}

impl Cx {
    pub(super) fn new(conn: Conn) -> Self {
        Self {
            conn,
            talk: Talk::default(),
            waits: true,
            busy: false,
        }
    }

    /// Has `note` told after the commit.
    pub(super) fn tell(&mut self, note: Note) {
        self.talk.tell(note);
    }
}

/// A queued write.
pub(super) trait Job: Send {
    /// Does its work; false if it must be rolled back. It may be run again then, or when others of its transaction must.
    fn run<'a>(&'a mut self, cx: &'a mut Cx) -> BoxFuture<'a, bool>;
    /// Answers its caller, given the number of the commit or why there was none.
    fn answer(self: Box<Self>, commit: Result<u64, &str>);
}

struct Typed<F, T, E> {
    work: F,
    /// What is kept beside it.
    keep: Option<Arc<Keep>>,
    done: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<(T, u64), E>>,
}

/// What the writer is asked.
pub(super) enum Message {
    Job(Box<dyn Job>),
    Close,
}

/// A write that, whenever it is run, does the same on the database as it then is.
pub(super) fn job<T, E, F>(
    work: F,
    keep: Option<Arc<Keep>>,
    reply: oneshot::Sender<Result<(T, u64), E>>,
) -> Box<dyn Job>
where
    F: for<'a> FnMut(&'a mut Cx) -> BoxFuture<'a, Told<T, E>> + Send + 'static,
    T: Send + 'static,
    E: From<Trouble> + Send + 'static,
{
    Box::new(Typed {
        work,
        keep,
        done: None,
        reply,
    })
}

impl<F, T, E> Job for Typed<F, T, E>
where
    F: for<'a> FnMut(&'a mut Cx) -> BoxFuture<'a, Told<T, E>> + Send,
    T: Send + 'static,
    E: From<Trouble> + Send,
{
    fn run<'a>(&'a mut self, cx: &'a mut Cx) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let (work, keep) = (&mut self.work, self.keep.as_deref());
            let done = AssertUnwindSafe(async move {
                let done = work(cx).await?;
                match keep {
                    Some(keep) => beside(cx, keep, done).await,
                    None => Ok(done),
                }
            });
            // A broken invariant ends this write, not the process; nothing of it is stored.
            let done = done.catch_unwind().await;
            let done = done.unwrap_or_else(|panic| Err(Fault::Bad(said(&*panic).into())));
            let done = done.map_err(Fault::settle);
            let keep = done.is_ok();
            self.done = Some(done);
            keep
        })
    }

    fn answer(self: Box<Self>, commit: Result<u64, &str>) {
        answer(self.done, commit, self.reply);
    }
}

/// Keeps the answer beside what was done.
async fn beside<T: 'static, E: From<Trouble>>(cx: &mut Cx, keep: &Keep, done: T) -> Told<T, E> {
    if let Some(body) = keep.body(&done) {
        cx.talk.bytes += body.len();
        kept::put(cx, &keep.slot, &body, keep.most).await?;
    }
    Ok(done)
}

/// How other servers hear of what was committed here.
pub(super) struct Teller {
    /// This start of this server.
    pub(super) origin: String,
    /// Has the others woken.
    pub(super) told: Arc<Notify>,
}

impl Teller {
    /// Ends a transaction in which `kept` writes stand, with what it changed for others in it. True if they must be
    /// woken: apart from the commit, because a commit that wakes others waits for every other that does.
    async fn commit(&self, conn: &Conn, kept: u64, talk: &Talk) -> Read<bool> {
        if kept == 0 {
            return conn.batch("ROLLBACK").await.map(|()| false);
        }
        let body = Change::text(talk.notes()).map_err(|e| Failed::Bad(e.into()))?;
        let sums = Sums::of(talk.sums());
        // All of it is sent at once, and the commit follows at once, so that what others wait for is held for one
        // exchange: nothing may have to be prepared before it.
        if !sums.counted.is_empty() {
            conn.prepare(tallies::ADD).await?;
        }
        if !sums.used.is_empty() {
            conn.prepare(usage::ADD).await?;
        }
        if body.is_some() {
            conn.prepare(changes::PUT).await?;
        }
        let counted = sums.counted.iter();
        let counted =
            counted.map(|((workspace, what), n)| tallies::add(conn, *workspace, *what, *n));
        let used = sums
            .used
            .iter()
            .map(|(day, used)| usage::add(conn, day, used));
        let put = async {
            match &body {
                Some(body) => changes::put(conn, &self.origin, body).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(
            biased;
            try_join_all(counted),
            try_join_all(used),
            put,
            conn.batch("COMMIT"),
        )?;
        Ok(body.is_some())
    }
}

/// The writer.
pub(super) struct Writer {
    /// One connection, made again when it is lost.
    pool: Pool,
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    trash: bool,
    commits: u64,
    teller: Teller,
}

impl Writer {
    pub(super) fn new(
        pool: Pool,
        queue: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
        trash: bool,
        teller: Teller,
    ) -> Self {
        Self {
            pool,
            queue,
            shared,
            trash,
            commits: 0,
            teller,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let message = match self.queue.try_recv() {
                Ok(message) => Some(message),
                Err(mpsc::error::TryRecvError::Empty) if self.trash => {
                    self.sweep().await;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Empty) => self.queue.recv().await,
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            };
            match message {
                Some(Message::Job(job)) => {
                    let mut first = Some(job);
                    while let Some(job) = first {
                        first = self.batch(job).await;
                    }
                }
                // What is queued already is still done.
                Some(Message::Close) => self.queue.close(),
                None => return,
            }
        }
    }

    /// One transaction of `first` and whatever else waits. Returns what must be the first of the next one.
    async fn batch(&mut self, first: Box<dyn Job>) -> Option<Box<dyn Job>> {
        let conn = match Conn::take(&self.pool).await {
            Ok(conn) => conn,
            Err(trouble) => {
                first.answer(Err(&why(trouble).to_string()));
                return None;
            }
        };
        let mut left = None;
        let mut next = Some(first);
        let mut lost = conn.batch("BEGIN").await.err();
        let mut batch = Batch::new(conn);
        while let Some(job) = next.take() {
            if lost.is_none() {
                match batch.run(job).await {
                    Ok(busy) => left = busy,
                    Err(failed) => lost = Some(failed),
                }
            } else {
                batch.refuse(job);
            }
            if left.is_some() {
                break;
            }
            if batch.jobs.len() < limits::BATCH_JOBS && batch.cx.talk.bytes < limits::BATCH_BYTES {
                next = match self.queue.try_recv() {
                    Ok(Message::Job(job)) => Some(job),
                    Ok(Message::Close) => {
                        self.queue.close();
                        None
                    }
                    Err(_) => None,
                };
            }
        }
        let Batch { cx, jobs, kept, .. } = batch;
        let Cx { conn, talk, .. } = cx;
        let events = talk.events;
        let mut wakes = false;
        if lost.is_none() {
            match self.teller.commit(&conn, kept, &talk).await {
                Ok(others) => wakes = others,
                Err(failed) => lost = Some(failed),
            }
        }
        // A connection on which a commit failed is not used again: what is open on it is undone with it.
        let why = lost.map(|failed| cause(failed).to_string());
        if let Some(error) = &why {
            tracing::error!(%error, jobs = jobs.len(), "a commit failed; nothing of it is stored");
        } else {
            conn.give();
            self.count(jobs.len() as u64, kept, events);
            // What a purge leaves in the files of a server is the server's to vacuum.
            self.trash |= self.shared.publish(talk.into_notes()).trash;
            if wakes {
                self.teller.told.notify_one();
            }
        }
        for job in jobs {
            job.answer(why.as_deref().map_or(Ok(self.commits), Err));
        }
        left
    }

    fn count(&mut self, jobs: u64, kept: u64, events: u64) {
        self.commits += u64::from(kept > 0);
        self.shared.count(jobs, kept, events);
    }

    /// Removes a bounded number of events of deleted sessions, in a commit of its own.
    async fn sweep(&mut self) {
        match remove::sweep_apart(&self.pool).await {
            Ok(more) => {
                self.trash = more;
                self.commits += 1;
                self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(%error, "sweeping deleted sessions failed; tried again after the next deletion");
                self.trash = false;
            }
        }
    }
}

pub(super) fn cause(failed: super::fault::Failed) -> Cause {
    match failed {
        super::fault::Failed::Db(error) => told(error),
        super::fault::Failed::Bad(cause) => cause,
    }
}
