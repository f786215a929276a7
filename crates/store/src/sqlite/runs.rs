//! SQL of `runs`: a row exactly while a turn is open.

use std::time::Duration;

use contract::ids::SessionId;
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};
use session::{Generation, State};

use super::row::{micros, number, text};
use super::{Cx, Told, several};
use crate::rules::told::Note;
use crate::rules::{self, FARTHEST, int, until};
use crate::runs::{DueRun, Holder};
use crate::timeline::Mark;

/// The run is due for anyone.
pub(super) fn put_due(
    cx: &mut Cx<'_>,
    num: i64,
    state: &State,
    now: Micros,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO runs (session, id, held, generation, due_at) VALUES (?1, ?2, 0, ?3, ?4)
               ON CONFLICT (session) DO UPDATE SET held = 0, generation = excluded.generation,
                 holder = NULL, due_at = excluded.due_at, lease_expires_at = NULL";
    let generation = int(state.generation.0);
    let due_at = state.due_at(now).0;
    let row = (num, state.session.to_string(), generation, due_at);
    cx.conn.prepare_cached(sql)?.execute(row)?;
    cx.tell(Note::Wake);
    Ok(())
}

/// How long the run has waited for somebody to take it; nothing if somebody had it.
pub(super) fn queued(conn: &Connection, num: i64, now: Micros) -> rusqlite::Result<Option<Mark>> {
    let sql = "SELECT due_at FROM runs WHERE session = ?1 AND held = 0";
    let mut statement = conn.prepare_cached(sql)?;
    let due_at = statement
        .query_row([num], |row| micros(row, 0))
        .optional()?;
    Ok(due_at.map(|at| rules::queued(at, now)))
}

/// The run is held.
pub(super) fn put_held(
    cx: &Cx<'_>,
    num: i64,
    state: &State,
    holder: &Holder,
    lease_expires_at: Option<i64>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE runs SET held = 1, generation = ?2, holder = ?3, lease_expires_at = ?4
               WHERE session = ?1";
    let row = (num, int(state.generation.0), &holder.0, lease_expires_at);
    cx.conn.prepare_cached(sql)?.execute(row).map(|_| ())
}

pub(super) fn remove(cx: &Cx<'_>, num: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM runs WHERE session = ?1";
    cx.conn.prepare_cached(sql)?.execute([num]).map(|_| ())
}

/// Who holds the run at `now`, if its lease stands.
pub(super) fn holder(conn: &Connection, num: i64, now: Micros) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT holder FROM runs WHERE session = ?1 AND held = 1
               AND (lease_expires_at IS NULL OR lease_expires_at BETWEEN ?2 + 1 AND ?3)";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((num, now.0, now.0 + FARTHEST))?;
    let holder = rows
        .next()?
        .map(|row| row.get::<_, String>(0))
        .transpose()?;
    Ok(holder.filter(|holder| several::is_there(holder)))
}

/// When the next run that nobody holds will be due, or the next lease expire, after `now`.
pub(crate) fn next_due(conn: &Connection, now: Micros) -> Told<Option<Micros>> {
    let sql = "SELECT min(due_at) FROM runs INDEXED BY runs_due WHERE held = 0 AND due_at > ?1
               UNION ALL
               SELECT min(lease_expires_at) FROM runs INDEXED BY runs_lease
                 WHERE held = 1 AND lease_expires_at IS NOT NULL AND lease_expires_at > ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_map([now.0], |row| row.get::<_, Option<i64>>(0))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().min().map(Micros))
}

pub(crate) fn due(conn: &Connection, limit: u32, now: Micros) -> Told<Vec<DueRun>> {
    const DUE: &str = "SELECT id, generation, due_at FROM runs
        WHERE held = 0 AND due_at <= ?1 ORDER BY due_at LIMIT ?2";
    const FAR: &str = "SELECT id, generation, due_at FROM runs
        WHERE held = 0 AND due_at > ?1 ORDER BY due_at LIMIT ?2";
    const EXPIRED: &str = "SELECT id, generation, due_at FROM runs
        WHERE held = 1 AND lease_expires_at IS NOT NULL AND lease_expires_at <= ?1
        ORDER BY lease_expires_at LIMIT ?2";
    const FAR_LEASE: &str = "SELECT id, generation, due_at FROM runs
        WHERE held = 1 AND lease_expires_at IS NOT NULL AND lease_expires_at > ?1
        ORDER BY lease_expires_at LIMIT ?2";
    let far = now.0 + FARTHEST;
    let mut found = Vec::new();
    for (sql, at) in [(DUE, now.0), (EXPIRED, now.0), (FAR, far), (FAR_LEASE, far)] {
        let mut statement = conn.prepare_cached(sql)?;
        let rows = statement.query_map((at, limit), |row| {
            Ok(DueRun {
                session: text(row, 0)?,
                generation: Generation(number(row, 1)?),
                due_at: micros(row, 2)?,
            })
        })?;
        for row in rows {
            found.push(row?);
        }
    }
    let mut found = several::sifted(conn, found)?;
    found.truncate(limit as usize);
    Ok(found)
}

/// As [`due`], but of each workspace at most `most` together with those of it that are held. Reads every
/// open turn: the price of a cap.
pub(crate) fn due_fairly(
    conn: &Connection,
    limit: u32,
    now: Micros,
    most: u32,
) -> Told<Vec<DueRun>> {
    const FAIR: &str = "WITH open AS (
          SELECT r.id, r.generation, r.due_at, t.workspace AS w,
                 r.held = 1 AND (r.lease_expires_at IS NULL OR r.lease_expires_at BETWEEN ?1 + 1 AND ?2)
                   AS busy,
                 r.held = 1 OR r.due_at <= ?1 OR r.due_at > ?2 AS due
          FROM runs r CROSS JOIN session_rows t ON t.num = r.session),
        ranked AS (
          SELECT id, generation, due_at, busy,
                 row_number() OVER (PARTITION BY w ORDER BY busy DESC, due_at) AS place
          FROM open WHERE due)
        SELECT id, generation, due_at FROM ranked
        WHERE NOT busy AND place <= ?3 ORDER BY due_at LIMIT ?4";
    let mut statement = conn.prepare_cached(FAIR)?;
    let rows = statement.query_map((now.0, now.0 + FARTHEST, most, limit), |row| {
        Ok(DueRun {
            session: text(row, 0)?,
            generation: Generation(number(row, 1)?),
            due_at: micros(row, 2)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
}

pub(crate) fn held_by(conn: &Connection, holder: &Holder) -> Told<Vec<(SessionId, Generation)>> {
    let sql = "SELECT id, generation FROM runs WHERE held = 1 AND holder = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([&holder.0], |row| {
        Ok((text(row, 0)?, Generation(number(row, 1)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn renew_all(
    cx: &mut Cx<'_>,
    holder: &Holder,
    held: &[(SessionId, Generation)],
    ttl: Option<Duration>,
    now: Micros,
) -> Told<Vec<SessionId>> {
    let sql = "UPDATE runs SET lease_expires_at = ?4
               WHERE session = (SELECT num FROM session_rows WHERE id = ?1)
                 AND generation = ?2 AND holder = ?3 AND held = 1";
    let mut statement = cx.conn.prepare_cached(sql)?;
    let mut lost = Vec::new();
    for (session, generation) in held {
        let key = (
            session.to_string(),
            int(generation.0),
            &holder.0,
            until(now, ttl),
        );
        if statement.execute(key)? == 0 {
            lost.push(*session);
        }
    }
    Ok(lost)
}

pub(crate) fn requeue_all(cx: &mut Cx<'_>, holder: &Holder, now: Micros) -> Told<u64> {
    let sql = "UPDATE runs SET held = 0, holder = NULL, lease_expires_at = NULL, due_at = ?2
               WHERE held = 1 AND holder <> ?1";
    let requeued = cx.conn.prepare_cached(sql)?.execute((&holder.0, now.0))?;
    cx.tell(Note::Wake);
    Ok(requeued as u64)
}

pub(crate) fn release(
    cx: &mut Cx<'_>,
    session: SessionId,
    generation: Generation,
    due_at: Micros,
) -> Told<bool> {
    let sql = "UPDATE runs SET held = 0, holder = NULL, lease_expires_at = NULL, due_at = ?3
               WHERE session = (SELECT num FROM session_rows WHERE id = ?1)
                 AND generation = ?2 AND held = 1";
    let key = (session.to_string(), int(generation.0), due_at.0);
    let released = cx.conn.prepare_cached(sql)?.execute(key)? == 1;
    cx.tell(Note::Wake);
    Ok(released)
}

pub(crate) fn renew(
    cx: &mut Cx<'_>,
    session: SessionId,
    generation: Generation,
    ttl: Duration,
    now: Micros,
) -> Told<bool> {
    let sql = "UPDATE runs SET lease_expires_at = ?3
               WHERE session = (SELECT num FROM session_rows WHERE id = ?1)
                 AND generation = ?2 AND held = 1";
    let key = (
        session.to_string(),
        int(generation.0),
        until(now, Some(ttl)),
    );
    Ok(cx.conn.prepare_cached(sql)?.execute(key)? == 1)
}
