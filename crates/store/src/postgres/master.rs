//! SQL of the master key: rows of `meta`, and the wrapping of `credentials`.

use contract::ids::CredentialId;

use super::fault::Read;
use super::row::{each, get, text};
use super::value::values;
use super::{Conn, Cx, Fault, Told, meta};
use crate::error::Error;
use crate::master::{FIRST_VERSION, MasterState, ToWrap, Wrapped};
use crate::rules::fault::Trouble;
use crate::rules::master::{CHECK, NEXT_CHECK, PEPPER, ROTATED, VERSION, bytes, number, sealed};
use crate::rules::told::Note;
use crate::vaults::Sealed;

/// What replicas lock: shared while a secret is stored, alone while a rotation ends. "keys" in ASCII.
const LOCK: i64 = 0x6b65_7973;

pub(crate) async fn state(conn: &Conn) -> Told<MasterState> {
    let pepper = match meta::get(conn, PEPPER).await? {
        None => None,
        Some(value) => Some(sealed(&value).map_err(Fault::Bad)?),
    };
    Ok(MasterState {
        version: version(conn).await?,
        check: meta::get(conn, CHECK).await?,
        next_check: meta::get(conn, NEXT_CHECK).await?,
        pepper,
    })
}

async fn version(conn: &Conn) -> Told<u32> {
    match meta::get(conn, VERSION).await? {
        None => Ok(FIRST_VERSION),
        Some(value) => number(&value)
            .map(|(version, _)| version)
            .map_err(Fault::Bad),
    }
}

pub(crate) async fn init(cx: &mut Cx, check: &[u8], pepper: &Sealed) -> Told<MasterState> {
    meta::init(cx, CHECK, check).await?;
    meta::init(cx, PEPPER, &bytes(pepper)).await?;
    state(&cx.conn).await
}

pub(crate) async fn begin(cx: &mut Cx, next_check: &[u8]) -> Told<MasterState> {
    cx.tell(Note::Grounds);
    meta::init(cx, NEXT_CHECK, next_check).await?;
    state(&cx.conn).await
}

async fn lock(conn: &Conn, sql: &str) -> Read<()> {
    conn.row(sql, values![LOCK]).await.map(|_| ())
}

/// Refuses a secret that was sealed under a key that is no longer kept: it was read, or sealed, before a
/// rotation ended. None ends before this transaction does.
pub(super) async fn guard(conn: &Conn, sealed: &Sealed) -> Told<()> {
    lock(conn, "SELECT pg_advisory_xact_lock_shared($1)::text").await?;
    if sealed.key_version < version(conn).await? {
        return Err(Error::from(Trouble::Unavailable(ROTATED.into())).into());
    }
    Ok(())
}

pub(crate) async fn wrapped_under(
    conn: &Conn,
    version: u32,
    after: Option<CredentialId>,
    limit: u32,
) -> Told<Vec<ToWrap>> {
    let sql =
        "SELECT v.workspace, c.id, c.sealed FROM credentials c JOIN vaults v ON v.id = c.vault
               WHERE c.key_version = $1 AND c.id > $2 ORDER BY c.id LIMIT $3";
    let after = after.map_or_else(String::new, |id| id.to_string());
    let rows = conn.rows(sql, values![version, after, limit]).await?;
    let found = each(&rows, |row| {
        let sealed = Sealed {
            blob: get(row, 2)?,
            key_version: version,
        };
        Ok(ToWrap {
            workspace: text(row, 0)?,
            credential: text(row, 1)?,
            sealed,
        })
    });
    Ok(found?)
}

pub(crate) async fn rewrap(cx: &mut Cx, wrapped: &[Wrapped]) -> Told<u64> {
    cx.tell(Note::Grounds);
    let sql = "UPDATE credentials SET sealed = $3, key_version = $4
               WHERE id = $1 AND sealed = $2";
    let mut done = 0;
    for Wrapped {
        credential,
        before,
        after,
    } in wrapped
    {
        let row = values![
            credential.to_string(),
            before,
            &after.blob,
            after.key_version
        ];
        done += cx.conn.execute(sql, row).await?;
    }
    Ok(done)
}

pub(crate) async fn finish(cx: &mut Cx, pepper: &Sealed) -> Told<bool> {
    lock(&cx.conn, "SELECT pg_advisory_xact_lock($1)::text").await?;
    let Some(next) = meta::get(&cx.conn, NEXT_CHECK).await? else {
        // An end whose answer nobody heard is one.
        return match version(&cx.conn).await? == pepper.key_version {
            true => Ok(true),
            false => Err(Fault::Bad("there is no rotation to end".into())),
        };
    };
    let version = version(&cx.conn).await? + 1;
    let sql = "SELECT 1 FROM credentials WHERE key_version < $1 LIMIT 1";
    if cx.conn.row(sql, values![version]).await?.is_some() {
        return Ok(false);
    }
    meta::set(cx, CHECK, &next).await?;
    meta::set(cx, VERSION, &version.to_be_bytes()).await?;
    meta::set(cx, PEPPER, &bytes(pepper)).await?;
    meta::remove(cx, NEXT_CHECK).await?;
    cx.tell(Note::Grounds);
    Ok(true)
}
