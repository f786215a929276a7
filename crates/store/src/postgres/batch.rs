//! The writes of one transaction. A write that fails leaves nothing behind and takes none of its
//! neighbours with it. It does not commit the transaction.

use super::conn::Conn;
use super::fault::Read;
use super::writer::{Cx, Job};
use crate::limits;
use crate::rules::told::Tally;

/// Writes under way. A savepoint is a transaction of its own to the server, so they have none at first: should one of
/// them fail after it wrote, all are undone with the transaction, which begins anew, and are run again, each in a
/// savepoint of its own. Those that come after share one.
pub(super) struct Batch {
    /// What the writes see.
    pub(super) cx: Cx,
    /// The writes, in order.
    pub(super) jobs: Vec<Box<dyn Job>>,
    /// How many of them stand.
    pub(super) kept: u64,
    /// Where the writes that are undone together began.
    shared: Option<Mark>,
}

#[derive(Default)]
struct Mark {
    /// The first of them. They are undone with the transaction if it is the first of all, else to a savepoint.
    first: usize,
    kept: u64,
    tally: Tally,
}

impl Batch {
    /// A batch on a connection on which a transaction has begun.
    pub(super) fn new(conn: Conn) -> Self {
        Self {
            cx: Cx::new(conn),
            jobs: Vec::with_capacity(32),
            kept: 0,
            shared: None,
        }
    }

    /// Takes a write that is not run, because the transaction is lost.
    pub(super) fn refuse(&mut self, job: Box<dyn Job>) {
        self.jobs.push(job);
    }

    /// Runs one write, or gives it back: another server is at the session that it is of, and who holds rows waits for
    /// none. It must be the first of the next transaction, which may. An error means that the whole transaction is gone.
    pub(super) async fn run(&mut self, job: Box<dyn Job>) -> Read<Option<Box<dyn Job>>> {
        let at = self.jobs.len();
        self.cx.waits = at == 0;
        self.jobs.push(job);
        if self.shared.is_none() {
            if at > 0 {
                self.cx.conn.batch("SAVEPOINT shared").await?;
            }
            self.shared = Some(Mark {
                first: at,
                kept: self.kept,
                tally: self.cx.talk.tally(),
            });
        }
        let (tally, changes) = (self.cx.talk.tally(), self.cx.conn.changes());
        if self.jobs[at].run(&mut self.cx).await {
            self.kept += 1;
            return Ok(None);
        }
        self.cx.talk.untell(tally);
        if self.cx.conn.changes() == changes && !self.cx.conn.take_broken() {
            let busy = std::mem::take(&mut self.cx.busy);
            return Ok(self.jobs.pop_if(|_| busy));
        }
        self.cx.waits = true;
        self.again().await.map(|()| None)
    }

    /// Undoes the writes since the mark and runs each in a savepoint of its own. If another server holds what they
    /// wait for, and waits for what they hold, the whole transaction is undone, which lets that one go on, and begins
    /// anew: each write reads again what it decides on.
    async fn again(&mut self) -> Read<()> {
        let Some(mut mark) = self.shared.take() else {
            return Ok(());
        };
        let mut left = limits::DEADLOCKS;
        loop {
            let undo = match mark.first {
                0 => "ROLLBACK; BEGIN",
                _ => "ROLLBACK TO shared; RELEASE shared",
            };
            self.cx.conn.batch(undo).await?;
            self.cx.talk.untell(mark.tally);
            self.kept = mark.kept;
            if !self.each_apart(mark.first, left > 0).await? {
                return Ok(());
            }
            left -= 1;
            // Nothing is held while the other goes on, or both would meet at the next row.
            self.cx.conn.batch("ROLLBACK").await?;
            tokio::time::sleep(limits::GIVE_WAY).await;
            self.cx.conn.batch("BEGIN").await?;
            mark = Mark::default();
        }
    }

    /// Runs the writes from `first` on, each in a savepoint of its own. True if it gave way to another server.
    async fn each_apart(&mut self, first: usize, gives_way: bool) -> Read<bool> {
        for job in &mut self.jobs[first..] {
            match apart(&mut self.cx, &mut **job).await? {
                Apart::Deadlocked if gives_way => return Ok(true),
                Apart::Deadlocked | Apart::Fails => {}
                Apart::Stands => self.kept += 1,
            }
        }
        Ok(false)
    }
}

/// What became of a write in a savepoint of its own.
#[derive(PartialEq, Eq)]
enum Apart {
    Stands,
    Fails,
    /// It failed because another server and this one waited for one another.
    Deadlocked,
}

/// Runs one write in a savepoint of its own.
async fn apart(cx: &mut Cx, job: &mut dyn Job) -> Read<Apart> {
    let tally = cx.talk.tally();
    cx.conn.batch("SAVEPOINT job").await?;
    cx.conn.take_deadlocked();
    if job.run(cx).await {
        cx.conn.batch("RELEASE job").await?;
        return Ok(Apart::Stands);
    }
    cx.talk.untell(tally);
    cx.conn.batch("ROLLBACK TO job; RELEASE job").await?;
    cx.conn.take_broken();
    Ok(if cx.conn.take_deadlocked() {
        Apart::Deadlocked
    } else {
        Apart::Fails
    })
}
