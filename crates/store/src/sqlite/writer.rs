//! The writer thread: takes what is queued, runs it in one transaction, commits,
//! publishes, answers; in that order. A write that fails rolls back alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::checkpoint::{Checkpointer, Mode, checkpoint};
use super::fault::Fault;
use super::warm::Warm;
use super::{grounds, numbers, remove, tallies, usage};
use crate::limits;
use crate::rules::fault::Trouble;
use crate::rules::sums::Sums;
use crate::rules::told::{Note, Talk, Tally, answer, said};
use crate::store::Shared;

/// What a write sees: the connection, inside its savepoint, what is known of it, and what it wants told.
pub(crate) struct Cx<'c> {
    /// The connection.
    pub(crate) conn: &'c Connection,
    /// What needs no read.
    pub(super) warm: Warm,
    /// What is told after the commit.
    pub(crate) talk: Talk,
}

impl<'c> Cx<'c> {
    pub(super) fn new(conn: &'c Connection, warm: Warm) -> Self {
        Self {
            conn,
            warm,
            talk: Talk::default(),
        }
    }

    /// Has `note` told after the commit.
    pub(crate) fn tell(&mut self, note: Note) {
        if matches!(note, Note::Grounds) {
            self.warm.forget_grounds();
        }
        self.talk.tell(note);
    }

    /// Forgets what was told and counted since, where what was written since was undone.
    pub(super) fn undone(&mut self, tally: Tally) {
        self.talk.untell(tally);
        self.warm.forget();
    }
}

/// A queued write.
pub(super) trait Job: Send {
    /// Does its work; false if it must be rolled back.
    fn run(&mut self, cx: &mut Cx<'_>) -> bool;
    /// Whether it may be run again after it was rolled back.
    fn repeats(&self) -> bool;
    /// Answers its caller, given the number of the commit or why there was none.
    fn answer(self: Box<Self>, commit: Result<u64, &str>);
}

/// What a write answers: what it did, where it was made, since it goes through several hands, and the number of the commit.
pub(super) type Reply<T, E> = oneshot::Sender<Result<(Box<T>, u64), E>>;

struct Typed<F, T, E> {
    work: F,
    repeats: bool,
    done: Option<Result<Box<T>, E>>,
    reply: Reply<T, E>,
}

/// What the writer is asked.
pub(super) enum Message {
    Job(Box<dyn Job>),
    Close,
}

/// A write that is run once.
pub(super) fn once<T, E, F>(work: F, reply: Reply<T, E>) -> Box<dyn Job>
where
    F: FnOnce(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
    T: Send + 'static,
    E: From<Trouble> + Send + 'static,
{
    let mut work = Some(work);
    let work = move |cx: &mut Cx<'_>| match work.take() {
        Some(work) => work(cx),
        None => Err(Fault::Bad("a write was run twice".into())),
    };
    Box::new(Typed {
        work,
        repeats: false,
        done: None,
        reply,
    })
}

/// A write that may be run again if it was rolled back, and then does the same.
pub(super) fn again<T, E, F>(work: F, reply: Reply<T, E>) -> Box<dyn Job>
where
    F: FnMut(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
    T: Send + 'static,
    E: From<Trouble> + Send + 'static,
{
    Box::new(Typed {
        work,
        repeats: true,
        done: None,
        reply,
    })
}

impl<F, T, E> Job for Typed<F, T, E>
where
    F: FnMut(&mut Cx<'_>) -> Result<T, Fault<E>> + Send,
    T: Send,
    E: From<Trouble> + Send,
{
    fn run(&mut self, cx: &mut Cx<'_>) -> bool {
        let work = &mut self.work;
        let done = catch_unwind(AssertUnwindSafe(|| work(cx)));
        // A broken invariant ends this write, not the process; nothing of it is stored.
        let done = done.unwrap_or_else(|panic| Err(Fault::Bad(said(&*panic).into())));
        let done = done.map(Box::new).map_err(Fault::settle);
        let keep = done.is_ok();
        self.done = Some(done);
        keep
    }

    fn repeats(&self) -> bool {
        self.repeats
    }

    fn answer(self: Box<Self>, commit: Result<u64, &str>) {
        answer(self.done, commit, self.reply);
    }
}

/// The writer.
pub(super) struct Writer {
    conn: Connection,
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    trash: bool,
    commits: u64,
    warm: Warm,
    /// Pages in the write-ahead log after the last commit.
    wal_pages: Arc<AtomicI32>,
    /// Pages it had when a checkpoint was asked for; 0 once it has started over.
    asked: i32,
    checkpointer: Checkpointer,
}

impl Writer {
    pub(super) fn new(
        mut conn: Connection,
        queue: mpsc::Receiver<Message>,
        shared: Arc<Shared>,
        checkpointer: Checkpointer,
    ) -> rusqlite::Result<Self> {
        let wal_pages = Arc::<AtomicI32>::default();
        let seen = Arc::clone(&wal_pages);
        conn.wal_hook(Some(move |_: &mut Wal, pages: i32| {
            seen.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let trash = remove::has_trash(&conn)?;
        Ok(Self {
            conn,
            queue,
            shared,
            trash,
            commits: 0,
            warm: Warm::default(),
            wal_pages,
            asked: 0,
            checkpointer,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let message = match self.queue.try_recv() {
                Ok(message) => Some(message),
                Err(mpsc::error::TryRecvError::Empty) if self.trash => {
                    self.sweep();
                    continue;
                }
                Err(mpsc::error::TryRecvError::Empty) => self.queue.blocking_recv(),
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            };
            match message {
                Some(Message::Job(job)) => self.batch(job),
                // What is queued already is still done.
                Some(Message::Close) => self.queue.close(),
                None => break,
            }
            self.checkpoint_if_long();
        }
        self.checkpointer.stop();
        checkpoint(&self.conn, Mode::Truncate, &self.shared);
    }

    /// Does what is queued, and returns.
    #[cfg(feature = "simulation")]
    pub(super) fn pump(&mut self) {
        // Other simulated processes write to the same file in between.
        self.warm.forget();
        loop {
            match self.queue.try_recv() {
                Ok(Message::Job(job)) => self.batch(job),
                Ok(Message::Close) => self.queue.close(),
                Err(_) if self.trash => self.sweep(),
                Err(_) => return,
            }
        }
    }

    /// One transaction of `first` and whatever else waits.
    fn batch(&mut self, first: Box<dyn Job>) {
        let mut next = Some(first);
        let mut lost = self.execute("BEGIN IMMEDIATE").err();
        let mut batch = Batch::new(&self.conn, std::mem::take(&mut self.warm));
        while let Some(job) = next.take() {
            if lost.is_none() {
                lost = batch.run(job).err();
            } else {
                batch.refuse(job);
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
        let Cx { mut warm, talk, .. } = cx;
        let events = talk.events;
        let sums = Sums::of(talk.sums());
        let notes = talk.into_notes();
        if lost.is_none() {
            lost = self.end(kept, &sums, &mut warm).err();
        }
        if let Some(error) = &lost {
            tracing::error!(%error, jobs = jobs.len(), "a commit failed; nothing of it is stored");
            if !self.conn.is_autocommit() {
                let _ = self.execute("ROLLBACK");
            }
        } else {
            warm.added(&sums);
            self.warm = warm;
            self.count(jobs.len() as u64, kept, events);
            self.publish(notes);
        }
        let why = lost.map(|e| e.to_string());
        for job in jobs {
            job.answer(why.as_deref().map_or(Ok(self.commits), Err));
        }
    }

    /// Ends a transaction in which `kept` writes stand, with what they add to rows that others share.
    fn end(&self, kept: u64, sums: &Sums, warm: &mut Warm) -> rusqlite::Result<()> {
        if kept == 0 {
            return self.execute("ROLLBACK");
        }
        for ((workspace, what), n) in &sums.counted {
            tallies::add(&self.conn, *workspace, *what, *n)?;
        }
        for (day, used) in &sums.used {
            usage::add(&self.conn, day, used)?;
        }
        for (num, n) in &sums.grounded {
            if grounds::count(&self.conn, *num, *n)? {
                warm.forget_grounds();
            }
        }
        if let Some(last) = sums.numbered {
            numbers::keep(&self.conn, last)?;
        }
        self.execute("COMMIT")
    }

    fn count(&mut self, jobs: u64, kept: u64, events: u64) {
        self.commits += u64::from(kept > 0);
        self.shared.count(jobs, kept, events);
    }

    fn publish(&mut self, notes: Vec<Note>) {
        #[cfg(feature = "simulation")]
        crate::simulation::changed(&notes);
        let chores = self.shared.publish(notes);
        self.trash |= chores.trash;
        if chores.wiped {
            self.checkpointer.empty();
        }
    }

    /// Removes a bounded number of events of deleted sessions, in a commit of its own.
    fn sweep(&mut self) {
        let swept = self.execute("BEGIN IMMEDIATE").and_then(|()| {
            let more = remove::sweep(&self.conn)?;
            self.execute("COMMIT")?;
            Ok(more)
        });
        match swept {
            Ok(more) => {
                self.trash = more;
                self.commits += 1;
                self.shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(%error, "sweeping deleted sessions failed; tried again at the next start");
                self.trash = false;
                if !self.conn.is_autocommit() {
                    let _ = self.execute("ROLLBACK");
                }
            }
        }
    }

    /// Has the log copied each time it has grown by its bound. A reader may keep it from starting over;
    /// it then grows on, and is not copied again for every commit.
    fn checkpoint_if_long(&mut self) {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        if pages < self.asked {
            self.asked = 0;
        }
        if pages - self.asked >= limits::WAL_PAGES {
            self.checkpointer.ask();
            self.asked = pages;
        }
        // The log starts over only once all of it is copied, and under load more is always written
        // meanwhile: the little that is left is copied here, where nothing is written.
        if self.checkpointer.is_done() {
            checkpoint(&self.conn, Mode::Passive, &self.shared);
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use contract::ids::SessionId;

    use super::super::{Sqlite, meta};
    use super::*;
    use crate::error::Error;
    use crate::store::{Options, Synchronous};

    fn open(dir: &Path) -> Sqlite {
        let options = Options {
            synchronous: Synchronous::Off,
            readers: 1,
            ..Options::default()
        };
        Sqlite::open(&dir.join("t.db"), options, Arc::default()).expect("a database")
    }

    #[tokio::test]
    async fn a_write_that_panics_stores_nothing_and_the_next_one_works() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = open(dir.path());
        let broken = db
            .write::<(), Error, _>(|cx| {
                meta::set(cx, "a", b"1")?;
                panic!("an invariant");
            })
            .await;
        assert!(matches!(broken, Err(Error::Bug(cause)) if cause.to_string() == "an invariant"));
        let found = db.read::<_, Error, _>(|c| meta::get(c, "a")).await;
        assert_eq!(found.expect("read"), None);
        let fine = db.write::<_, Error, _>(|cx| meta::set(cx, "a", b"2")).await;
        assert!(fine.is_ok());
    }

    #[tokio::test]
    async fn what_a_failing_write_did_is_undone_between_its_neighbours() {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = Arc::<Shared>::default();
        let path = dir.path().join("t.db");
        let db = Sqlite::open(&path, Options::default(), Arc::clone(&shared)).expect("a database");
        let commits = || shared.counters.commits.load(Ordering::Relaxed);
        let before = commits();
        let (begun, seen) = oneshot::channel();
        let (go, wait) = std::sync::mpsc::channel();
        let first = db.write::<(), Error, _>(move |cx| {
            let _ = begun.send(());
            wait.recv().expect("the others are queued");
            meta::set(cx, "a", b"1")
        });
        let failing = db.write::<(), Error, _>(|cx| {
            meta::set(cx, "b", b"1")?;
            cx.tell(Note::Stop(SessionId::from_bits(1)));
            Err(Error::NotFound(crate::error::Thing::Agent).into())
        });
        let last = db.write::<(), Error, _>(|cx| meta::set(cx, "c", b"1"));
        let release = async {
            seen.await.expect("the first runs");
            while db.queue_depth() < 2 {
                tokio::task::yield_now().await;
            }
            go.send(()).expect("it waits");
        };
        let (first, failing, last, ()) = tokio::join!(first, failing, last, release);
        assert!(first.is_ok() && last.is_ok());
        assert!(matches!(failing, Err(Error::NotFound(_))));
        assert_eq!(commits(), before + 1, "they shared a commit");
        assert!(
            shared.signals.take_stops().is_empty(),
            "what was undone is not told"
        );
        for (key, there) in [("a", true), ("b", false), ("c", true)] {
            let found = db.read::<_, Error, _>(move |c| meta::get(c, key)).await;
            assert_eq!(found.expect("read").is_some(), there, "{key}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_and_passes() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = open(dir.path());
        let limit = |pages: u32| {
            db.write::<(), Error, _>(move |cx| {
                let sql = format!("PRAGMA max_page_count = {pages}");
                cx.conn.query_row(&sql, [], |_| Ok(()))?;
                Ok(())
            })
        };
        limit(1).await.expect("no room beyond what is used");
        let big = || db.write::<(), Error, _>(|cx| meta::set(cx, "big", &[1; 1 << 20]));
        assert!(matches!(big().await, Err(Error::Unavailable(_))));
        limit(1_000_000).await.expect("room again");
        big().await.expect("stored");
        let found = db.read::<_, Error, _>(|c| meta::get(c, "big")).await;
        assert_eq!(found.expect("read").map(|b| b.len()), Some(1 << 20));
    }
}
