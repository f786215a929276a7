//! SQL of `kept_answers`. Each write removes a few expired ones, so that they never need a sweep of their
//! own.

use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};

use super::fault::{Trouble, is_taken};
use super::{Cx, Fault, Told};
use crate::kept::{Kept, Mark, Slot};
use crate::limits::KEPT_SWEEP;

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

/// Keeps an answer, or fails because one is kept.
pub(super) fn put<E: From<Trouble>>(cx: &Cx<'_>, slot: &Slot, body: &[u8]) -> Told<(), E> {
    sweep(cx.conn, slot.now)?;
    let sql = "DELETE FROM kept_answers WHERE id = ?1 AND expires_at <= ?2";
    cx.conn
        .prepare_cached(sql)?
        .execute((slot.id.0, slot.now.0))?;
    let sql = "INSERT INTO kept_answers (id, request, expires_at, body) VALUES (?1, ?2, ?3, ?4)";
    let row = (slot.id.0, slot.request.0, slot.expires_at(), body);
    match cx.conn.prepare_cached(sql)?.execute(row) {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => {
            let why = "another request kept its answer under this key first";
            Err(Fault::Told(Trouble::Unavailable(why.into()).into()))
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn put_or_get(cx: &mut Cx<'_>, slot: &Slot, body: &[u8]) -> Told<Kept> {
    if let Some(kept) = get(cx.conn, slot.id, slot.now)? {
        return Ok(kept);
    }
    put(cx, slot, body)?;
    Ok(Kept {
        request: slot.request,
        body: body.to_vec(),
    })
}

/// Removes a few expired ones.
fn sweep(conn: &Connection, now: Micros) -> rusqlite::Result<()> {
    let sql = "DELETE FROM kept_answers WHERE id IN
                 (SELECT id FROM kept_answers WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    conn.prepare_cached(sql)?
        .execute((now.0, KEPT_SWEEP))
        .map(|_| ())
}

/// Removes all expired ones: at a start, when none may come after which they would go.
pub(super) fn sweep_all(conn: &Connection, now: Micros) -> rusqlite::Result<()> {
    let sql = "DELETE FROM kept_answers WHERE expires_at <= ?1";
    conn.execute(sql, [now.0]).map(|_| ())
}
