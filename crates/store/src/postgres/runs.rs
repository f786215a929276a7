//! SQL of `runs`: a row exactly while a turn is open.

use std::time::Duration;

use contract::ids::SessionId;
use contract::time::Micros;
use session::{Generation, State};
use tokio_postgres::Row;

use super::fault::Read;
use super::row::{each, get, micros, number, text};
use super::value::values;
use super::{Conn, Cx, Told};
use crate::rules::told::Note;
use crate::rules::{self, FARTHEST, int, until};
use crate::runs::{DueRun, Holder};
use crate::timeline::Mark;

/// The run is due for anyone.
pub(super) async fn put_due(conn: &Conn, num: i64, state: &State, now: Micros) -> Read<()> {
    let sql = "INSERT INTO runs (session, id, held, generation, due_at)
               VALUES ($1, $2, false, $3, $4)
               ON CONFLICT (session) DO UPDATE SET held = false, generation = excluded.generation,
                 holder = NULL, due_at = excluded.due_at, lease_expires_at = NULL";
    let generation = int(state.generation.0);
    let due_at = state.due_at(now).0;
    let row = values![num, state.session.to_string(), generation, due_at];
    conn.execute(sql, row).await.map(|_| ())
}

/// How long the run has waited for somebody to take it; nothing if somebody had it.
pub(super) async fn queued(conn: &Conn, num: i64, now: Micros) -> Read<Option<Mark>> {
    let sql = "SELECT due_at FROM runs WHERE session = $1 AND NOT held";
    let Some(row) = conn.row(sql, values![num]).await? else {
        return Ok(None);
    };
    Ok(Some(rules::queued(micros(&row, 0)?, now)))
}

/// The run is held.
pub(super) async fn put_held(
    conn: &Conn,
    num: i64,
    state: &State,
    holder: &Holder,
    lease_expires_at: Option<i64>,
) -> Read<()> {
    let sql = "UPDATE runs SET held = true, generation = $2, holder = $3, lease_expires_at = $4
               WHERE session = $1";
    let row = values![num, int(state.generation.0), &holder.0, lease_expires_at];
    conn.execute(sql, row).await.map(|_| ())
}

pub(super) async fn remove(conn: &Conn, num: i64) -> Read<()> {
    let sql = "DELETE FROM runs WHERE session = $1";
    conn.execute(sql, values![num]).await.map(|_| ())
}

/// Whether whoever holds run `r` is there. Among several servers that is seen, and no lease is asked.
macro_rules! live {
    () => {
        "(current_setting('longhand.replica', true) IS NULL
          OR EXISTS (SELECT 1 FROM live_replicas l WHERE l.holder = r.holder))"
    };
}

/// Whether run `r` may be taken here: the session's workspace is not on another server that is there, and no other
/// is so much less busy that it should have it; but that one gets no more than a moment.
macro_rules! mine {
    () => {
        "(NOT EXISTS (SELECT 1 FROM bindings b JOIN live_replicas l ON l.name = b.host
            WHERE b.session = r.session AND b.host <> current_setting('longhand.replica', true))
          AND (r.due_at <= $1 - 300000 OR coalesce(
            (SELECT max(l.turns) FILTER (WHERE l.name = current_setting('longhand.replica', true))
               <= min(l.turns) + 8 FROM live_replicas l), true)
            OR EXISTS (SELECT 1 FROM bindings b WHERE b.session = r.session
               AND b.host = current_setting('longhand.replica', true))))"
    };
}

/// Who holds the run at `now`, if its lease stands.
pub(super) async fn holder(conn: &Conn, num: i64, now: Micros) -> Read<Option<String>> {
    let sql = concat!(
        "SELECT holder FROM runs r WHERE session = $1 AND held
           AND (lease_expires_at IS NULL OR lease_expires_at BETWEEN $2 AND $3) AND ",
        live!()
    );
    let key = values![num, now.0 + 1, now.0 + FARTHEST];
    let row = conn.row(sql, key).await?;
    row.map(|row| get(&row, 0)).transpose()
}

/// When the next run that nobody holds will be due, or the next lease expire, after `now`.
pub(crate) async fn next_due(conn: &Conn, now: Micros) -> Told<Option<Micros>> {
    let sql = "SELECT least(
        (SELECT min(due_at) FROM runs WHERE NOT held AND due_at > $1),
        (SELECT min(lease_expires_at) FROM runs
          WHERE held AND lease_expires_at IS NOT NULL AND lease_expires_at > $1))";
    let row = conn.row(sql, values![now.0]).await?;
    let found = row.map(|row| get::<Option<i64>>(&row, 0)).transpose()?;
    Ok(found.flatten().map(Micros))
}

fn due_run(row: &Row) -> Read<DueRun> {
    Ok(DueRun {
        session: text(row, 0)?,
        generation: Generation(number(row, 1)?),
        due_at: micros(row, 2)?,
    })
}

pub(crate) async fn due(conn: &Conn, limit: u32, now: Micros) -> Told<Vec<DueRun>> {
    const DUE: &str = concat!(
        "SELECT id, generation, due_at FROM runs r
        WHERE NOT held AND due_at <= $1 AND ",
        mine!(),
        " ORDER BY due_at LIMIT $2"
    );
    const FAR: &str = concat!(
        "SELECT id, generation, due_at FROM runs r
        WHERE NOT held AND due_at > $1 AND ",
        mine!(),
        " ORDER BY due_at LIMIT $2"
    );
    const EXPIRED: &str = "SELECT id, generation, due_at FROM runs
        WHERE held AND lease_expires_at IS NOT NULL AND lease_expires_at <= $1
        ORDER BY lease_expires_at LIMIT $2";
    const FAR_LEASE: &str = "SELECT id, generation, due_at FROM runs
        WHERE held AND lease_expires_at IS NOT NULL AND lease_expires_at > $1
        ORDER BY lease_expires_at LIMIT $2";
    const ORPHANS: &str = concat!(
        "SELECT id, generation, due_at FROM runs r
        WHERE held AND $1::bigint IS NOT NULL AND NOT ",
        live!(),
        " AND ",
        mine!(),
        " ORDER BY due_at LIMIT $2"
    );
    let far = now.0 + FARTHEST;
    let mut found = Vec::new();
    for (sql, at) in [
        (DUE, now.0),
        (EXPIRED, now.0),
        (ORPHANS, now.0),
        (FAR, far),
        (FAR_LEASE, far),
    ] {
        found.extend(each(&conn.rows(sql, values![at, limit]).await?, due_run)?);
    }
    found.truncate(limit as usize);
    Ok(found)
}

/// As [`due`], but of each workspace at most `most` together with those of it that are held. Reads every
/// open turn: the price of a cap.
pub(crate) async fn due_fairly(
    conn: &Conn,
    limit: u32,
    now: Micros,
    most: u32,
) -> Told<Vec<DueRun>> {
    const FAIR: &str = concat!(
        "WITH open AS (
          SELECT r.session, r.id, r.generation, r.due_at, t.workspace AS w,
                 r.held AND (r.lease_expires_at IS NULL OR r.lease_expires_at BETWEEN $1::bigint + 1 AND $2)
                   AND ",
        live!(),
        "  AS busy,
                 r.held OR r.due_at <= $1 OR r.due_at > $2 AS due
          FROM runs r JOIN sessions t ON t.num = r.session),
        ranked AS (
          SELECT session, id, generation, due_at, busy,
                 row_number() OVER (PARTITION BY w ORDER BY busy DESC, due_at) AS place
          FROM open WHERE due)
        SELECT id, generation, due_at FROM ranked r
        WHERE NOT busy AND place <= $3 AND ",
        mine!(),
        " ORDER BY due_at LIMIT $4"
    );
    let key = values![now.0, now.0 + FARTHEST, most, limit];
    Ok(each(&conn.rows(FAIR, key).await?, due_run)?)
}

pub(crate) async fn held_by(conn: &Conn, holder: &Holder) -> Told<Vec<(SessionId, Generation)>> {
    let sql = "SELECT id, generation FROM runs WHERE held AND holder = $1";
    let held = |row: &Row| Ok((text(row, 0)?, Generation(number(row, 1)?)));
    Ok(each(&conn.rows(sql, values![&holder.0]).await?, held)?)
}

pub(crate) async fn renew_all(
    cx: &mut Cx,
    holder: &Holder,
    held: &[(SessionId, Generation)],
    ttl: Option<Duration>,
    now: Micros,
) -> Told<Vec<SessionId>> {
    let sql = "UPDATE runs SET lease_expires_at = $4
               WHERE session = (SELECT num FROM sessions WHERE id = $1)
                 AND generation = $2 AND holder = $3 AND held";
    let mut lost = Vec::new();
    for (session, generation) in held {
        let key = values![
            session.to_string(),
            int(generation.0),
            &holder.0,
            until(now, ttl),
        ];
        if cx.conn.execute(sql, key).await? == 0 {
            lost.push(*session);
        }
    }
    Ok(lost)
}

pub(crate) async fn requeue_all(cx: &mut Cx, holder: &Holder, now: Micros) -> Told<u64> {
    let sql = "UPDATE runs SET held = false, holder = NULL, lease_expires_at = NULL, due_at = $2
               WHERE held AND holder <> $1";
    let requeued = cx.conn.execute(sql, values![&holder.0, now.0]).await?;
    cx.tell(Note::Wake);
    Ok(requeued)
}

pub(crate) async fn release(
    cx: &mut Cx,
    session: SessionId,
    generation: Generation,
    due_at: Micros,
) -> Told<bool> {
    let sql = "UPDATE runs SET held = false, holder = NULL, lease_expires_at = NULL, due_at = $3
               WHERE session = (SELECT num FROM sessions WHERE id = $1)
                 AND generation = $2 AND held";
    let key = values![session.to_string(), int(generation.0), due_at.0];
    let released = cx.conn.execute(sql, key).await? == 1;
    cx.tell(Note::Wake);
    Ok(released)
}

pub(crate) async fn renew(
    cx: &mut Cx,
    session: SessionId,
    generation: Generation,
    ttl: Duration,
    now: Micros,
) -> Told<bool> {
    let sql = "UPDATE runs SET lease_expires_at = $3
               WHERE session = (SELECT num FROM sessions WHERE id = $1)
                 AND generation = $2 AND held";
    let key = values![
        session.to_string(),
        int(generation.0),
        until(now, Some(ttl)),
    ];
    Ok(cx.conn.execute(sql, key).await? == 1)
}
