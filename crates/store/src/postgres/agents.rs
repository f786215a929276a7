//! SQL of `agents` and `agent_versions`.

use contract::ids::{AgentId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use super::fault::{Read, is_taken};
use super::paging::{Source, page};
use super::row::{each, get as column, micros, micros_opt, raw, small, text};
use super::value::values;
use super::{Conn, Cx, Told};
use crate::agents::{AgentRow, VersionList};
use crate::error::{Conflict, Error, Thing};
use crate::page::{List, Slice};
use crate::rules::told::Note;

const COLUMNS: &str = "SELECT t.id, t.workspace, v.version, v.body, t.created_at,
    CASE v.version WHEN t.version THEN t.updated_at ELSE v.created_at END, t.archived_at
    FROM agents t JOIN agent_versions v ON v.agent = t.id";

const LATEST: Source = Source {
    select: "SELECT t.id, t.workspace, v.version, v.body, t.created_at, t.updated_at, t.archived_at
        FROM agents t JOIN agent_versions v ON v.agent = t.id AND v.version = t.version",
    scope: "t.workspace = $1",
    archived: "t.archived_at",
};

fn agent_row(row: &Row) -> Read<AgentRow> {
    Ok(AgentRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        version: small(row, 2)?,
        body: raw(row, 3)?,
        created_at: micros(row, 4)?,
        updated_at: micros(row, 5)?,
        archived_at: micros_opt(row, 6)?,
    })
}

pub(crate) async fn create(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: AgentId,
    body: Box<RawValue>,
    now: Micros,
) -> Told<AgentRow> {
    let sql = "INSERT INTO agents (id, workspace, version, created_at, updated_at)
               VALUES ($1, $2, 1, $3, $3)";
    let key = id.to_string();
    let row = values![&key, workspace.to_string(), now.0];
    match cx.conn.execute(sql, row).await {
        Err(failed) if is_taken(&failed) => return Err(Conflict::Exists.into()),
        done => done?,
    };
    add_version(&cx.conn, &key, 1, &body, now).await?;
    Ok(AgentRow {
        id,
        workspace,
        version: 1,
        body,
        created_at: now,
        updated_at: now,
        archived_at: None,
    })
}

async fn add_version(
    conn: &Conn,
    agent: &str,
    version: u32,
    body: &RawValue,
    now: Micros,
) -> Read<()> {
    let sql =
        "INSERT INTO agent_versions (agent, version, created_at, body) VALUES ($1, $2, $3, $4)";
    let row = values![agent, version, now.0, body.get()];
    conn.execute(sql, row).await.map(|_| ())
}

pub(crate) async fn get(
    conn: &Conn,
    workspace: WorkspaceId,
    id: AgentId,
    version: Option<u32>,
) -> Told<AgentRow> {
    let sql = format!(
        "{COLUMNS} AND v.version = coalesce($3, t.version) WHERE t.id = $1 AND t.workspace = $2"
    );
    let missing = match version {
        Some(version) => Thing::AgentVersion(version),
        None => Thing::Agent,
    };
    let key = values![id.to_string(), workspace.to_string(), version];
    if let Some(row) = conn.row(&sql, key).await? {
        return Ok(agent_row(&row)?);
    }
    let sql = "SELECT 1 FROM agents WHERE id = $1 AND workspace = $2";
    let key = values![id.to_string(), workspace.to_string()];
    match conn.row(sql, key).await? {
        Some(_) => Err(missing.into()),
        None => Err(Thing::Agent.into()),
    }
}

/// That a new session may be made from this version, without reading it.
pub(super) async fn check(
    conn: &Conn,
    workspace: WorkspaceId,
    id: AgentId,
    version: u32,
) -> Told<()> {
    let sql = "SELECT t.archived_at IS NOT NULL,
                 EXISTS (SELECT 1 FROM agent_versions v WHERE v.agent = t.id AND v.version = $3)
               FROM agents t WHERE t.id = $1 AND t.workspace = $2";
    let key = values![id.to_string(), workspace.to_string(), version];
    let Some(row) = conn.row(sql, key).await? else {
        return Err(Thing::Agent.into());
    };
    match (column(&row, 0)?, column(&row, 1)?) {
        (_, false) => Err(Thing::AgentVersion(version).into()),
        (true, true) => Err(Error::Archived(Thing::Agent).into()),
        (false, true) => Ok(()),
    }
}

pub(crate) async fn update(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: AgentId,
    base: u32,
    body: Box<RawValue>,
    now: Micros,
) -> Told<AgentRow> {
    let key = id.to_string();
    let sql = "SELECT 1 FROM agents WHERE id = $1 FOR UPDATE";
    cx.conn.row(sql, values![&key]).await?;
    let current = get(&cx.conn, workspace, id, None).await?;
    if current.archived_at.is_some() {
        return Err(Error::Archived(Thing::Agent).into());
    }
    if current.version != base {
        let current = current.version;
        return Err(Conflict::Version { current }.into());
    }
    if current.body.get() == body.get() {
        return Ok(current);
    }
    cx.tell(Note::Grounds);
    let version = base + 1;
    let updated_at = now.max(current.updated_at);
    add_version(&cx.conn, &key, version, &body, updated_at).await?;
    let sql = "UPDATE agents SET version = $2, updated_at = $3 WHERE id = $1";
    cx.conn
        .execute(sql, values![&key, version, updated_at.0])
        .await?;
    Ok(AgentRow {
        version,
        body,
        updated_at,
        ..current
    })
}

pub(crate) async fn archive(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: AgentId,
    now: Micros,
) -> Told<AgentRow> {
    let sql = "UPDATE agents SET archived_at = $3, updated_at = greatest(updated_at, $3)
               WHERE id = $1 AND workspace = $2 AND archived_at IS NULL";
    let key = values![id.to_string(), workspace.to_string(), now.0];
    cx.conn.execute(sql, key).await?;
    cx.tell(Note::Grounds);
    get(&cx.conn, workspace, id, None).await
}

pub(crate) async fn list(
    conn: &Conn,
    workspace: WorkspaceId,
    list: &List<AgentId>,
) -> Told<Slice<AgentRow>> {
    let scope = || vec![workspace.to_string().into()];
    let key = |row: &AgentRow| (row.created_at, row.id.to_string());
    Ok(page(conn, &LATEST, &scope, list, agent_row, key).await?)
}

pub(crate) async fn versions(
    conn: &Conn,
    workspace: WorkspaceId,
    id: AgentId,
    list: VersionList,
) -> Told<Slice<AgentRow>> {
    get(conn, workspace, id, None).await?;
    let sql =
        format!("{COLUMNS} WHERE t.id = $1 AND v.version < $2 ORDER BY v.version DESC LIMIT $3");
    let below = list.below.map_or(i64::MAX, i64::from);
    let key = values![id.to_string(), below, list.limit + 1];
    let mut items = each(&conn.rows(&sql, key).await?, agent_row)?;
    let has_next = items.len() > list.limit as usize;
    items.truncate(list.limit as usize);
    Ok(Slice {
        items,
        has_prev: list.below.is_some(),
        has_next,
    })
}
