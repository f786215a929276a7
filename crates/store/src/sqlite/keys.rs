//! SQL of `workspaces` and `api_keys`.

use contract::ids::{ApiKeyId, WorkspaceId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};

use super::fault::is_taken;
use super::row::{micros, micros_opt, text};
use super::{Cx, Told};
use crate::error::{Conflict, Error, Thing};
use crate::keys::{ApiKeyRow, KeyHash, KeyRole, WorkspaceRow};
use crate::rules::told::Note;

pub(super) fn ensure_default(conn: &Connection, now: Micros) -> rusqlite::Result<()> {
    let sql = "INSERT INTO workspaces (id, name, created_at) VALUES (?1, 'Default', ?2)
               ON CONFLICT (id) DO NOTHING";
    conn.execute(sql, (WorkspaceId::Default.to_string(), now.0))?;
    Ok(())
}

fn workspace_row(row: &Row<'_>) -> rusqlite::Result<WorkspaceRow> {
    Ok(WorkspaceRow {
        id: text(row, 0)?,
        name: row.get(1)?,
        created_at: micros(row, 2)?,
        archived_at: micros_opt(row, 3)?,
    })
}

pub(crate) fn create_workspace(
    cx: &mut Cx<'_>,
    id: WorkspaceId,
    name: String,
    now: Micros,
) -> Told<WorkspaceRow> {
    let sql = "INSERT INTO workspaces (id, name, created_at) VALUES (?1, ?2, ?3)";
    let done = cx
        .conn
        .prepare_cached(sql)?
        .execute((id.to_string(), &name, now.0));
    match done {
        Err(error) if is_taken(&error) => Err(Conflict::Exists.into()),
        Err(error) => Err(error.into()),
        Ok(_) => workspace(cx.conn, id),
    }
}

pub(crate) fn workspaces(conn: &Connection) -> Told<Vec<WorkspaceRow>> {
    let sql = "SELECT id, name, created_at, archived_at FROM workspaces ORDER BY created_at, id";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], workspace_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn workspace(conn: &Connection, id: WorkspaceId) -> Told<WorkspaceRow> {
    let sql = "SELECT id, name, created_at, archived_at FROM workspaces WHERE id = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let row = statement
        .query_row([id.to_string()], workspace_row)
        .optional()?;
    row.ok_or_else(|| Thing::Workspace.into())
}

pub(crate) fn archive_workspace(
    cx: &mut Cx<'_>,
    id: WorkspaceId,
    now: Micros,
) -> Told<WorkspaceRow> {
    let sql = "UPDATE workspaces SET archived_at = ?2 WHERE id = ?1 AND archived_at IS NULL";
    cx.conn
        .prepare_cached(sql)?
        .execute((id.to_string(), now.0))?;
    cx.tell(Note::Keys);
    workspace(cx.conn, id)
}

const KEY: &str = "SELECT k.id, k.workspace, k.hash, k.prefix, k.last4, k.name, k.operator,
    k.created_at, k.revoked_at FROM api_keys k";

fn key_row(row: &Row<'_>) -> rusqlite::Result<ApiKeyRow> {
    Ok(ApiKeyRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        hash: KeyHash(row.get(2)?),
        prefix: row.get(3)?,
        last4: row.get(4)?,
        name: row.get(5)?,
        role: if row.get(6)? {
            KeyRole::Operator
        } else {
            KeyRole::Workspace
        },
        created_at: micros(row, 7)?,
        revoked_at: micros_opt(row, 8)?,
    })
}

pub(crate) fn create(cx: &mut Cx<'_>, key: ApiKeyRow) -> Told<ApiKeyRow> {
    if workspace(cx.conn, key.workspace)?.archived_at.is_some() {
        return Err(Error::Archived(Thing::Workspace).into());
    }
    let sql = "INSERT INTO api_keys
                 (id, workspace, hash, prefix, last4, name, operator, created_at, revoked_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (hash) DO NOTHING";
    cx.conn.prepare_cached(sql)?.execute((
        key.id.to_string(),
        key.workspace.to_string(),
        key.hash.0,
        &key.prefix,
        &key.last4,
        &key.name,
        key.role == KeyRole::Operator,
        key.created_at.0,
        key.revoked_at.map(|t| t.0),
    ))?;
    cx.tell(Note::Keys);
    let mut statement = cx
        .conn
        .prepare_cached(&format!("{KEY} WHERE k.hash = ?1"))?;
    Ok(statement.query_row([key.hash.0], key_row)?)
}

pub(crate) fn list(conn: &Connection, workspace: Option<WorkspaceId>) -> Told<Vec<ApiKeyRow>> {
    let sql = format!("{KEY} WHERE ?1 IS NULL OR k.workspace = ?1 ORDER BY k.created_at, k.id");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map([workspace.map(|w| w.to_string())], key_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn revoke(cx: &mut Cx<'_>, id: ApiKeyId, now: Micros) -> Told<ApiKeyRow> {
    let sql = "UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    cx.conn
        .prepare_cached(sql)?
        .execute((id.to_string(), now.0))?;
    cx.tell(Note::Keys);
    let mut statement = cx.conn.prepare_cached(&format!("{KEY} WHERE k.id = ?1"))?;
    let row = statement.query_row([id.to_string()], key_row).optional()?;
    row.ok_or_else(|| Thing::ApiKey.into())
}

pub(crate) fn by_hash(conn: &Connection, hash: KeyHash) -> Told<Option<ApiKeyRow>> {
    let sql = format!(
        "{KEY} JOIN workspaces w ON w.id = k.workspace
         WHERE k.hash = ?1 AND k.revoked_at IS NULL AND w.archived_at IS NULL"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    Ok(statement.query_row([hash.0], key_row).optional()?)
}
