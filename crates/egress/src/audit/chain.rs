//! The chain and its tables. It must never leave the records and the head at odds: both are written in one
//! transaction.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::control::Control;
use super::record::Record;
use crate::limits;

/// The last place of a chain and its hash: what to keep elsewhere to prove that nothing was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Records since the beginning, removed ones included.
    pub seq: u64,
    /// The hash of the last one; zeros for an empty chain.
    pub hash: [u8; 32],
}

/// What is wrong with the audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database.
    #[error("the audit database")]
    Database(#[from] rusqlite::Error),
    /// A record cannot be written as JSON.
    #[error("an audit record")]
    Record(#[from] serde_json::Error),
    /// A record is over [`limits::AUDIT_RECORD`].
    #[error("an audit record of {0} bytes is too long")]
    TooLong(usize),
    /// The table of the chain's ends is wrong: look with `verify`.
    #[error("the audit chain has no readable ends")]
    Ends,
    /// No thread for the writer.
    #[error("the audit's thread")]
    Thread(#[source] std::io::Error),
}

/// What stands in a place of the chain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// A flow or a request.
    Egress(Box<Record>),
    /// An action on keys, policies or credentials.
    Control(Box<Control>),
    /// Records up to and with this one were removed because of their age or size.
    Retention {
        /// The last one that was removed.
        through: u64,
        /// Its hash, in hex.
        hash: String,
    },
}

/// Both ends of what is kept: the last one removed, and the last one written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) base: Head,
    pub(super) head: Head,
}

// The columns to search by are read out of the text, so that nothing can disagree with what is hashed.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (
        seq INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        body TEXT NOT NULL,
        at TEXT GENERATED ALWAYS AS (body ->> '$.egress.at') VIRTUAL,
        sandbox TEXT GENERATED ALWAYS AS (body ->> '$.egress.sandbox') VIRTUAL,
        session TEXT GENERATED ALWAYS AS (body ->> '$.egress.session') VIRTUAL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS records_by_sandbox ON records (sandbox, seq);
    CREATE INDEX IF NOT EXISTS records_by_session ON records (session, seq);
    CREATE INDEX IF NOT EXISTS records_by_workspace ON records (body ->> '$.egress.workspace', seq);
    CREATE TABLE IF NOT EXISTS ends (
        name TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    INSERT OR IGNORE INTO ends VALUES ('base', 0, zeroblob(32)), ('head', 0, zeroblob(32));
";

/// Opens the database, and makes it if there is none.
pub(super) fn open(path: &Path) -> Result<Connection, AuditError> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.execute_batch(SCHEMA)?;
    Ok(conn)
}

pub(super) fn ends(conn: &Connection) -> Result<Ends, AuditError> {
    let end = |name: &str| -> Result<Head, AuditError> {
        let row = conn
            .prepare_cached("SELECT seq, hash FROM ends WHERE name = ?1")?
            .query_row([name], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .optional()?;
        let (seq, hash) = row.ok_or(AuditError::Ends)?;
        Ok(Head {
            seq: u64::try_from(seq).map_err(|_| AuditError::Ends)?,
            hash: hash.try_into().map_err(|_| AuditError::Ends)?,
        })
    };
    Ok(Ends {
        base: end("base")?,
        head: end("head")?,
    })
}

pub(super) fn set_end(tx: &Transaction<'_>, name: &str, end: Head) -> Result<(), AuditError> {
    tx.prepare_cached("UPDATE ends SET seq = ?2, hash = ?3 WHERE name = ?1")?
        .execute(params![name, end.seq.cast_signed(), end.hash])?;
    Ok(())
}

/// Writes bodies behind `head`, and moves it.
pub(super) fn append(
    tx: &Transaction<'_>,
    mut head: Head,
    bodies: &[String],
) -> Result<Head, AuditError> {
    let mut insert =
        tx.prepare_cached("INSERT INTO records (seq, hash, body) VALUES (?1, ?2, ?3)")?;
    for body in bodies {
        head = next(head, body);
        insert.execute(params![head.seq.cast_signed(), head.hash, body])?;
    }
    set_end(tx, "head", head)?;
    Ok(head)
}

/// The text of an entry, bounded.
pub(super) fn body(entry: &Entry) -> Result<String, AuditError> {
    let body = serde_json::to_string(entry)?;
    if body.len() > limits::AUDIT_RECORD {
        return Err(AuditError::TooLong(body.len()));
    }
    Ok(body)
}

/// The place behind `head` that holds `body`.
pub(super) fn next(head: Head, body: &str) -> Head {
    let seq = head.seq + 1;
    let mut hash = Context::new(&SHA256);
    hash.update(&head.hash);
    hash.update(&seq.to_be_bytes());
    hash.update(body.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    Head { seq, hash: out }
}

pub(super) fn hex(hash: &[u8; 32]) -> String {
    Head {
        seq: 0,
        hash: *hash,
    }
    .hex()
}

impl Head {
    /// The hash in hex.
    #[must_use]
    pub fn hex(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hex())
    }
}
