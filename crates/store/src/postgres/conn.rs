//! A connection that somebody uses: statements by their text, each prepared once for it. It goes back to its
//! pool only when its user is done with it; one that was left in the middle of something is closed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use deadpool_postgres::{Object, Pool};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream};

use super::fault::{Failed, Read, told};
use super::value::Value;
use crate::error::Cause;
use crate::rules::fault::Trouble;

/// A connection in use.
pub(crate) struct Conn {
    object: Option<Object>,
    /// Statements that may have written: counted before they are sent.
    changes: AtomicU64,
    /// A statement failed: what follows in this transaction fails too, until it is undone.
    broken: AtomicBool,
    /// The server ended what it did because it and another waited for one another.
    deadlocked: AtomicBool,
}

impl Conn {
    /// Takes a connection from `pool`, made if need be.
    pub(super) async fn take(pool: &Pool) -> Result<Self, Trouble> {
        use deadpool_postgres::PoolError;
        let object = pool.get().await.map_err(|error| {
            let cause: Cause = match error {
                PoolError::Backend(error) => told(error),
                PoolError::Timeout(_) => "no connection to the database was free in time".into(),
                PoolError::Closed => return Trouble::closed(),
                other => other.into(),
            };
            Trouble::Unavailable(cause)
        })?;
        Ok(Self {
            object: Some(object),
            changes: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            deadlocked: AtomicBool::new(false),
        })
    }

    /// Gives it back: nothing is under way on it.
    pub(super) fn give(mut self) {
        drop(self.object.take());
    }

    fn object(&self) -> &Object {
        self.object
            .as_ref()
            .expect("a connection is there until it is given back")
    }

    fn noted<T>(&self, done: Result<T, tokio_postgres::Error>) -> Read<T> {
        done.map_err(|error| {
            self.broken.store(true, Ordering::Relaxed);
            if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) {
                self.deadlocked.store(true, Ordering::Relaxed);
            }
            Failed::Db(error)
        })
    }

    /// Has the statement ready.
    pub(super) async fn prepare(&self, sql: &str) -> Read<()> {
        let done = self.object().prepare_cached(sql).await;
        self.noted(done).map(|_| ())
    }

    /// Runs a statement; the number of rows that it wrote.
    pub(super) async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Read<u64> {
        let object = self.object();
        let statement = self.noted(object.prepare_cached(sql).await)?;
        let values = values.iter().map(|v| v as &(dyn ToSql + Sync));
        let values = values.collect::<Vec<_>>();
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.noted(object.execute(&statement, &values).await)
    }

    /// All rows of a statement.
    pub(super) async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Read<Vec<Row>> {
        let object = self.object();
        let statement = self.noted(object.prepare_cached(sql).await)?;
        let values = values.iter().map(|v| v as &(dyn ToSql + Sync));
        let values = values.collect::<Vec<_>>();
        self.noted(object.query(&statement, &values).await)
    }

    /// As [`Self::rows`] of a statement that writes what it returns.
    pub(super) async fn written(&self, sql: &str, values: &[Value<'_>]) -> Read<Vec<Row>> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.rows(sql, values).await
    }

    /// The first row of a statement, if it has any.
    pub(super) async fn row(&self, sql: &str, values: &[Value<'_>]) -> Read<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// The rows of a statement without values, as they come.
    pub(super) async fn stream(&self, sql: &str) -> Read<RowStream> {
        let object = self.object();
        let statement = self.noted(object.prepare_cached(sql).await)?;
        let none = std::iter::empty::<&(dyn ToSql + Sync)>();
        self.noted(object.query_raw(&statement, none).await)
    }

    /// Runs statements without values, as `BEGIN` and `COMMIT`.
    pub(super) async fn batch(&self, sql: &str) -> Read<()> {
        self.noted(self.object().batch_execute(sql).await)
    }

    /// Statements so far that may have written, whatever became of them.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether a statement failed since the last call.
    pub(super) fn take_broken(&self) -> bool {
        self.broken.swap(false, Ordering::Relaxed)
    }

    /// Whether a deadlock was ended here since the last call.
    pub(super) fn take_deadlocked(&self) -> bool {
        self.deadlocked.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Its user was dropped in the middle of something: nobody shall find that transaction open.
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Conn")
    }
}
