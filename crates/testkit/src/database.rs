//! The database of a server that does not run, looked at from outside: whole, and without gaps. It looks at a
//! copy, so that the server still finds the log it has to recover.

use std::io;
use std::path::Path;

use rusqlite::Connection;

/// Why the database could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The files cannot be copied.
    #[error("copy the database: {0}")]
    Copy(#[from] io::Error),
    /// The copy cannot be read.
    #[error("read the database: {0}")]
    Read(#[from] rusqlite::Error),
}

/// What is wrong with the database; empty if nothing.
///
/// # Errors
/// It cannot be copied, opened or read.
pub fn faults(path: &Path) -> Result<Vec<String>, Unreadable> {
    let home = tempfile::tempdir()?;
    let copy = home.path().join("copy.db");
    std::fs::copy(path, &copy)?;
    let log = |path: &Path| path.with_extension("db-wal");
    if log(path).exists() {
        std::fs::copy(log(path), log(&copy))?;
    }
    let db = Connection::open(&copy)?;
    let mut faults = Vec::new();
    let verdict = db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?;
    if verdict != "ok" {
        faults.push(format!("integrity_check: {verdict}"));
    }
    // Gapless from the first: as many events as the span of their numbers, for each session.
    let mut gaps = db.prepare(
        "SELECT session, COUNT(*), MIN(seq), MAX(seq) FROM events GROUP BY session
         HAVING COUNT(*) <> MAX(seq) - MIN(seq) + 1 OR MIN(seq) > 1",
    )?;
    let rows = gaps.query_map([], |row| {
        Ok(format!(
            "{} events from {} to {}",
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
            row.get::<_, i64>(3)?
        ))
    })?;
    for row in rows {
        faults.push(format!("a session's log has gaps: {}", row?));
    }
    Ok(faults)
}
