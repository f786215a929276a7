//! SQL of the master key: rows of `meta`, and the wrapping of `credentials`.

use contract::ids::CredentialId;
use rusqlite::Connection;

use super::row::text;
use super::wipe::wiping;
use super::{Cx, Fault, Told, meta};
use crate::error::Error;
use crate::master::{FIRST_VERSION, MasterState, ToWrap, Wrapped};
use crate::rules::fault::Trouble;
use crate::rules::master::{CHECK, NEXT_CHECK, PEPPER, ROTATED, VERSION, bytes, number, sealed};
use crate::rules::told::Note;
use crate::vaults::Sealed;

pub(crate) fn state(conn: &Connection) -> Told<MasterState> {
    let pepper = match meta::get(conn, PEPPER)? {
        None => None,
        Some(value) => Some(sealed(&value).map_err(Fault::Bad)?),
    };
    Ok(MasterState {
        version: version(conn)?,
        check: meta::get(conn, CHECK)?,
        next_check: meta::get(conn, NEXT_CHECK)?,
        pepper,
    })
}

fn version(conn: &Connection) -> Told<u32> {
    match meta::get(conn, VERSION)? {
        None => Ok(FIRST_VERSION),
        Some(value) => number(&value)
            .map(|(version, _)| version)
            .map_err(Fault::Bad),
    }
}

pub(crate) fn init(cx: &mut Cx<'_>, check: &[u8], pepper: &Sealed) -> Told<MasterState> {
    meta::init(cx, CHECK, check)?;
    meta::init(cx, PEPPER, &bytes(pepper))?;
    state(cx.conn)
}

pub(crate) fn begin(cx: &mut Cx<'_>, next_check: &[u8]) -> Told<MasterState> {
    cx.tell(Note::Grounds);
    meta::init(cx, NEXT_CHECK, next_check)?;
    state(cx.conn)
}

/// Refuses a secret that was sealed under a key that is no longer kept: it was read, or sealed, before a
/// rotation ended.
pub(super) fn guard(conn: &Connection, sealed: &Sealed) -> Told<()> {
    if sealed.key_version < version(conn)? {
        return Err(Error::from(Trouble::Unavailable(ROTATED.into())).into());
    }
    Ok(())
}

pub(crate) fn wrapped_under(
    conn: &Connection,
    version: u32,
    after: Option<CredentialId>,
    limit: u32,
) -> Told<Vec<ToWrap>> {
    let sql =
        "SELECT v.workspace, c.id, c.sealed FROM credentials c JOIN vaults v ON v.id = c.vault
               WHERE c.key_version = ?1 AND c.id > ?2 ORDER BY c.id LIMIT ?3";
    let after = after.map_or_else(String::new, |id| id.to_string());
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((version, after, limit), |row| {
        let sealed = Sealed {
            blob: row.get(2)?,
            key_version: version,
        };
        Ok(ToWrap {
            workspace: text(row, 0)?,
            credential: text(row, 1)?,
            sealed,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn rewrap(cx: &mut Cx<'_>, wrapped: &[Wrapped]) -> Told<u64> {
    cx.tell(Note::Grounds);
    wiping(cx, |cx| {
        let sql = "UPDATE credentials SET sealed = ?3, key_version = ?4
                   WHERE id = ?1 AND sealed = ?2";
        let mut statement = cx.conn.prepare_cached(sql)?;
        let mut done = 0;
        for Wrapped {
            credential,
            before,
            after,
        } in wrapped
        {
            let key = credential.to_string();
            done += statement.execute((key, before, &after.blob, after.key_version))? as u64;
        }
        Ok(done)
    })
}

pub(crate) fn finish(cx: &mut Cx<'_>, pepper: &Sealed) -> Told<bool> {
    let Some(next) = meta::get(cx.conn, NEXT_CHECK)? else {
        // An end whose answer nobody heard is one.
        return match version(cx.conn)? == pepper.key_version {
            true => Ok(true),
            false => Err(Fault::Bad("there is no rotation to end".into())),
        };
    };
    let version = version(cx.conn)? + 1;
    let sql = "SELECT EXISTS (SELECT 1 FROM credentials WHERE key_version < ?1)";
    let left: bool = cx
        .conn
        .prepare_cached(sql)?
        .query_row([version], |row| row.get(0))?;
    if left {
        return Ok(false);
    }
    wiping(cx, |cx| {
        meta::set(cx, CHECK, &next)?;
        meta::set(cx, VERSION, &version.to_be_bytes())?;
        meta::set(cx, PEPPER, &bytes(pepper))?;
        meta::remove(cx, NEXT_CHECK)
    })?;
    cx.tell(Note::Grounds);
    Ok(true)
}
