//! SQL of `threads`: those beside the primary. What stands there is the core's to say.

use contract::ids::{SessionId, ThreadId};
use contract::time::Micros;
use session::{Decision, State, Status, ThreadOf};
use tokio_postgres::Row;

use super::fault::Read;
use super::row::{
    each, json_opt, micros, micros_opt, number, raw_opt, status as column, thread_id,
};
use super::sessions::num_of;
use super::value::values;
use super::{Conn, Told};
use crate::rules::int;
use crate::rules::status_name;
use crate::sessions::Scope;
use crate::threads::ThreadRow;

/// Statement of [`super::remove`].
pub(super) const REMOVE: &str = "DELETE FROM threads WHERE session = $1";

/// Writes what a decision says of threads. A session without any costs nothing.
pub(super) async fn put(
    conn: &Conn,
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
                   VALUES ($1, $2, $3, $4, $5, $6, $6)";
        let status = after
            .thread(begun.id)
            .map_or(Status::Running, |t| t.status());
        let row = values![
            num,
            int(n),
            key(begun.id),
            agent,
            status_name(status),
            now.0
        ];
        conn.execute(sql, row).await?;
    }
    for thread in &after.children {
        let was = before.thread(thread.id).map(session::Thread::status);
        if was.is_some_and(|was| was != thread.status()) {
            let sql = "UPDATE threads SET status = $3, updated_at = $4
                       WHERE session = $1 AND id = $2";
            let row = values![num, key(thread.id), status_name(thread.status()), now.0];
            conn.execute(sql, row).await?;
        }
    }
    for ended in &decision.ended {
        let sql = "UPDATE threads SET status = 'terminated', updated_at = $3, totals = $4,
                     archived_at = CASE WHEN $5 THEN $3 ELSE archived_at END
                   WHERE session = $1 AND id = $2";
        let totals = serde_json::to_string(&ended.totals)?;
        let row = values![num, key(ended.id), now.0, totals, ended.archived];
        let moved = conn.execute(sql, row).await?;
        assert!(moved == 1, "a thread ended that never began");
    }
    Ok(())
}

fn key(thread: ThreadId) -> [u8; 16] {
    thread.bits().to_be_bytes()
}

/// Whether the thread was begun and has ended.
pub(super) async fn has_ended(conn: &Conn, num: i64, thread: ThreadId) -> Read<bool> {
    let sql = "SELECT 1 FROM threads WHERE session = $1 AND id = $2 AND status = 'terminated'";
    let row = conn.row(sql, values![num, key(thread)]).await?;
    Ok(row.is_some())
}

/// Puts a thread away that has ended.
pub(super) async fn put_away(conn: &Conn, num: i64, thread: ThreadId, now: Micros) -> Read<()> {
    let sql = "UPDATE threads SET archived_at = $3
               WHERE session = $1 AND id = $2 AND status = 'terminated' AND archived_at IS NULL";
    let row = values![num, key(thread), now.0];
    conn.execute(sql, row).await.map(|_| ())
}

fn thread_row(row: &Row) -> Read<ThreadRow> {
    Ok(ThreadRow {
        n: number(row, 0)?,
        id: thread_id(row, 1)?,
        agent: raw_opt(row, 2)?,
        status: column(row, 3)?,
        totals: json_opt(row, 4)?,
        created_at: micros(row, 5)?,
        updated_at: micros(row, 6)?,
        archived_at: micros_opt(row, 7)?,
    })
}

pub(crate) async fn list(
    conn: &Conn,
    scope: Scope,
    session: SessionId,
    after: u64,
    limit: u32,
    statuses: &[Status],
) -> Told<Vec<ThreadRow>> {
    let num = num_of(conn, scope, session).await?;
    let sql =
        "SELECT n, id, agent, status, totals, created_at, updated_at, archived_at FROM threads
               WHERE session = $1 AND n > $2 AND ($3::text[] IS NULL OR status = ANY ($3))
               ORDER BY n LIMIT $4";
    let names = statuses.iter().map(|s| status_name(*s)).collect::<Vec<_>>();
    let names = (!names.is_empty()).then_some(names);
    let key = values![num, int(after), names, limit];
    Ok(each(&conn.rows(sql, key).await?, thread_row)?)
}

pub(crate) async fn get(
    conn: &Conn,
    scope: Scope,
    session: SessionId,
    thread: ThreadId,
) -> Told<Option<ThreadRow>> {
    let num = num_of(conn, scope, session).await?;
    let sql =
        "SELECT n, id, agent, status, totals, created_at, updated_at, archived_at FROM threads
               WHERE session = $1 AND id = $2";
    let row = conn.row(sql, values![num, key(thread)]).await?;
    Ok(row.as_ref().map(thread_row).transpose()?)
}
