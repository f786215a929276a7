//! SQL of `threads`: those beside the primary. What stands there is the core's to say.

use contract::ids::{SessionId, ThreadId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};
use session::{Decision, State, Status, ThreadOf};

use super::Told;
use super::row::{json_opt, micros, micros_opt, number, raw_opt, thread_id};
use super::sessions::{num_of, status_of};
use crate::rules::{int, status_name};
use crate::sessions::Scope;
use crate::threads::ThreadRow;

/// Statement of [`super::remove`].
pub(super) const REMOVE: &str = "DELETE FROM threads WHERE session = ?1";

/// Writes what a decision says of threads. A session without any costs nothing.
pub(super) fn put(
    conn: &Connection,
    num: i64,
    before: &State,
    decision: &Decision,
    now: Micros,
) -> Told<(), crate::error::SubmitError> {
    let after = &decision.state;
    if after.begun == 0 {
        return Ok(());
    }
    // Numbers are given in the order of the beginnings.
    let first = u64::from(after.begun) - decision.begun.len() as u64 + 1;
    for (n, begun) in (first..).zip(&decision.begun) {
        let agent = match &begun.agent {
            ThreadOf::Agent(agent) => Some(agent.get()),
            ThreadOf::Advisor => None,
        };
        let sql = "INSERT INTO threads (session, n, id, agent, status, created_at, updated_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
        let status = status_name(
            after
                .thread(begun.id)
                .map_or(Status::Running, |t| t.status()),
        );
        let row = (num, int(n), key(begun.id), agent, status, now.0);
        conn.prepare_cached(sql)?.execute(row)?;
    }
    for thread in &after.children {
        let was = before.thread(thread.id).map(session::Thread::status);
        if was.is_some_and(|was| was != thread.status()) {
            let sql = "UPDATE threads SET status = ?3, updated_at = ?4
                       WHERE session = ?1 AND id = ?2";
            let row = (num, key(thread.id), status_name(thread.status()), now.0);
            conn.prepare_cached(sql)?.execute(row)?;
        }
    }
    for ended in &decision.ended {
        let sql = "UPDATE threads SET status = 'terminated', updated_at = ?3, totals = ?4,
                     archived_at = CASE WHEN ?5 THEN ?3 ELSE archived_at END
                   WHERE session = ?1 AND id = ?2";
        let totals = serde_json::to_string(&ended.totals)?;
        let row = (num, key(ended.id), now.0, totals, ended.archived);
        let moved = conn.prepare_cached(sql)?.execute(row)?;
        assert!(moved == 1, "a thread ended that never began");
    }
    Ok(())
}

fn key(thread: ThreadId) -> [u8; 16] {
    thread.bits().to_be_bytes()
}

/// Whether the thread was begun and has ended.
pub(super) fn has_ended(conn: &Connection, num: i64, thread: ThreadId) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM threads WHERE session = ?1 AND id = ?2 AND status = 'terminated'";
    conn.prepare_cached(sql)?.exists((num, key(thread)))
}

/// Puts a thread away that has ended.
pub(super) fn put_away(
    conn: &Connection,
    num: i64,
    thread: ThreadId,
    now: Micros,
) -> rusqlite::Result<()> {
    let sql = "UPDATE threads SET archived_at = ?3
               WHERE session = ?1 AND id = ?2 AND status = 'terminated' AND archived_at IS NULL";
    let row = (num, key(thread), now.0);
    conn.prepare_cached(sql)?.execute(row).map(|_| ())
}

fn row(row: &Row<'_>) -> rusqlite::Result<ThreadRow> {
    Ok(ThreadRow {
        n: number(row, 0)?,
        id: thread_id(row, 1)?,
        agent: raw_opt(row, 2)?,
        status: status_of(row, 3)?,
        totals: json_opt(row, 4)?,
        created_at: micros(row, 5)?,
        updated_at: micros(row, 6)?,
        archived_at: micros_opt(row, 7)?,
    })
}

pub(crate) fn list(
    conn: &Connection,
    scope: Scope,
    session: SessionId,
    after: u64,
    limit: u32,
    statuses: &[Status],
) -> Told<Vec<ThreadRow>> {
    let num = num_of(conn, scope, session)?;
    let sql =
        "SELECT n, id, agent, status, totals, created_at, updated_at, archived_at FROM threads
               WHERE session = ?1 AND n > ?2
                 AND (?3 IS NULL OR status IN (SELECT value FROM json_each(?3)))
               ORDER BY n LIMIT ?4";
    let names = statuses.iter().map(|s| status_name(*s)).collect::<Vec<_>>();
    let names = (!names.is_empty())
        .then(|| serde_json::to_string(&names))
        .transpose()?;
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((num, int(after), names, limit), row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn get(
    conn: &Connection,
    scope: Scope,
    session: SessionId,
    thread: ThreadId,
) -> Told<Option<ThreadRow>> {
    let num = num_of(conn, scope, session)?;
    let sql =
        "SELECT n, id, agent, status, totals, created_at, updated_at, archived_at FROM threads
               WHERE session = ?1 AND id = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row((num, key(thread)), row).optional()?)
}
