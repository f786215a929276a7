//! Removing a session: at once for everyone who asks, in bounded steps on the disk, so that a long
//! history stalls nobody.

use deadpool_postgres::Pool;
use session::Decision;

use super::fault::{Failed, Read, why};
use super::row::{get, text};
use super::value::values;
use super::writer::cause;
use super::{Conn, Cx, Fault, Told, outcomes, sandbox_rules, tallies, threads};
use crate::error::{Cause, Plenty, SubmitError};
use crate::limits::SWEEP_EVENTS;
use crate::rules::decided::tell_deleted;
use crate::sessions::Committed;

/// Removes the session at once; its events go in bounded steps, so that a long history stalls nobody.
pub(super) async fn delete(
    cx: &mut Cx,
    num: i64,
    decision: Decision,
) -> Told<Committed, SubmitError> {
    let sql = "DELETE FROM sessions WHERE num = $1 RETURNING workspace, id";
    let gone = cx.conn.written(sql, values![num]).await?;
    let gone = gone.first();
    let gone = gone.ok_or_else(|| Fault::Bad("a session without a row".into()))?;
    tallies::give(cx, text(gone, 0)?, Plenty::Sessions);
    sandbox_rules::remove(&cx.conn, get(gone, 1)?).await?;
    for sql in [
        "DELETE FROM session_states WHERE num = $1",
        "DELETE FROM inbox WHERE session = $1",
        "DELETE FROM runs WHERE session = $1",
        "DELETE FROM bindings WHERE session = $1",
        outcomes::REMOVE,
        threads::REMOVE,
        "INSERT INTO trash (session) VALUES ($1)",
    ] {
        cx.conn.execute(sql, values![num]).await?;
    }
    Ok(tell_deleted(&mut cx.talk, decision)?)
}

/// True if deleted sessions left events behind.
pub(super) async fn has_trash(conn: &Conn) -> Read<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM trash)";
    match conn.row(sql, values![]).await? {
        Some(row) => get(&row, 0),
        None => Ok(false),
    }
}

/// [`sweep`] in a transaction of its own.
pub(super) async fn sweep_apart(pool: &Pool) -> Result<bool, Cause> {
    let conn = Conn::take(pool).await.map_err(why)?;
    let swept = async {
        conn.batch("BEGIN").await?;
        let more = sweep(&conn).await?;
        conn.batch("COMMIT").await?;
        Ok::<_, Failed>(more)
    };
    let more = swept.await.map_err(cause)?;
    conn.give();
    Ok(more)
}

/// Removes some events of one deleted session that no other replica is at; true if there is more to do.
pub(super) async fn sweep(conn: &Conn) -> Read<bool> {
    let first = "SELECT session FROM trash ORDER BY session LIMIT 1 FOR UPDATE SKIP LOCKED";
    let Some(row) = conn.row(first, values![]).await? else {
        return Ok(false);
    };
    let num = get::<i64>(&row, 0)?;
    let mut left = false;
    for sql in [
        "DELETE FROM events WHERE session = $1 AND seq IN
           (SELECT seq FROM events WHERE session = $1 ORDER BY seq LIMIT $2)",
        "DELETE FROM records WHERE session = $1 AND seq IN
           (SELECT seq FROM records WHERE session = $1 ORDER BY seq LIMIT $2)",
        "DELETE FROM timeline WHERE session = $1 AND n IN
           (SELECT n FROM timeline WHERE session = $1 ORDER BY n LIMIT $2)",
    ] {
        let most = SWEEP_EVENTS as u64;
        let gone = conn.execute(sql, values![num, most.cast_signed()]).await?;
        left |= gone >= most;
    }
    if !left {
        conn.execute("DELETE FROM trash WHERE session = $1", values![num])
            .await?;
    }
    has_trash(conn).await
}
