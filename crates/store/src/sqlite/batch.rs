//! The writes of one transaction. A write that fails leaves nothing behind and takes none of its
//! neighbours with it. It does not commit the transaction.

use rusqlite::{Connection, ErrorCode, ffi};

use super::warm::Warm;
use super::writer::{Cx, Job};
use crate::rules::told::Tally;

/// Writes under way. Each savepoint costs a copy of every page changed under it, so writes that can be
/// run again share one; should one of them fail after it wrote, they are undone and run again apart. Those
/// that come first in the transaction need none: they are undone with it, and it begins anew.
pub(super) struct Batch<'c> {
    /// What the writes see.
    pub(super) cx: Cx<'c>,
    /// The writes, in order.
    pub(super) jobs: Vec<Box<dyn Job>>,
    /// How many of them stand.
    pub(super) kept: u64,
    /// Where the writes that are undone together began.
    shared: Option<Mark>,
}

struct Mark {
    by: Undo,
    jobs: usize,
    kept: u64,
    tally: Tally,
}

/// What undoes the writes since a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Undo {
    Transaction,
    Savepoint,
}

impl<'c> Batch<'c> {
    /// A batch that begins with the transaction, in which nothing may have been written yet.
    pub(super) fn new(conn: &'c Connection, warm: Warm) -> Self {
        Self {
            cx: Cx::new(conn, warm),
            jobs: Vec::with_capacity(32),
            kept: 0,
            shared: None,
        }
    }

    /// Takes a write that is not run, because the transaction is lost.
    pub(super) fn refuse(&mut self, job: Box<dyn Job>) {
        self.jobs.push(job);
    }

    /// Runs one write. An error means that the whole transaction is gone.
    pub(super) fn run(&mut self, job: Box<dyn Job>) -> rusqlite::Result<()> {
        let at = self.jobs.len();
        let repeats = job.repeats();
        self.jobs.push(job);
        if !repeats {
            if self
                .shared
                .take()
                .is_some_and(|mark| mark.by == Undo::Savepoint)
            {
                execute(self.cx.conn, "RELEASE shared")?;
            }
            self.kept += u64::from(apart(&mut self.cx, &mut *self.jobs[at])?);
            return Ok(());
        }
        if self.shared.is_none() {
            let by = if at == 0 {
                Undo::Transaction
            } else {
                execute(self.cx.conn, "SAVEPOINT shared")?;
                Undo::Savepoint
            };
            self.shared = Some(Mark {
                by,
                jobs: at,
                kept: self.kept,
                tally: self.cx.talk.tally(),
            });
        }
        let (tally, changes) = (self.cx.talk.tally(), self.cx.conn.total_changes());
        if self.jobs[at].run(&mut self.cx) {
            self.kept += 1;
            return Ok(());
        }
        self.cx.talk.untell(tally);
        stands(self.cx.conn)?;
        if self.cx.conn.total_changes() == changes {
            return Ok(());
        }
        self.again()
    }

    /// Undoes the writes since the mark and runs each in a savepoint of its own.
    fn again(&mut self) -> rusqlite::Result<()> {
        let Some(mark) = self.shared.take() else {
            return Ok(());
        };
        let undo = match mark.by {
            Undo::Transaction => ["ROLLBACK", "BEGIN IMMEDIATE"],
            Undo::Savepoint => ["ROLLBACK TO shared", "RELEASE shared"],
        };
        for sql in undo {
            execute(self.cx.conn, sql)?;
        }
        self.cx.undone(mark.tally);
        self.kept = mark.kept;
        for job in &mut self.jobs[mark.jobs..] {
            self.kept += u64::from(apart(&mut self.cx, &mut **job)?);
        }
        Ok(())
    }
}

/// Runs one write in a savepoint of its own; true if it stands.
fn apart(cx: &mut Cx<'_>, job: &mut dyn Job) -> rusqlite::Result<bool> {
    let conn = cx.conn;
    let tally = cx.talk.tally();
    execute(conn, "SAVEPOINT job")?;
    let keep = job.run(cx);
    if !keep {
        cx.undone(tally);
        execute(conn, "ROLLBACK TO job")?;
    }
    execute(conn, "RELEASE job")?;
    Ok(keep)
}

/// A full disk may have ended the transaction behind a write that failed: what came after it would be
/// committed statement by statement.
fn stands(conn: &Connection) -> rusqlite::Result<()> {
    if !conn.is_autocommit() {
        return Ok(());
    }
    let error = ffi::Error {
        code: ErrorCode::OperationAborted,
        extended_code: ffi::SQLITE_ABORT_ROLLBACK,
    };
    let why = "the transaction was rolled back".to_owned();
    Err(rusqlite::Error::SqliteFailure(error, Some(why)))
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use contract::ids::SessionId;
    use tokio::sync::oneshot;

    use super::super::{Cx, Fault, Sqlite, meta};
    use crate::error::{Error, Thing};
    use crate::rules::told::Note;
    use crate::store::{Options, Shared};

    fn refused() -> Fault<Error> {
        Error::NotFound(Thing::Agent).into()
    }

    #[tokio::test]
    async fn what_fails_after_it_wrote_is_undone_and_its_neighbours_stand_once() {
        undone_alone(false).await;
    }

    #[tokio::test]
    async fn the_same_for_those_that_the_transaction_begins_with() {
        undone_alone(true).await;
    }

    /// `first`: the writes that may be repeated are the first of their transaction.
    async fn undone_alone(first: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = Arc::<Shared>::default();
        let path = dir.path().join("t.db");
        let db = Sqlite::open(&path, Options::default(), Arc::clone(&shared)).expect("a database");
        let (begun, seen) = oneshot::channel();
        let (go, wait) = std::sync::mpsc::channel();
        let mut begun = Some(begun);
        let mut closed = move |_: &mut Cx<'_>| {
            if let Some(begun) = begun.take() {
                let _ = begun.send(());
                wait.recv().expect("the others are queued");
            }
            Ok(())
        };
        let gate = async {
            if first {
                db.write_again::<(), Error, _>(closed).await.map(|_| ())
            } else {
                db.write::<(), Error, _>(move |cx| closed(cx)).await
            }
        };
        let runs = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&runs);
        let first = db.write_again::<_, Error, _>(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            cx.talk.events += 1;
            cx.tell(Note::Stop(SessionId::from_bits(1)));
            meta::set(cx, "first", b"1")
        });
        let unwritten = db.write_again::<(), Error, _>(|_| Err(refused()));
        let failing = db.write_again::<(), Error, _>(|cx| {
            meta::set(cx, "failing", b"1")?;
            cx.tell(Note::Stop(SessionId::from_bits(2)));
            Err(refused())
        });
        let panicking = db.write_again::<(), Error, _>(|cx| {
            meta::set(cx, "panicking", b"1")?;
            panic!("an invariant");
        });
        let once = db.write::<_, Error, _>(|cx| meta::set(cx, "once", b"1"));
        let last = db.write_again::<_, Error, _>(|cx| meta::set(cx, "last", b"1"));
        let release = async {
            seen.await.expect("the gate runs");
            while db.queue_depth() < 6 {
                tokio::task::yield_now().await;
            }
            go.send(()).expect("it waits");
        };
        let (_, first, unwritten, failing, panicking, once, last, ()) = tokio::join!(
            gate, first, unwritten, failing, panicking, once, last, release
        );
        let (first, last) = (first.expect("stands"), last.expect("stands"));
        assert_eq!(first.1, last.1, "they shared a commit");
        once.expect("stands");
        assert!(matches!(unwritten, Err(Error::NotFound(_))));
        assert!(matches!(failing, Err(Error::NotFound(_))));
        assert!(matches!(panicking, Err(Error::Bug(_))));
        assert_eq!(runs.load(Ordering::Relaxed), 2, "undone and run again");
        let stops = shared.signals.take_stops();
        assert!(stops.contains(&SessionId::from_bits(1)) && stops.len() == 1);
        assert_eq!(shared.counters.events.load(Ordering::Relaxed), 1);
        for (key, there) in [
            ("first", true),
            ("failing", false),
            ("panicking", false),
            ("once", true),
            ("last", true),
        ] {
            let found = db.read::<_, Error, _>(move |c| meta::get(c, key)).await;
            assert_eq!(found.expect("read").is_some(), there, "{key}");
        }
    }
}
