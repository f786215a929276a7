//! The SQLite back end: one writer thread that groups commits, a few reader threads, one file of SQL an
//! aggregate. Nothing outside this directory sees a connection or a statement.

pub(crate) mod agents;
mod around;
mod batch;
#[cfg(feature = "simulation")]
mod caller;
mod checkpoint;
mod copy;
pub(crate) mod credentials;
pub(crate) mod environments;
pub(crate) mod events;
mod fault;
mod grounds;
mod held;
pub(crate) mod kept;
pub(crate) mod keys;
pub(crate) mod master;
pub(crate) mod meta;
mod migrate;
pub(crate) mod moving;
mod numbers;
pub(crate) mod outcomes;
mod paging;
#[cfg(test)]
mod plans;
mod reader;
pub(crate) mod refreshes;
mod remove;
pub(crate) mod row;
pub(crate) mod runs;
pub(crate) mod sandbox_rules;
pub(crate) mod sessions;
mod several;
pub(crate) mod submit;
pub(crate) mod tallies;
pub(crate) mod threads;
pub(crate) mod timeline;
pub(crate) mod usage;
pub(crate) mod vaults;
mod warm;
mod way;
mod wipe;
mod writer;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

pub(crate) use fault::{Fault, Told};
pub(crate) use held::Held;
pub(crate) use writer::Cx;

use self::way::Way;
use crate::error::OpenError;
use crate::limits;
use crate::replica::ReplicaName;
use crate::rules::fault::Trouble;
use crate::runs::Holder;
use crate::store::{Options, Shared, Synchronous};

/// The database.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    writes: mpsc::Sender<writer::Message>,
    reads: mpsc::Sender<reader::Message>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    way: Way,
}

impl Sqlite {
    pub(crate) fn open(
        path: &Path,
        options: Options,
        shared: Arc<Shared>,
    ) -> Result<Self, OpenError> {
        let failed = |source: rusqlite::Error| OpenError::Database {
            path: path.to_owned(),
            source: source.into(),
        };
        private(path).map_err(|source| OpenError::Database {
            path: path.to_owned(),
            source: source.into(),
        })?;
        let mut conn = connect_writer(path, options).map_err(failed)?;
        migrate::migrate(&mut conn, path)?;
        keys::ensure_default(&conn, crate::clock::now()).map_err(failed)?;
        kept::sweep_all(&conn, crate::clock::now()).map_err(failed)?;
        let (writes, queue) = mpsc::channel(limits::WRITE_QUEUE);
        let (reads, asked) = mpsc::channel(limits::READ_QUEUE);
        let asked = Arc::new(Mutex::new(asked));
        let mut threads = Vec::new();
        for _ in 0..options.readers.max(1) {
            let conn = connect(path, options).map_err(failed)?;
            conn.pragma_update(None, "query_only", true)
                .map_err(failed)?;
            let asked = Arc::clone(&asked);
            threads.push(spawn("store-read", path, move || {
                reader::run(&conn, &asked)
            })?);
        }
        let own = connect(path, options).map_err(failed)?;
        let checkpointer = checkpoint::Checkpointer::start(own, Arc::clone(&shared));
        let checkpointer = checkpointer.map_err(|source| OpenError::Database {
            path: PathBuf::from(path),
            source: source.into(),
        })?;
        let writer = writer::Writer::new(conn, queue, shared, checkpointer).map_err(failed)?;
        threads.push(spawn("store-write", path, move || writer.run())?);
        Ok(Self {
            path: path.to_owned(),
            writes,
            reads,
            threads: Mutex::new(threads),
            way: Way::Threads,
        })
    }

    /// As [`Self::open`], without threads that anybody waits for.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(
        path: &Path,
        options: Options,
        shared: Arc<Shared>,
        line: Arc<dyn crate::simulation::Line>,
    ) -> Result<Self, OpenError> {
        let failed = |source: rusqlite::Error| OpenError::Database {
            path: path.to_owned(),
            source: source.into(),
        };
        let mut conn = connect(path, options).map_err(failed)?;
        migrate::migrate(&mut conn, path)?;
        keys::ensure_default(&conn, crate::clock::now()).map_err(failed)?;
        let (writes, queue) = mpsc::channel(limits::WRITE_QUEUE);
        let (reads, asked) = mpsc::channel(limits::READ_QUEUE);
        let own = connect(path, options).map_err(failed)?;
        let checkpointer = checkpoint::Checkpointer::start(own, Arc::clone(&shared));
        let checkpointer = checkpointer.map_err(|source| OpenError::Database {
            path: PathBuf::from(path),
            source: source.into(),
        })?;
        let writer = writer::Writer::new(conn, queue, shared, checkpointer).map_err(failed)?;
        let reader = connect(path, options).map_err(failed)?;
        let asked = Arc::new(Mutex::new(asked));
        Ok(Self {
            path: path.to_owned(),
            writes,
            reads,
            threads: Mutex::default(),
            way: Way::Caller(Box::new(caller::Caller::new(writer, reader, asked, line))),
        })
    }

    /// As whom the process is there, if it is one of several: only a simulation has several on a file.
    pub(crate) fn replica(&self) -> Option<(ReplicaName, Holder)> {
        self.way.replica()
    }

    /// Runs `work` in the writer and answers once it is durable.
    pub(crate) async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        self.write_numbered(work).await.map(|(done, _)| done)
    }

    /// As [`Self::write`], with the number of the commit.
    pub(crate) async fn write_numbered<T, E, F>(&self, work: F) -> Result<(T, u64), E>
    where
        F: FnOnce(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (done, commit) = self.queue(writer::once(work, reply), answer).await?;
        Ok((*done, commit))
    }

    /// As [`Self::write_numbered`], for writes that come in numbers: they share a savepoint, and if one
    /// of them fails after it wrote, `work` is run again on the same database as the first time.
    pub(crate) async fn write_again<T, E, F>(&self, work: F) -> Result<(Box<T>, u64), E>
    where
        F: FnMut(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue(writer::again(work, reply), answer).await
    }

    async fn queue<T, E: From<Trouble>>(
        &self,
        job: Box<dyn writer::Job>,
        answer: oneshot::Receiver<Result<T, E>>,
    ) -> Result<T, E> {
        self.way.there(true).await?;
        if self.writes.send(writer::Message::Job(job)).await.is_err() {
            return Err(Trouble::closed().into());
        }
        self.way.go(true);
        let answer = answer.await;
        self.way.back(true).await?;
        answer.unwrap_or_else(|_| Err(Trouble::closed().into()))
    }

    /// Runs `work` in a reader, on one snapshot.
    pub(crate) async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = reader::job(work, reply);
        self.way.there(false).await?;
        if self.reads.send(reader::Message::Job(job)).await.is_err() {
            return Err(Trouble::closed().into());
        }
        self.way.go(false);
        let answer = answer.await;
        self.way.back(false).await?;
        answer.unwrap_or_else(|_| Err(Trouble::closed().into()))
    }

    /// Copies the database to the new file `to`, while it is being used. Not cancel safe: a copy that
    /// nobody waits for is finished all the same.
    pub(crate) async fn copy(&self, to: PathBuf) -> Result<(), Trouble> {
        let from = self.path.clone();
        let done = tokio::task::spawn_blocking(move || copy::copy(&from, &to)).await;
        match done {
            Ok(done) => done.map_err(|error| Trouble::Unavailable(error.into())),
            Err(panic) => Err(Trouble::Unavailable(panic.into())),
        }
    }

    pub(crate) fn queue_depth(&self) -> u64 {
        (self.writes.max_capacity() - self.writes.capacity()) as u64
    }

    pub(crate) fn read_queue_depth(&self) -> u64 {
        (self.reads.max_capacity() - self.reads.capacity()) as u64
    }

    /// Finishes what is queued; the writer checkpoints last, when no reader holds the log.
    pub(crate) async fn close(&self) {
        let _ = self.reads.send(reader::Message::Close).await;
        let _ = self.writes.send(writer::Message::Close).await;
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a store thread panicked");
                }
            }
        });
        let _ = joined.await;
    }
}

fn spawn(
    name: &str,
    path: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    thread.map_err(|source| OpenError::Database {
        path: PathBuf::from(path),
        source: source.into(),
    })
}

/// Makes the file, if it is not there, for its owner only; SQLite gives the same mode to what it puts
/// beside it.
fn private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn connect(path: &Path, options: Options) -> rusqlite::Result<Connection> {
    usual(Connection::open_with_flags(path, FLAGS)?, options)
}

/// A connection that writes: what it commits goes to the kernel in one piece when it is synced.
fn connect_writer(path: &Path, options: Options) -> rusqlite::Result<Connection> {
    if options.synchronous != Synchronous::Full || sys::gathering().is_err() {
        return connect(path, options);
    }
    usual(
        Connection::open_with_flags_and_vfs(path, FLAGS, sys::GATHERING)?,
        options,
    )
}

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_CREATE)
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

fn usual(conn: Connection, options: Options) -> rusqlite::Result<Connection> {
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Off => "OFF",
    };
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -limits::CACHE_KIB)?;
    conn.pragma_update(None, "mmap_size", limits::MMAP_BYTES)?;
    wipe::usual(&conn)?;
    // The checkpointer does it, when the writer asks.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Plans depend on the statement alone: no statement is prepared again for the values it is given.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(limits::STATEMENTS);
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Thing};

    /// More than the cache holds and more than the log gathers: pages go to the log before the commit.
    const LARGE: usize = 24 << 20;

    #[tokio::test]
    async fn a_large_write_that_is_undone_leaves_nothing_and_others_see_the_next_one_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("t.db");
        let db = Sqlite::open(&path, Options::default(), Arc::default()).expect("a database");
        let small = db.write::<_, Error, _>(|cx| meta::set(cx, "small", b"1"));
        small.await.expect("stored");
        let undone = db.write::<(), Error, _>(|cx| {
            meta::set(cx, "large", &vec![1; LARGE])?;
            Err(Error::NotFound(Thing::Agent).into())
        });
        assert!(undone.await.is_err());
        let other = Connection::open(&path).expect("another connection");
        let lengths = || {
            let sql = "SELECT group_concat(length(value)) FROM
                (SELECT value FROM meta WHERE key IN ('large', 'small') ORDER BY key)";
            let found = other.query_row(sql, [], |row| row.get::<_, String>(0));
            found.expect("lengths")
        };
        assert_eq!(lengths(), "1");
        let large = db.write::<_, Error, _>(|cx| meta::set(cx, "large", &vec![2; LARGE]));
        large.await.expect("stored");
        let small = db.write::<_, Error, _>(|cx| meta::set(cx, "small", b"12"));
        small.await.expect("stored");
        assert_eq!(lengths(), format!("{LARGE},2"));
        let check = other.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
        assert_eq!(check.expect("checked"), "ok");
        db.close().await;
    }
}
