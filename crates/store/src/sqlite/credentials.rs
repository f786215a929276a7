//! SQL of `credentials`. An archived row keeps no secret.

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};

use super::fault::is_taken;
use super::paging::{Source, page};
use super::row::{json, micros, micros_opt, raw, text};
use super::wipe::wiping;
use super::{Cx, Told, master, refreshes, vaults};
use crate::error::{Conflict, Error, Thing};
use crate::page::{List, Slice};
use crate::rules::map_text;
use crate::rules::told::Note;
use crate::vaults::{CredentialChange, CredentialKind, CredentialRow, NewCredential, Sealed, Slot};

const SOURCE: Source = Source {
    select: "SELECT t.id, t.vault, t.revision, t.kind, t.slot_kind, t.slot, t.auth, t.display_name,
        t.metadata, t.sealed, t.key_version, t.created_at, t.updated_at, t.archived_at
        FROM credentials t",
    scope: "t.vault = :scope",
    archived: "t.archived_at",
};

const MCP_SERVER_URL: &str = "mcp_server_url";
const SECRET_NAME: &str = "secret_name";

fn unknown(at: usize, what: &str) -> rusqlite::Error {
    let text = format!("unknown credential {what}");
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, text.into())
}

fn credential_row(row: &Row<'_>) -> rusqlite::Result<CredentialRow> {
    let kind = CredentialKind::of(row.get_ref(3)?.as_str()?).ok_or_else(|| unknown(3, "kind"))?;
    let slot = match (row.get::<_, Option<String>>(4)?.as_deref(), row.get(5)?) {
        (Some(MCP_SERVER_URL), Some(url)) => Some(Slot::McpServerUrl(url)),
        (Some(SECRET_NAME), Some(name)) => Some(Slot::SecretName(name)),
        (None, None) => None,
        _ => return Err(unknown(4, "slot")),
    };
    let sealed = match (row.get(9)?, row.get(10)?) {
        (Some(blob), Some(key_version)) => Some(Sealed { blob, key_version }),
        _ => None,
    };
    Ok(CredentialRow {
        id: text(row, 0)?,
        vault: text(row, 1)?,
        revision: row.get(2)?,
        kind,
        slot,
        auth: raw(row, 6)?,
        display_name: row.get(7)?,
        metadata: json(row, 8)?,
        sealed,
        created_at: micros(row, 11)?,
        updated_at: micros(row, 12)?,
        archived_at: micros_opt(row, 13)?,
    })
}

pub(crate) fn create(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    vault: VaultId,
    new: NewCredential,
    (now, most): (Micros, u32),
) -> Told<CredentialRow> {
    vaults::active(cx.conn, workspace, vault)?;
    master::guard(cx.conn, &new.sealed)?;
    cx.tell(Note::Grounds);
    let (slot_kind, slot, taken) = match &new.slot {
        Some(Slot::McpServerUrl(url)) => (Some(MCP_SERVER_URL), Some(url), Conflict::McpServerUrl),
        Some(Slot::SecretName(name)) => (Some(SECRET_NAME), Some(name), Conflict::SecretName),
        None => (None, None, Conflict::Exists),
    };
    let sql = "INSERT INTO credentials (id, vault, revision, kind, slot_kind, slot, auth,
                 display_name, metadata, sealed, key_version, created_at, updated_at)
               VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)";
    let done = cx.conn.prepare_cached(sql)?.execute((
        new.id.to_string(),
        vault.to_string(),
        new.kind.name(),
        slot_kind,
        slot,
        new.auth.get(),
        &new.display_name,
        map_text(&new.metadata)?,
        &new.sealed.blob,
        new.sealed.key_version,
        now.0,
    ));
    match done {
        Err(error) if is_taken(&error) => return Err(taken.into()),
        done => done?,
    };
    let sql = "SELECT count(*) FROM credentials WHERE vault = ?1 AND archived_at IS NULL";
    let count: u32 = cx
        .conn
        .prepare_cached(sql)?
        .query_row([vault.to_string()], |r| r.get(0))?;
    if count > most {
        let limit = most;
        return Err(Error::TooManyCredentials { limit }.into());
    }
    if new.kind == CredentialKind::McpOauth {
        refreshes::begin(cx, new.id)?;
    }
    get(cx.conn, workspace, vault, new.id)
}

pub(crate) fn get(
    conn: &Connection,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
) -> Told<CredentialRow> {
    vaults::get(conn, workspace, vault)?;
    let sql = format!("{} WHERE t.id = ?1 AND t.vault = ?2", SOURCE.select);
    let mut statement = conn.prepare_cached(&sql)?;
    let key = (id.to_string(), vault.to_string());
    let row = statement.query_row(key, credential_row).optional()?;
    row.ok_or_else(|| Thing::Credential(id).into())
}

pub(crate) fn update(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
    change: CredentialChange,
    now: Micros,
) -> Told<CredentialRow> {
    let current = get(cx.conn, workspace, vault, id)?;
    if current.archived_at.is_some() {
        return Err(Error::Archived(Thing::Credential(id)).into());
    }
    if current.revision != change.base {
        let current = current.revision;
        return Err(Conflict::Revision { current }.into());
    }
    if let Some(sealed) = &change.sealed {
        master::guard(cx.conn, sealed)?;
    }
    if current.kind == CredentialKind::McpOauth {
        refreshes::begin(cx, id)?;
    }
    cx.tell(Note::Grounds);
    wiping(cx, |cx| write(cx, id, &change, now))?;
    get(cx.conn, workspace, vault, id)
}

fn write(cx: &mut Cx<'_>, id: CredentialId, change: &CredentialChange, now: Micros) -> Told<()> {
    let sql = "UPDATE credentials SET revision = ?2, auth = ?3, display_name = ?4, metadata = ?5,
                 sealed = coalesce(?6, sealed), key_version = coalesce(?7, key_version),
                 updated_at = max(updated_at, ?8)
               WHERE id = ?1";
    cx.conn.prepare_cached(sql)?.execute((
        id.to_string(),
        change.base + 1,
        change.auth.get(),
        &change.display_name,
        map_text(&change.metadata)?,
        change.sealed.as_ref().map(|s| &s.blob),
        change.sealed.as_ref().map(|s| s.key_version),
        now.0,
    ))?;
    Ok(())
}

const PURGE: &str = "UPDATE credentials SET archived_at = ?2, updated_at = max(updated_at, ?2),
    revision = revision + 1, sealed = NULL, key_version = NULL WHERE archived_at IS NULL";

pub(crate) fn archive(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
    now: Micros,
) -> Told<CredentialRow> {
    get(cx.conn, workspace, vault, id)?;
    cx.tell(Note::Grounds);
    let sql = format!("{PURGE} AND id = ?1");
    wiping(cx, |cx| {
        cx.conn
            .prepare_cached(&sql)?
            .execute((id.to_string(), now.0))?;
        refreshes::end(cx, id)
    })?;
    get(cx.conn, workspace, vault, id)
}

pub(super) fn archive_all(cx: &mut Cx<'_>, vault: VaultId, now: Micros) -> Told<()> {
    let sql = format!("{PURGE} AND vault = ?1");
    wiping(cx, |cx| {
        cx.conn
            .prepare_cached(&sql)?
            .execute((vault.to_string(), now.0))?;
        refreshes::end_all(cx, vault)
    })
}

pub(crate) fn delete(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
) -> Told<()> {
    get(cx.conn, workspace, vault, id)?;
    cx.tell(Note::Grounds);
    let sql = "DELETE FROM credentials WHERE id = ?1";
    wiping(cx, |cx| {
        cx.conn.prepare_cached(sql)?.execute([id.to_string()])?;
        Ok(())
    })
}

pub(crate) fn list(
    conn: &Connection,
    workspace: WorkspaceId,
    vault: VaultId,
    list: &List<CredentialId>,
) -> Told<Slice<CredentialRow>> {
    vaults::get(conn, workspace, vault)?;
    let scope = vault.to_string();
    let key = |row: &CredentialRow| (row.created_at, row.id.to_string());
    Ok(page(
        conn,
        &SOURCE,
        &[(":scope", &scope)],
        list,
        credential_row,
        key,
    )?)
}

/// The active credential that occupies `slot` in the vault, found by its index.
pub(crate) fn at(conn: &Connection, vault: VaultId, slot: &Slot) -> Told<Option<CredentialRow>> {
    let (kind, slot) = match slot {
        Slot::McpServerUrl(url) => (MCP_SERVER_URL, url),
        Slot::SecretName(name) => (SECRET_NAME, name),
    };
    let sql = format!(
        "{} WHERE t.vault = ?1 AND t.slot_kind = ?2 AND t.slot = ?3 AND t.archived_at IS NULL",
        SOURCE.select
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let key = (vault.to_string(), kind, slot);
    Ok(statement.query_row(key, credential_row).optional()?)
}

pub(super) fn active(conn: &Connection, vault: VaultId) -> Told<Vec<CredentialRow>> {
    let sql = format!(
        "{} WHERE t.vault = ?1 AND t.archived_at IS NULL ORDER BY t.created_at, t.id",
        SOURCE.select
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map([vault.to_string()], credential_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
