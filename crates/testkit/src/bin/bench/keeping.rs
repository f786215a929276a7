//! A simple store for a floor of the API: SQLite in the server's mode, one thread that commits what waits in one
//! transaction, and of each request two rows. It is no upper bound: it takes no care which pages it writes. It decides nothing, counts
//! nothing, checks nothing and copies no log into its file.

use std::thread;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::Wrong;

/// Writes that may wait.
const QUEUE: usize = 1024;
/// Writes of one commit at most.
const TOGETHER: usize = 256;
/// Sessions that messages go to.
const SESSIONS: i64 = 512;
/// What the server writes of the state of a session that is new, and of one that has a message waiting: so many bytes.
const STATE: (usize, usize) = (301, 533);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Keeping(mpsc::Sender<(Row, oneshot::Sender<()>)>);

/// What is kept of a request.
#[derive(Debug)]
pub(super) enum Row {
    /// A session.
    Session,
    /// A message, and the state that knows of it.
    Message(Vec<u8>),
}

impl Keeping {
    /// A new database in `home`, which must outlive this.
    pub(super) fn start(home: &TempDir) -> Result<Self, Wrong> {
        let mut conn = Connection::open(home.path().join("kept.db"))?;
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE sessions (num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL,
               agent TEXT NOT NULL, ground INTEGER NOT NULL, created_at INTEGER NOT NULL);
             CREATE TABLE states (num INTEGER PRIMARY KEY, generation INTEGER NOT NULL, status TEXT NOT NULL,
               updated_at INTEGER NOT NULL, state TEXT NOT NULL);
             CREATE TABLE inbox (session INTEGER NOT NULL, id BLOB NOT NULL, body TEXT NOT NULL,
               PRIMARY KEY (session, id)) WITHOUT ROWID;",
        )?;
        for num in 1..=SESSIONS {
            session(&conn, num)?;
        }
        let (rows, mut queue) = mpsc::channel::<(Row, oneshot::Sender<()>)>(QUEUE);
        thread::spawn(move || {
            let mut last = SESSIONS;
            while let Some(first) = queue.blocking_recv() {
                // A floor that cannot write answers nothing, and the load generator says so.
                if commit(&mut conn, &mut last, first, &mut queue).is_err() {
                    return;
                }
            }
        });
        Ok(Self(rows))
    }

    /// Returns when the row is on the disk.
    pub(super) async fn keep(&self, row: Row) -> Result<(), Wrong> {
        let (done, kept) = oneshot::channel();
        self.0.send((row, done)).await?;
        Ok(kept.await?)
    }
}

/// One transaction of `first` and what else waits.
fn commit(
    conn: &mut Connection,
    last: &mut i64,
    first: (Row, oneshot::Sender<()>),
    queue: &mut mpsc::Receiver<(Row, oneshot::Sender<()>)>,
) -> rusqlite::Result<()> {
    let transaction = conn.transaction()?;
    let (mut next, mut waiting) = (Some(first), Vec::new());
    while let Some((row, done)) = next.take() {
        *last += 1;
        match row {
            Row::Session => session(&transaction, *last)?,
            Row::Message(body) => message(&transaction, *last, &body)?,
        }
        waiting.push(done);
        if waiting.len() < TOGETHER {
            next = queue.try_recv().ok();
        }
    }
    transaction.commit()?;
    for done in waiting {
        // Whoever asked may have gone.
        let _ = done.send(());
    }
    Ok(())
}

fn session(conn: &Connection, num: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO sessions VALUES (?1, ?2, 'wrkspc_default', 'agent_1ChJ5bcqMFjs9V5JBJ338Y', 1, ?3)";
    let id = format!("sesn_{num:024}");
    conn.prepare_cached(sql)?.execute((num, id, num))?;
    let sql = "INSERT INTO states VALUES (?1, 1, 'idle', ?1, ?2)";
    let state = "s".repeat(STATE.0);
    conn.prepare_cached(sql)?.execute((num, state))?;
    Ok(())
}

fn message(conn: &Connection, num: i64, body: &[u8]) -> rusqlite::Result<()> {
    let session = num % SESSIONS + 1;
    let sql =
        "UPDATE states SET generation = generation + 1, updated_at = ?2, state = ?3 WHERE num = ?1";
    let state = "s".repeat(STATE.1);
    conn.prepare_cached(sql)?.execute((session, num, state))?;
    let sql = "INSERT INTO inbox VALUES (?1, ?2, ?3)";
    let body = String::from_utf8_lossy(body);
    let row = (session, i128::from(num).to_be_bytes(), body);
    conn.prepare_cached(sql)?.execute(row)?;
    Ok(())
}
