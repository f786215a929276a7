//! SQL of `vaults`.

use std::collections::BTreeMap;

use contract::ids::{VaultId, WorkspaceId};
use contract::time::Micros;
use tokio_postgres::Row;

use super::fault::Read;
use super::paging::{Source, page};
use super::row::{get as column, json, micros, micros_opt, small, text};
use super::value::values;
use super::{Conn, Cx, Told, credentials, tallies};
use crate::caps::Caps;
use crate::error::{Conflict, Error, Plenty, Thing};
use crate::page::{List, Slice};
use crate::rules::map_text;
use crate::rules::told::Note;
use crate::vaults::{CredentialRow, Slot, VaultRow, VaultView};

const SOURCE: Source = Source {
    select: "SELECT t.id, t.workspace, t.revision, t.display_name, t.metadata, t.created_at,
        t.updated_at, t.archived_at FROM vaults t",
    scope: "t.workspace = $1",
    archived: "t.archived_at",
};

fn vault_row(row: &Row) -> Read<VaultRow> {
    Ok(VaultRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        revision: small(row, 2)?,
        display_name: column(row, 3)?,
        metadata: json(row, 4)?,
        created_at: micros(row, 5)?,
        updated_at: micros(row, 6)?,
        archived_at: micros_opt(row, 7)?,
    })
}

pub(crate) async fn create(cx: &mut Cx, row: VaultRow, caps: Caps) -> Told<VaultRow> {
    tallies::take(cx, row.workspace, Plenty::Vaults, caps).await?;
    let sql = "INSERT INTO vaults
                 (id, workspace, revision, display_name, metadata, created_at, updated_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = values![
        row.id.to_string(),
        row.workspace.to_string(),
        row.revision,
        &row.display_name,
        map_text(&row.metadata)?,
        row.created_at.0,
        row.updated_at.0,
    ];
    cx.conn.execute(sql, values).await?;
    Ok(row)
}

pub(crate) async fn get(conn: &Conn, workspace: WorkspaceId, id: VaultId) -> Told<VaultRow> {
    let found = found(conn, workspace, id).await?;
    found.ok_or_else(|| Thing::Vault(id).into())
}

async fn found(conn: &Conn, workspace: WorkspaceId, id: VaultId) -> Told<Option<VaultRow>> {
    let sql = format!("{} WHERE t.id = $1 AND t.workspace = $2", SOURCE.select);
    let key = values![id.to_string(), workspace.to_string()];
    let row = conn.row(&sql, key).await?;
    Ok(row.as_ref().map(vault_row).transpose()?)
}

/// The vault, if it is not archived.
pub(super) async fn active(conn: &Conn, workspace: WorkspaceId, id: VaultId) -> Told<VaultRow> {
    let row = get(conn, workspace, id).await?;
    if row.archived_at.is_some() {
        return Err(Error::Archived(Thing::Vault(id)).into());
    }
    Ok(row)
}

/// Nobody else changes the vault or what is in it from now on. It need not exist.
pub(super) async fn lock(conn: &Conn, id: VaultId) -> Read<()> {
    let sql = "SELECT 1 FROM vaults WHERE id = $1 FOR NO KEY UPDATE";
    conn.row(sql, values![id.to_string()]).await.map(|_| ())
}

pub(crate) async fn update(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: VaultId,
    base: u32,
    display_name: String,
    metadata: BTreeMap<String, String>,
    now: Micros,
) -> Told<VaultRow> {
    lock(&cx.conn, id).await?;
    let current = active(&cx.conn, workspace, id).await?;
    if current.revision != base {
        let current = current.revision;
        return Err(Conflict::Revision { current }.into());
    }
    if current.display_name == display_name && current.metadata == metadata {
        return Ok(current);
    }
    let sql = "UPDATE vaults SET revision = $2, display_name = $3, metadata = $4, updated_at = $5
               WHERE id = $1";
    let updated_at = now.max(current.updated_at);
    let values = values![
        id.to_string(),
        base + 1,
        &display_name,
        map_text(&metadata)?,
        updated_at.0,
    ];
    cx.conn.execute(sql, values).await?;
    cx.tell(Note::Grounds);
    Ok(VaultRow {
        revision: base + 1,
        display_name,
        metadata,
        updated_at,
        ..current
    })
}

pub(crate) async fn archive(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: VaultId,
    now: Micros,
) -> Told<VaultRow> {
    let sql = "UPDATE vaults
               SET archived_at = $3, updated_at = greatest(updated_at, $3), revision = revision + 1
               WHERE id = $1 AND workspace = $2 AND archived_at IS NULL";
    let key = values![id.to_string(), workspace.to_string(), now.0];
    if cx.conn.execute(sql, key).await? == 1 {
        credentials::archive_all(cx, id, now).await?;
    }
    cx.tell(Note::Grounds);
    get(&cx.conn, workspace, id).await
}

pub(crate) async fn delete(cx: &mut Cx, workspace: WorkspaceId, id: VaultId) -> Told<()> {
    let sql = "DELETE FROM vaults WHERE id = $1 AND workspace = $2";
    let key = values![id.to_string(), workspace.to_string()];
    cx.tell(Note::Grounds);
    if cx.conn.execute(sql, key).await? == 0 {
        return Err(Thing::Vault(id).into());
    }
    tallies::give(cx, workspace, Plenty::Vaults);
    Ok(())
}

pub(crate) async fn list(
    conn: &Conn,
    workspace: WorkspaceId,
    list: &List<VaultId>,
) -> Told<Slice<VaultRow>> {
    let scope = || vec![workspace.to_string().into()];
    let key = |row: &VaultRow| (row.created_at, row.id.to_string());
    Ok(page(conn, &SOURCE, &scope, list, vault_row, key).await?)
}

pub(crate) async fn views(
    conn: &Conn,
    workspace: WorkspaceId,
    ids: &[VaultId],
) -> Told<Vec<VaultView>> {
    let mut views = Vec::with_capacity(ids.len());
    for id in ids {
        views.push(VaultView {
            vault: get(conn, workspace, *id).await?,
            credentials: credentials::active(conn, *id).await?,
        });
    }
    Ok(views)
}

pub(crate) async fn credential_at(
    conn: &Conn,
    workspace: WorkspaceId,
    ids: &[VaultId],
    slot: &Slot,
) -> Told<Option<CredentialRow>> {
    for id in ids {
        let Some(row) = credentials::at(conn, *id, slot).await? else {
            continue;
        };
        // Another workspace's vault is as good as none.
        if found(conn, workspace, *id).await?.is_some() {
            return Ok(Some(row));
        }
    }
    Ok(None)
}
