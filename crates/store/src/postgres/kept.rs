//! SQL of `kept_answers`. Each write removes a few expired ones, so that they never need a sweep of their
//! own; what is left of each owner's is counted in `tallies`, so that a bound is checked without adding up.

use std::collections::BTreeMap;

use contract::time::Micros;

use super::fault::{Read, is_taken};
use super::row::{bytes, get as column, number};
use super::value::{Value, values};
use super::{Conn, Cx, Fault, Told};
use crate::error::Plenty;
use crate::kept::{Kept, Mark, Slot};
use crate::limits::{KEPT_BESIDE, KEPT_SWEEP, KEPT_SWEEP_FULL};
use crate::rules::fault::Trouble;

pub(crate) async fn get(conn: &Conn, id: Mark, now: Micros) -> Told<Option<Kept>> {
    let sql = "SELECT request, body FROM kept_answers WHERE id = $1 AND expires_at > $2";
    let Some(row) = conn.row(sql, values![id.0, now.0]).await? else {
        return Ok(None);
    };
    Ok(Some(Kept {
        request: Mark(bytes(&row, 0)?),
        body: column(&row, 1)?,
    }))
}

/// Keeps an answer, or fails because one is kept or there is no room: `most` bytes for all of its owner's.
pub(super) async fn put<E: From<Trouble>>(
    cx: &mut Cx,
    slot: &Slot,
    body: &[u8],
    most: u64,
) -> Told<(), E> {
    sweep(&cx.conn, slot.now, KEPT_SWEEP).await?;
    let sql = "DELETE FROM kept_answers WHERE id = $1 AND expires_at <= $2 RETURNING id, length(body)::bigint";
    forget(&cx.conn, sql, values![slot.id.0, slot.now.0]).await?;
    let size = body.len() as u64 + KEPT_BESIDE;
    room(&cx.conn, slot, size, most).await?;
    let sql = "INSERT INTO kept_answers (id, request, expires_at, body) VALUES ($1, $2, $3, $4)";
    let row = values![slot.id.0, slot.request.0, slot.expires_at(), body];
    match cx.conn.execute(sql, row).await {
        Ok(_) => {}
        Err(failed) if is_taken(&failed) => {
            let why = "another request kept its answer under this key first";
            return Err(Fault::Told(Trouble::Unavailable(why.into()).into()));
        }
        Err(failed) => return Err(failed.into()),
    }
    let sql = "INSERT INTO tallies VALUES ($1, 'kept', $2)
                 ON CONFLICT (workspace, thing) DO UPDATE SET n = tallies.n + excluded.n";
    let added = values![slot.id.owner(), size.cast_signed()];
    cx.conn.execute(sql, added).await?;
    Ok(())
}

pub(crate) async fn put_or_get(cx: &mut Cx, slot: &Slot, body: &[u8], most: u64) -> Told<Kept> {
    if let Some(kept) = get(&cx.conn, slot.id, slot.now).await? {
        return Ok(kept);
    }
    put(cx, slot, body, most).await?;
    Ok(Kept {
        request: slot.request,
        body: body.to_vec(),
    })
}

/// Refuses what would not fit beside what its owner has kept.
async fn room<E: From<Trouble>>(conn: &Conn, slot: &Slot, size: u64, most: u64) -> Told<(), E> {
    if fits(conn, slot.id, size, most).await? {
        return Ok(());
    }
    let (what, limit) = (Plenty::Kept, most);
    Err(Fault::Told(Trouble::Full { what, limit }.into()))
}

/// Whether the shortest answer would fit.
pub(crate) async fn has_room(conn: &Conn, id: Mark, most: u64) -> Told<bool> {
    Ok(fits(conn, id, KEPT_BESIDE, most).await?)
}

/// The same after what has expired is gone, which takes nobody's room.
pub(crate) async fn make_room(cx: &mut Cx, slot: &Slot, most: u64) -> Told<bool> {
    sweep(&cx.conn, slot.now, KEPT_SWEEP_FULL).await?;
    has_room(&cx.conn, slot.id, most).await
}

async fn fits(conn: &Conn, id: Mark, size: u64, most: u64) -> Read<bool> {
    let taken = taken(conn, id).await?;
    Ok(taken.saturating_add(size) <= most)
}

/// Bytes that the owner of `id` has kept.
async fn taken(conn: &Conn, id: Mark) -> Read<u64> {
    let sql = "SELECT n FROM tallies WHERE workspace = $1 AND thing = 'kept'";
    match conn.row(sql, values![id.owner()]).await? {
        Some(row) => number(&row, 0),
        None => Ok(0),
    }
}

/// Removes some expired ones, of any owner; those that another replica removes are left to it.
async fn sweep(conn: &Conn, now: Micros, most: u32) -> Read<()> {
    let sql = "DELETE FROM kept_answers WHERE id IN
                 (SELECT id FROM kept_answers WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
                  FOR UPDATE SKIP LOCKED)
                 RETURNING id, length(body)::bigint";
    forget(conn, sql, values![now.0, most]).await
}

/// Removes all expired ones: at a start, when none may come after which they would go.
pub(super) async fn sweep_all(conn: &Conn, now: Micros) -> Read<()> {
    let sql = "DELETE FROM kept_answers WHERE expires_at <= $1 RETURNING id, length(body)::bigint";
    forget(conn, sql, values![now.0]).await
}

/// Removes what `sql` removes and returns, and counts it no more.
async fn forget(conn: &Conn, sql: &str, of: &[Value<'_>]) -> Read<()> {
    let mut gone = BTreeMap::<String, u64>::new();
    for row in conn.written(sql, of).await? {
        let owner = Mark(bytes(&row, 0)?).owner();
        *gone.entry(owner).or_default() += number(&row, 1)? + KEPT_BESIDE;
    }
    let sql = "UPDATE tallies SET n = greatest(0, n - $2) WHERE workspace = $1 AND thing = 'kept'";
    for (owner, bytes) in gone {
        conn.execute(sql, values![owner, bytes.cast_signed()])
            .await?;
    }
    Ok(())
}
