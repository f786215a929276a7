//! SQL of `kept_answers`. Each write removes a few expired ones, so that they never need a sweep of their
//! own; what is left of each owner's is counted in `tallies`, so that a bound is checked without adding up.

use std::collections::HashMap;

use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Params};

use super::fault::is_taken;
use super::row::number;
use super::{Cx, Fault, Told};
use crate::error::Plenty;
use crate::kept::{Kept, Mark, Slot};
use crate::limits::{KEPT_BESIDE, KEPT_SWEEP, KEPT_SWEEP_FULL};
use crate::rules::fault::Trouble;

pub(crate) fn get(conn: &Connection, id: Mark, now: Micros) -> Told<Option<Kept>> {
    let sql = "SELECT request, body FROM kept_answers WHERE id = ?1 AND expires_at > ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_row((id.0, now.0), |row| {
        Ok(Kept {
            request: Mark(row.get(0)?),
            body: row.get(1)?,
        })
    });
    Ok(found.optional()?)
}

/// Keeps an answer, or fails because one is kept or there is no room: `most` bytes for all of its owner's.
pub(super) fn put<E: From<Trouble>>(
    cx: &Cx<'_>,
    slot: &Slot,
    body: &[u8],
    most: u64,
) -> Told<(), E> {
    sweep(cx.conn, slot.now, KEPT_SWEEP)?;
    let sql =
        "DELETE FROM kept_answers WHERE id = ?1 AND expires_at <= ?2 RETURNING id, length(body)";
    forget(cx.conn, sql, (slot.id.0, slot.now.0))?;
    let size = body.len() as u64 + KEPT_BESIDE;
    room(cx.conn, slot, size, most)?;
    let sql = "INSERT INTO kept_answers (id, request, expires_at, body) VALUES (?1, ?2, ?3, ?4)";
    let row = (slot.id.0, slot.request.0, slot.expires_at(), body);
    match cx.conn.prepare_cached(sql)?.execute(row) {
        Ok(_) => {}
        Err(error) if is_taken(&error) => {
            let why = "another request kept its answer under this key first";
            return Err(Fault::Told(Trouble::Unavailable(why.into()).into()));
        }
        Err(error) => return Err(error.into()),
    }
    let sql = "INSERT INTO tallies VALUES (?1, 'kept', ?2)
                 ON CONFLICT (workspace, thing) DO UPDATE SET n = n + excluded.n";
    let added = (slot.id.owner(), size.cast_signed());
    cx.conn.prepare_cached(sql)?.execute(added)?;
    Ok(())
}

pub(crate) fn put_or_get(cx: &mut Cx<'_>, slot: &Slot, body: &[u8], most: u64) -> Told<Kept> {
    if let Some(kept) = get(cx.conn, slot.id, slot.now)? {
        return Ok(kept);
    }
    put(cx, slot, body, most)?;
    Ok(Kept {
        request: slot.request,
        body: body.to_vec(),
    })
}

/// Refuses what would not fit beside what its owner has kept.
fn room<E: From<Trouble>>(conn: &Connection, slot: &Slot, size: u64, most: u64) -> Told<(), E> {
    if fits(conn, slot.id, size, most)? {
        return Ok(());
    }
    let (what, limit) = (Plenty::Kept, most);
    Err(Fault::Told(Trouble::Full { what, limit }.into()))
}

/// Whether the shortest answer would fit.
pub(crate) fn has_room(conn: &Connection, id: Mark, most: u64) -> Told<bool> {
    Ok(fits(conn, id, KEPT_BESIDE, most)?)
}

/// The same after what has expired is gone, which takes nobody's room.
pub(crate) fn make_room(cx: &mut Cx<'_>, slot: &Slot, most: u64) -> Told<bool> {
    sweep(cx.conn, slot.now, KEPT_SWEEP_FULL)?;
    has_room(cx.conn, slot.id, most)
}

fn fits(conn: &Connection, id: Mark, size: u64, most: u64) -> rusqlite::Result<bool> {
    taken(conn, id).map(|taken| taken.saturating_add(size) <= most)
}

/// Bytes that the owner of `id` has kept.
fn taken(conn: &Connection, id: Mark) -> rusqlite::Result<u64> {
    let sql = "SELECT n FROM tallies WHERE workspace = ?1 AND thing = 'kept'";
    let mut statement = conn.prepare_cached(sql)?;
    let taken = statement.query_row([id.owner()], |row| number(row, 0));
    Ok(taken.optional()?.unwrap_or(0))
}

/// Removes some expired ones, of any owner.
fn sweep(conn: &Connection, now: Micros, most: u32) -> rusqlite::Result<()> {
    let sql = "DELETE FROM kept_answers WHERE id IN
                 (SELECT id FROM kept_answers WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
                 RETURNING id, length(body)";
    forget(conn, sql, (now.0, most))
}

/// Removes all expired ones: at a start, when none may come after which they would go.
pub(super) fn sweep_all(conn: &Connection, now: Micros) -> rusqlite::Result<()> {
    let sql = "DELETE FROM kept_answers WHERE expires_at <= ?1 RETURNING id, length(body)";
    forget(conn, sql, [now.0])
}

/// Removes what `sql` removes and returns, and counts it no more.
fn forget(conn: &Connection, sql: &str, of: impl Params) -> rusqlite::Result<()> {
    let mut gone = HashMap::<String, u64>::new();
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(of)?;
    while let Some(row) = rows.next()? {
        let owner = Mark(row.get(0)?).owner();
        *gone.entry(owner).or_default() += number(row, 1)? + KEPT_BESIDE;
    }
    let sql = "UPDATE tallies SET n = max(0, n - ?2) WHERE workspace = ?1 AND thing = 'kept'";
    for (owner, bytes) in gone {
        conn.prepare_cached(sql)?
            .execute((owner, bytes.cast_signed()))?;
    }
    Ok(())
}
