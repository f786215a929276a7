//! Removing a session: at once for everyone who asks, in bounded steps on the disk, so that a long
//! history stalls nobody.

use rusqlite::{Connection, OptionalExtension};
use session::Decision;

use super::row::text;
use super::{Cx, Told, grounds, outcomes, sandbox_rules, tallies, threads};
use crate::error::{Plenty, SubmitError};
use crate::limits::SWEEP_EVENTS;
use crate::rules::decided::tell_deleted;
use crate::sessions::Committed;

/// Removes the session at once; its events go in bounded steps, so that a long history stalls nobody.
pub(super) fn delete(
    cx: &mut Cx<'_>,
    num: i64,
    decision: Decision,
) -> Told<Committed, SubmitError> {
    let sql = "DELETE FROM session_rows WHERE num = ?1 RETURNING workspace, id, ground";
    let mut gone = cx.conn.prepare_cached(sql)?;
    let (workspace, id, ground) = gone.query_row([num], |row| {
        Ok((text(row, 0)?, row.get::<_, String>(1)?, row.get(2)?))
    })?;
    tallies::give(cx, workspace, Plenty::Sessions);
    grounds::leave(cx, ground);
    sandbox_rules::remove(cx.conn, &id)?;
    for sql in [
        "DELETE FROM session_states WHERE num = ?1",
        "DELETE FROM inbox WHERE session = ?1",
        "DELETE FROM runs WHERE session = ?1",
        "DELETE FROM bindings WHERE session = ?1",
        outcomes::REMOVE,
        threads::REMOVE,
        "INSERT INTO trash (session) VALUES (?1)",
    ] {
        cx.conn.prepare_cached(sql)?.execute([num])?;
    }
    Ok(tell_deleted(&mut cx.talk, decision)?)
}

/// True if deleted sessions left events behind.
pub(super) fn has_trash(conn: &Connection) -> rusqlite::Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM trash)", [], |row| row.get(0))
}

/// Removes some events of one deleted session; true if there is more to do.
pub(super) fn sweep(conn: &Connection) -> rusqlite::Result<bool> {
    let first = "SELECT session FROM trash ORDER BY session LIMIT 1";
    let Some(num) = conn
        .prepare_cached(first)?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()?
    else {
        return Ok(false);
    };
    let mut left = false;
    for sql in [
        "DELETE FROM events WHERE rowid IN
           (SELECT rowid FROM events INDEXED BY events_seq WHERE session = ?1 LIMIT ?2)",
        "DELETE FROM records WHERE rowid IN
           (SELECT rowid FROM records WHERE session = ?1 LIMIT ?2)",
        "DELETE FROM timeline WHERE session = ?1 AND n IN
           (SELECT n FROM timeline WHERE session = ?1 LIMIT ?2)",
    ] {
        let gone = conn
            .prepare_cached(sql)?
            .execute((num, SWEEP_EVENTS as i64))?;
        left |= gone == SWEEP_EVENTS;
    }
    if !left {
        conn.prepare_cached("DELETE FROM trash WHERE session = ?1")?
            .execute([num])?;
    }
    has_trash(conn)
}
