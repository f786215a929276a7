//! SQL of `credentials`. An archived row keeps no secret.

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::time::Micros;
use tokio_postgres::Row;

use super::fault::{Read, is_taken};
use super::paging::{Source, page};
use super::row::{each, get as column, json, micros, micros_opt, raw, small, text, unreadable};
use super::value::values;
use super::{Conn, Cx, Fault, Told, master, refreshes, vaults};
use crate::error::{Conflict, Error, Thing};
use crate::page::{List, Slice};
use crate::rules::map_text;
use crate::rules::told::Note;
use crate::vaults::{CredentialChange, CredentialKind, CredentialRow, NewCredential, Sealed, Slot};

const SOURCE: Source = Source {
    select: "SELECT t.id, t.vault, t.revision, t.kind, t.slot_kind, t.slot, t.auth, t.display_name,
        t.metadata, t.sealed, t.key_version, t.created_at, t.updated_at, t.archived_at
        FROM credentials t",
    scope: "t.vault = $1",
    archived: "t.archived_at",
};

const MCP_SERVER_URL: &str = "mcp_server_url";
const SECRET_NAME: &str = "secret_name";

fn credential_row(row: &Row) -> Read<CredentialRow> {
    let kind = CredentialKind::of(column(row, 3)?);
    let slot = match (column(row, 4)?, column(row, 5)?) {
        (Some(MCP_SERVER_URL), Some(url)) => Some(Slot::McpServerUrl(url)),
        (Some(SECRET_NAME), Some(name)) => Some(Slot::SecretName(name)),
        (None, None) => None,
        _ => return Err(unreadable(4, "unknown credential slot")),
    };
    let sealed = match (column(row, 9)?, column::<Option<i64>>(row, 10)?) {
        (Some(blob), Some(_)) => Some(Sealed {
            blob,
            key_version: small(row, 10)?,
        }),
        _ => None,
    };
    Ok(CredentialRow {
        id: text(row, 0)?,
        vault: text(row, 1)?,
        revision: small(row, 2)?,
        kind: kind.ok_or_else(|| unreadable(3, "unknown credential kind"))?,
        slot,
        auth: raw(row, 6)?,
        display_name: column(row, 7)?,
        metadata: json(row, 8)?,
        sealed,
        created_at: micros(row, 11)?,
        updated_at: micros(row, 12)?,
        archived_at: micros_opt(row, 13)?,
    })
}

pub(crate) async fn create(
    cx: &mut Cx,
    workspace: WorkspaceId,
    vault: VaultId,
    new: NewCredential,
    (now, most): (Micros, u32),
) -> Told<CredentialRow> {
    // Counted below: nobody else adds one meanwhile.
    vaults::lock(&cx.conn, vault).await?;
    vaults::active(&cx.conn, workspace, vault).await?;
    master::guard(&cx.conn, &new.sealed).await?;
    cx.tell(Note::Grounds);
    let (slot_kind, slot, taken) = match &new.slot {
        Some(Slot::McpServerUrl(url)) => (Some(MCP_SERVER_URL), Some(url), Conflict::McpServerUrl),
        Some(Slot::SecretName(name)) => (Some(SECRET_NAME), Some(name), Conflict::SecretName),
        None => (None, None, Conflict::Exists),
    };
    let sql = "INSERT INTO credentials (id, vault, revision, kind, slot_kind, slot, auth,
                 display_name, metadata, sealed, key_version, created_at, updated_at)
               VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)";
    let row = values![
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
    ];
    match cx.conn.execute(sql, row).await {
        Err(failed) if is_taken(&failed) => return Err(taken.into()),
        done => done?,
    };
    let sql = "SELECT count(*) FROM credentials WHERE vault = $1 AND archived_at IS NULL";
    let row = cx.conn.row(sql, values![vault.to_string()]).await?;
    let row = row.ok_or_else(|| Fault::Bad("a count without a row".into()))?;
    if small(&row, 0)? > most {
        let limit = most;
        return Err(Error::TooManyCredentials { limit }.into());
    }
    if new.kind == CredentialKind::McpOauth {
        refreshes::begin(cx, new.id).await?;
    }
    get(&cx.conn, workspace, vault, new.id).await
}

pub(crate) async fn get(
    conn: &Conn,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
) -> Told<CredentialRow> {
    vaults::get(conn, workspace, vault).await?;
    let sql = format!("{} WHERE t.id = $1 AND t.vault = $2", SOURCE.select);
    let key = values![id.to_string(), vault.to_string()];
    match conn.row(&sql, key).await? {
        Some(row) => Ok(credential_row(&row)?),
        None => Err(Thing::Credential(id).into()),
    }
}

pub(crate) async fn update(
    cx: &mut Cx,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
    change: CredentialChange,
    now: Micros,
) -> Told<CredentialRow> {
    vaults::lock(&cx.conn, vault).await?;
    let current = get(&cx.conn, workspace, vault, id).await?;
    if current.archived_at.is_some() {
        return Err(Error::Archived(Thing::Credential(id)).into());
    }
    if current.revision != change.base {
        let current = current.revision;
        return Err(Conflict::Revision { current }.into());
    }
    if let Some(sealed) = &change.sealed {
        master::guard(&cx.conn, sealed).await?;
    }
    if current.kind == CredentialKind::McpOauth {
        refreshes::begin(cx, id).await?;
    }
    cx.tell(Note::Grounds);
    let sql = "UPDATE credentials SET revision = $2, auth = $3, display_name = $4, metadata = $5,
                 sealed = coalesce($6, sealed), key_version = coalesce($7, key_version),
                 updated_at = greatest(updated_at, $8)
               WHERE id = $1";
    let row = values![
        id.to_string(),
        change.base + 1,
        change.auth.get(),
        &change.display_name,
        map_text(&change.metadata)?,
        change.sealed.as_ref().map(|s| &s.blob),
        change.sealed.as_ref().map(|s| s.key_version),
        now.0,
    ];
    cx.conn.execute(sql, row).await?;
    get(&cx.conn, workspace, vault, id).await
}

const PURGE: &str = "UPDATE credentials SET archived_at = $2,
    updated_at = greatest(updated_at, $2), revision = revision + 1, sealed = NULL,
    key_version = NULL WHERE archived_at IS NULL";

pub(crate) async fn archive(
    cx: &mut Cx,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
    now: Micros,
) -> Told<CredentialRow> {
    vaults::lock(&cx.conn, vault).await?;
    get(&cx.conn, workspace, vault, id).await?;
    cx.tell(Note::Grounds);
    let sql = format!("{PURGE} AND id = $1");
    cx.conn
        .execute(&sql, values![id.to_string(), now.0])
        .await?;
    refreshes::end(cx, id).await?;
    get(&cx.conn, workspace, vault, id).await
}

pub(super) async fn archive_all(cx: &mut Cx, vault: VaultId, now: Micros) -> Told<()> {
    let sql = format!("{PURGE} AND vault = $1");
    cx.conn
        .execute(&sql, values![vault.to_string(), now.0])
        .await?;
    refreshes::end_all(cx, vault).await
}

pub(crate) async fn delete(
    cx: &mut Cx,
    workspace: WorkspaceId,
    vault: VaultId,
    id: CredentialId,
) -> Told<()> {
    get(&cx.conn, workspace, vault, id).await?;
    cx.tell(Note::Grounds);
    let sql = "DELETE FROM credentials WHERE id = $1";
    cx.conn.execute(sql, values![id.to_string()]).await?;
    Ok(())
}

pub(crate) async fn list(
    conn: &Conn,
    workspace: WorkspaceId,
    vault: VaultId,
    list: &List<CredentialId>,
) -> Told<Slice<CredentialRow>> {
    vaults::get(conn, workspace, vault).await?;
    let scope = || vec![vault.to_string().into()];
    let key = |row: &CredentialRow| (row.created_at, row.id.to_string());
    Ok(page(conn, &SOURCE, &scope, list, credential_row, key).await?)
}

/// The active credential that occupies `slot` in the vault, found by its index.
pub(crate) async fn at(conn: &Conn, vault: VaultId, slot: &Slot) -> Told<Option<CredentialRow>> {
    let (kind, slot) = match slot {
        Slot::McpServerUrl(url) => (MCP_SERVER_URL, url),
        Slot::SecretName(name) => (SECRET_NAME, name),
    };
    let sql = format!(
        "{} WHERE t.vault = $1 AND t.slot_kind = $2 AND t.slot = $3 AND t.archived_at IS NULL",
        SOURCE.select
    );
    let key = values![vault.to_string(), kind, slot];
    let row = conn.row(&sql, key).await?;
    Ok(row.as_ref().map(credential_row).transpose()?)
}

pub(super) async fn active(conn: &Conn, vault: VaultId) -> Told<Vec<CredentialRow>> {
    let sql = format!(
        "{} WHERE t.vault = $1 AND t.archived_at IS NULL ORDER BY t.created_at, t.id",
        SOURCE.select
    );
    let rows = conn.rows(&sql, values![vault.to_string()]).await?;
    Ok(each(&rows, credential_row)?)
}
