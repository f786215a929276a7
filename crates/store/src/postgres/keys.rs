//! SQL of `workspaces` and `api_keys`.

use contract::ids::{ApiKeyId, WorkspaceId};
use contract::time::Micros;
use tokio_postgres::Row;

use super::fault::{Read, is_taken};
use super::row::{bytes, each, get, micros, micros_opt, text};
use super::value::values;
use super::{Conn, Cx, Fault, Told};
use crate::error::{Conflict, Error, Thing};
use crate::keys::{ApiKeyRow, KeyHash, KeyRole, WorkspaceRow};
use crate::rules::told::Note;

pub(super) async fn ensure_default(conn: &Conn, now: Micros) -> Read<()> {
    let sql = "INSERT INTO workspaces (id, name, created_at) VALUES ($1, 'Default', $2)
               ON CONFLICT (id) DO NOTHING";
    let row = values![WorkspaceId::Default.to_string(), now.0];
    conn.execute(sql, row).await.map(|_| ())
}

fn workspace_row(row: &Row) -> Read<WorkspaceRow> {
    Ok(WorkspaceRow {
        id: text(row, 0)?,
        name: get(row, 1)?,
        created_at: micros(row, 2)?,
        archived_at: micros_opt(row, 3)?,
    })
}

pub(crate) async fn create_workspace(
    cx: &mut Cx,
    id: WorkspaceId,
    name: String,
    now: Micros,
) -> Told<WorkspaceRow> {
    let sql = "INSERT INTO workspaces (id, name, created_at) VALUES ($1, $2, $3)";
    let row = values![id.to_string(), &name, now.0];
    match cx.conn.execute(sql, row).await {
        Err(failed) if is_taken(&failed) => Err(Conflict::Exists.into()),
        Err(failed) => Err(failed.into()),
        Ok(_) => workspace(&cx.conn, id).await,
    }
}

pub(crate) async fn workspaces(conn: &Conn) -> Told<Vec<WorkspaceRow>> {
    let sql = "SELECT id, name, created_at, archived_at FROM workspaces ORDER BY created_at, id";
    let rows = conn.rows(sql, values![]).await?;
    Ok(each(&rows, workspace_row)?)
}

pub(crate) async fn workspace(conn: &Conn, id: WorkspaceId) -> Told<WorkspaceRow> {
    let sql = "SELECT id, name, created_at, archived_at FROM workspaces WHERE id = $1";
    match conn.row(sql, values![id.to_string()]).await? {
        Some(row) => Ok(workspace_row(&row)?),
        None => Err(Thing::Workspace.into()),
    }
}

pub(crate) async fn archive_workspace(
    cx: &mut Cx,
    id: WorkspaceId,
    now: Micros,
) -> Told<WorkspaceRow> {
    let sql = "UPDATE workspaces SET archived_at = $2 WHERE id = $1 AND archived_at IS NULL";
    let row = values![id.to_string(), now.0];
    cx.conn.execute(sql, row).await?;
    cx.tell(Note::Keys);
    workspace(&cx.conn, id).await
}

const KEY: &str = "SELECT k.id, k.workspace, k.hash, k.prefix, k.last4, k.name, k.operator,
    k.created_at, k.revoked_at FROM api_keys k";

fn key_row(row: &Row) -> Read<ApiKeyRow> {
    Ok(ApiKeyRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        hash: KeyHash(bytes(row, 2)?),
        prefix: get(row, 3)?,
        last4: get(row, 4)?,
        name: get(row, 5)?,
        role: if get(row, 6)? {
            KeyRole::Operator
        } else {
            KeyRole::Workspace
        },
        created_at: micros(row, 7)?,
        revoked_at: micros_opt(row, 8)?,
    })
}

pub(crate) async fn create(cx: &mut Cx, key: ApiKeyRow) -> Told<ApiKeyRow> {
    if workspace(&cx.conn, key.workspace)
        .await?
        .archived_at
        .is_some()
    {
        return Err(Error::Archived(Thing::Workspace).into());
    }
    let sql = "INSERT INTO api_keys
                 (id, workspace, hash, prefix, last4, name, operator, created_at, revoked_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hash) DO NOTHING";
    let row = values![
        key.id.to_string(),
        key.workspace.to_string(),
        key.hash.0,
        &key.prefix,
        &key.last4,
        &key.name,
        key.role == KeyRole::Operator,
        key.created_at.0,
        key.revoked_at.map(|t| t.0),
    ];
    cx.conn.execute(sql, row).await?;
    cx.tell(Note::Keys);
    let sql = format!("{KEY} WHERE k.hash = $1");
    match cx.conn.row(&sql, values![key.hash.0]).await? {
        Some(row) => Ok(key_row(&row)?),
        None => Err(Fault::Bad("a key that was stored is not there".into())),
    }
}

pub(crate) async fn list(conn: &Conn, workspace: Option<WorkspaceId>) -> Told<Vec<ApiKeyRow>> {
    let sql =
        format!("{KEY} WHERE $1::text IS NULL OR k.workspace = $1 ORDER BY k.created_at, k.id");
    let of = values![workspace.map(|w| w.to_string())];
    Ok(each(&conn.rows(&sql, of).await?, key_row)?)
}

pub(crate) async fn revoke(cx: &mut Cx, id: ApiKeyId, now: Micros) -> Told<ApiKeyRow> {
    let sql = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    cx.conn.execute(sql, values![id.to_string(), now.0]).await?;
    cx.tell(Note::Keys);
    let sql = format!("{KEY} WHERE k.id = $1");
    match cx.conn.row(&sql, values![id.to_string()]).await? {
        Some(row) => Ok(key_row(&row)?),
        None => Err(Thing::ApiKey.into()),
    }
}

pub(crate) async fn by_hash(conn: &Conn, hash: KeyHash) -> Told<Option<ApiKeyRow>> {
    let sql = format!(
        "{KEY} JOIN workspaces w ON w.id = k.workspace
         WHERE k.hash = $1 AND k.revoked_at IS NULL AND w.archived_at IS NULL"
    );
    let row = conn.row(&sql, values![hash.0]).await?;
    Ok(row.as_ref().map(key_row).transpose()?)
}
