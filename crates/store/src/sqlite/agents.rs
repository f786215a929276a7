//! SQL of `agents` and `agent_versions`.

use contract::ids::{AgentId, WorkspaceId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::value::RawValue;

use super::fault::is_taken;
use super::paging::{Source, page};
use super::row::{micros, micros_opt, raw, text};
use super::{Cx, Told};
use crate::agents::{AgentRow, VersionList};
use crate::error::{Conflict, Error, Thing};
use crate::page::{List, Slice};
use crate::rules::told::Note;

const COLUMNS: &str = "SELECT t.id, t.workspace, v.version, v.body, t.created_at,
    CASE v.version WHEN t.version THEN t.updated_at ELSE v.created_at END, t.archived_at
    FROM agents t JOIN agent_versions v ON v.agent = t.id";

const LATEST: Source = Source {
    select: "SELECT t.id, t.workspace, v.version, v.body, t.created_at, t.updated_at, t.archived_at
        FROM agents t CROSS JOIN agent_versions v ON v.agent = t.id AND v.version = t.version",
    scope: "t.workspace = :scope",
    archived: "t.archived_at",
};

fn agent_row(row: &Row<'_>) -> rusqlite::Result<AgentRow> {
    Ok(AgentRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        version: row.get(2)?,
        body: raw(row, 3)?,
        created_at: micros(row, 4)?,
        updated_at: micros(row, 5)?,
        archived_at: micros_opt(row, 6)?,
    })
}

pub(crate) fn create(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: AgentId,
    body: Box<RawValue>,
    now: Micros,
) -> Told<AgentRow> {
    let sql = "INSERT INTO agents (id, workspace, version, created_at, updated_at)
               VALUES (?1, ?2, 1, ?3, ?3)";
    let key = id.to_string();
    let done = cx
        .conn
        .prepare_cached(sql)?
        .execute((&key, workspace.to_string(), now.0));
    match done {
        Err(error) if is_taken(&error) => return Err(Conflict::Exists.into()),
        done => done?,
    };
    add_version(cx, &key, 1, &body, now)?;
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

fn add_version(
    cx: &Cx<'_>,
    agent: &str,
    version: u32,
    body: &RawValue,
    now: Micros,
) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO agent_versions (agent, version, created_at, body) VALUES (?1, ?2, ?3, ?4)";
    cx.conn
        .prepare_cached(sql)?
        .execute((agent, version, now.0, body.get()))
        .map(|_| ())
}

pub(crate) fn get(
    conn: &Connection,
    workspace: WorkspaceId,
    id: AgentId,
    version: Option<u32>,
) -> Told<AgentRow> {
    let sql = format!(
        "{COLUMNS} AND v.version = coalesce(?3, t.version) WHERE t.id = ?1 AND t.workspace = ?2"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let key = (id.to_string(), workspace.to_string(), version);
    let row = statement.query_row(key, agent_row).optional()?;
    match (row, version) {
        (Some(row), _) => Ok(row),
        (None, None) => Err(Thing::Agent.into()),
        (None, Some(version)) => {
            get(conn, workspace, id, None)?;
            Err(Thing::AgentVersion(version).into())
        }
    }
}

/// That a new session may be made from this version, without reading it.
pub(super) fn check(
    conn: &Connection,
    workspace: WorkspaceId,
    id: AgentId,
    version: u32,
) -> Told<()> {
    let sql = "SELECT t.archived_at IS NOT NULL,
                 EXISTS (SELECT 1 FROM agent_versions v WHERE v.agent = t.id AND v.version = ?3)
               FROM agents t WHERE t.id = ?1 AND t.workspace = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let key = (id.to_string(), workspace.to_string(), version);
    let found = statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?)));
    match found.optional()? {
        None => Err(Thing::Agent.into()),
        Some((_, false)) => Err(Thing::AgentVersion(version).into()),
        Some((true, true)) => Err(Error::Archived(Thing::Agent).into()),
        Some((false, true)) => Ok(()),
    }
}

pub(crate) fn update(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: AgentId,
    base: u32,
    body: Box<RawValue>,
    now: Micros,
) -> Told<AgentRow> {
    let current = get(cx.conn, workspace, id, None)?;
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
    let key = id.to_string();
    add_version(cx, &key, version, &body, updated_at)?;
    let sql = "UPDATE agents SET version = ?2, updated_at = ?3 WHERE id = ?1";
    cx.conn
        .prepare_cached(sql)?
        .execute((&key, version, updated_at.0))?;
    Ok(AgentRow {
        version,
        body,
        updated_at,
        ..current
    })
}

pub(crate) fn archive(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: AgentId,
    now: Micros,
) -> Told<AgentRow> {
    let sql = "UPDATE agents SET archived_at = ?3, updated_at = max(updated_at, ?3)
               WHERE id = ?1 AND workspace = ?2 AND archived_at IS NULL";
    let key = (id.to_string(), workspace.to_string(), now.0);
    cx.conn.prepare_cached(sql)?.execute(key)?;
    cx.tell(Note::Grounds);
    get(cx.conn, workspace, id, None)
}

pub(crate) fn list(
    conn: &Connection,
    workspace: WorkspaceId,
    list: &List<AgentId>,
) -> Told<Slice<AgentRow>> {
    let scope = workspace.to_string();
    let key = |row: &AgentRow| (row.created_at, row.id.to_string());
    Ok(page(
        conn,
        &LATEST,
        &[(":scope", &scope)],
        list,
        agent_row,
        key,
    )?)
}

pub(crate) fn versions(
    conn: &Connection,
    workspace: WorkspaceId,
    id: AgentId,
    list: VersionList,
) -> Told<Slice<AgentRow>> {
    get(conn, workspace, id, None)?;
    let sql =
        format!("{COLUMNS} WHERE t.id = ?1 AND v.version < ?2 ORDER BY v.version DESC LIMIT ?3");
    let below = list.below.map_or(i64::MAX, i64::from);
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((id.to_string(), below, list.limit + 1), agent_row)?;
    let mut items = rows.collect::<Result<Vec<_>, _>>()?;
    let has_next = items.len() > list.limit as usize;
    items.truncate(list.limit as usize);
    Ok(Slice {
        items,
        has_prev: list.below.is_some(),
        has_next,
    })
}
