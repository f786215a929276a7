//! SQL of `vaults`.

use std::collections::BTreeMap;

use contract::ids::{VaultId, WorkspaceId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};

use super::credentials;
use super::paging::{Source, page};
use super::row::{json, micros, micros_opt, text};
use super::wipe::wiping;
use super::{Cx, Told, tallies};
use crate::caps::Caps;
use crate::error::{Conflict, Error, Plenty, Thing};
use crate::page::{List, Slice};
use crate::rules::map_text;
use crate::rules::told::Note;
use crate::vaults::{CredentialRow, Slot, VaultRow, VaultView};

const SOURCE: Source = Source {
    select: "SELECT t.id, t.workspace, t.revision, t.display_name, t.metadata, t.created_at,
        t.updated_at, t.archived_at FROM vaults t",
    scope: "t.workspace = :scope",
    archived: "t.archived_at",
};

fn vault_row(row: &Row<'_>) -> rusqlite::Result<VaultRow> {
    Ok(VaultRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        revision: row.get(2)?,
        display_name: row.get(3)?,
        metadata: json(row, 4)?,
        created_at: micros(row, 5)?,
        updated_at: micros(row, 6)?,
        archived_at: micros_opt(row, 7)?,
    })
}

pub(crate) fn create(cx: &mut Cx<'_>, row: VaultRow, caps: Caps) -> Told<VaultRow> {
    tallies::take(cx, row.workspace, Plenty::Vaults, caps)?;
    let sql = "INSERT INTO vaults
                 (id, workspace, revision, display_name, metadata, created_at, updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    cx.conn.prepare_cached(sql)?.execute((
        row.id.to_string(),
        row.workspace.to_string(),
        row.revision,
        &row.display_name,
        map_text(&row.metadata)?,
        row.created_at.0,
        row.updated_at.0,
    ))?;
    Ok(row)
}

pub(crate) fn get(conn: &Connection, workspace: WorkspaceId, id: VaultId) -> Told<VaultRow> {
    found(conn, workspace, id)?.ok_or_else(|| Thing::Vault(id).into())
}

fn found(conn: &Connection, workspace: WorkspaceId, id: VaultId) -> Told<Option<VaultRow>> {
    let sql = format!("{} WHERE t.id = ?1 AND t.workspace = ?2", SOURCE.select);
    let mut statement = conn.prepare_cached(&sql)?;
    let key = (id.to_string(), workspace.to_string());
    Ok(statement.query_row(key, vault_row).optional()?)
}

/// The vault, if it is not archived.
pub(super) fn active(conn: &Connection, workspace: WorkspaceId, id: VaultId) -> Told<VaultRow> {
    let row = get(conn, workspace, id)?;
    if row.archived_at.is_some() {
        return Err(Error::Archived(Thing::Vault(id)).into());
    }
    Ok(row)
}

pub(crate) fn update(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: VaultId,
    base: u32,
    display_name: String,
    metadata: BTreeMap<String, String>,
    now: Micros,
) -> Told<VaultRow> {
    let current = active(cx.conn, workspace, id)?;
    if current.revision != base {
        let current = current.revision;
        return Err(Conflict::Revision { current }.into());
    }
    if current.display_name == display_name && current.metadata == metadata {
        return Ok(current);
    }
    let sql = "UPDATE vaults SET revision = ?2, display_name = ?3, metadata = ?4, updated_at = ?5
               WHERE id = ?1";
    let updated_at = now.max(current.updated_at);
    cx.conn.prepare_cached(sql)?.execute((
        id.to_string(),
        base + 1,
        &display_name,
        map_text(&metadata)?,
        updated_at.0,
    ))?;
    cx.tell(Note::Grounds);
    Ok(VaultRow {
        revision: base + 1,
        display_name,
        metadata,
        updated_at,
        ..current
    })
}

pub(crate) fn archive(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: VaultId,
    now: Micros,
) -> Told<VaultRow> {
    let sql = "UPDATE vaults
               SET archived_at = ?3, updated_at = max(updated_at, ?3), revision = revision + 1
               WHERE id = ?1 AND workspace = ?2 AND archived_at IS NULL";
    let key = (id.to_string(), workspace.to_string(), now.0);
    if cx.conn.prepare_cached(sql)?.execute(key)? == 1 {
        credentials::archive_all(cx, id, now)?;
    }
    cx.tell(Note::Grounds);
    get(cx.conn, workspace, id)
}

pub(crate) fn delete(cx: &mut Cx<'_>, workspace: WorkspaceId, id: VaultId) -> Told<()> {
    let sql = "DELETE FROM vaults WHERE id = ?1 AND workspace = ?2";
    let key = (id.to_string(), workspace.to_string());
    cx.tell(Note::Grounds);
    // Its credentials go with it.
    if wiping(cx, |cx| Ok(cx.conn.prepare_cached(sql)?.execute(key)?))? == 0 {
        return Err(Thing::Vault(id).into());
    }
    tallies::give(cx, workspace, Plenty::Vaults);
    Ok(())
}

pub(crate) fn list(
    conn: &Connection,
    workspace: WorkspaceId,
    list: &List<VaultId>,
) -> Told<Slice<VaultRow>> {
    let scope = workspace.to_string();
    let key = |row: &VaultRow| (row.created_at, row.id.to_string());
    Ok(page(
        conn,
        &SOURCE,
        &[(":scope", &scope)],
        list,
        vault_row,
        key,
    )?)
}

pub(crate) fn views(
    conn: &Connection,
    workspace: WorkspaceId,
    ids: &[VaultId],
) -> Told<Vec<VaultView>> {
    let view = |id: &VaultId| {
        Ok(VaultView {
            vault: get(conn, workspace, *id)?,
            credentials: credentials::active(conn, *id)?,
        })
    };
    ids.iter().map(view).collect()
}

pub(crate) fn credential_at(
    conn: &Connection,
    workspace: WorkspaceId,
    ids: &[VaultId],
    slot: &Slot,
) -> Told<Option<CredentialRow>> {
    for id in ids {
        let Some(row) = credentials::at(conn, *id, slot)? else {
            continue;
        };
        // Another workspace's vault is as good as none.
        if found(conn, workspace, *id)?.is_some() {
            return Ok(Some(row));
        }
    }
    Ok(None)
}
