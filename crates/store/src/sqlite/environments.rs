//! SQL of `environments`.

use contract::ids::{EnvironmentId, WorkspaceId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::value::RawValue;

use super::fault::is_taken;
use super::paging::{Source, page};
use super::row::{micros, micros_opt, raw, text};
use super::{Cx, Told, grounds};
use crate::environments::EnvironmentRow;
use crate::error::{Conflict, Error, Thing};
use crate::page::{List, Slice};
use crate::rules::told::Note;

const SOURCE: Source = Source {
    select: "SELECT t.id, t.workspace, t.revision, t.name, t.body, t.created_at, t.updated_at,
        t.archived_at FROM environments t",
    scope: "t.workspace = :scope",
    archived: "t.archived_at",
};

fn environment_row(row: &Row<'_>) -> rusqlite::Result<EnvironmentRow> {
    Ok(EnvironmentRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        revision: row.get(2)?,
        name: row.get(3)?,
        body: raw(row, 4)?.into(),
        created_at: micros(row, 5)?,
        updated_at: micros(row, 6)?,
        archived_at: micros_opt(row, 7)?,
    })
}

pub(crate) fn create(cx: &mut Cx<'_>, row: EnvironmentRow) -> Told<EnvironmentRow> {
    let sql = "INSERT INTO environments
                 (id, workspace, revision, name, created_at, updated_at, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let done = cx.conn.prepare_cached(sql)?.execute((
        row.id.to_string(),
        row.workspace.to_string(),
        row.revision,
        &row.name,
        row.created_at.0,
        row.updated_at.0,
        row.body.get(),
    ));
    named(done)?;
    Ok(row)
}

fn named(done: rusqlite::Result<usize>) -> Told<()> {
    match done {
        Err(error) if is_taken(&error) => Err(Conflict::EnvironmentName.into()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

pub(crate) fn get(
    conn: &Connection,
    workspace: WorkspaceId,
    id: EnvironmentId,
) -> Told<EnvironmentRow> {
    let sql = format!("{} WHERE t.id = ?1 AND t.workspace = ?2", SOURCE.select);
    let mut statement = conn.prepare_cached(&sql)?;
    let key = (id.to_string(), workspace.to_string());
    let row = statement.query_row(key, environment_row).optional()?;
    row.ok_or_else(|| Thing::Environment(id).into())
}

/// That a new session may be made in it, without reading it.
pub(super) fn check(conn: &Connection, workspace: WorkspaceId, id: EnvironmentId) -> Told<()> {
    let sql = "SELECT archived_at IS NOT NULL FROM environments WHERE id = ?1 AND workspace = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let key = (id.to_string(), workspace.to_string());
    match statement.query_row(key, |row| row.get(0)).optional()? {
        None => Err(Thing::Environment(id).into()),
        Some(true) => Err(Error::Archived(Thing::Environment(id)).into()),
        Some(false) => Ok(()),
    }
}

pub(crate) fn update(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: EnvironmentId,
    base: u32,
    name: String,
    body: Box<RawValue>,
    now: Micros,
) -> Told<EnvironmentRow> {
    let current = get(cx.conn, workspace, id)?;
    if current.archived_at.is_some() {
        return Err(Error::Archived(Thing::Environment(id)).into());
    }
    if current.revision != base {
        let current = current.revision;
        return Err(Conflict::Revision { current }.into());
    }
    if current.name == name && current.body.get() == body.get() {
        return Ok(current);
    }
    let sql = "UPDATE environments SET revision = ?2, name = ?3, body = ?4, updated_at = ?5
               WHERE id = ?1";
    let updated_at = now.max(current.updated_at);
    let done = cx.conn.prepare_cached(sql)?.execute((
        id.to_string(),
        base + 1,
        &name,
        body.get(),
        updated_at.0,
    ));
    named(done)?;
    cx.tell(Note::Grounds);
    Ok(EnvironmentRow {
        revision: base + 1,
        name,
        body: body.into(),
        updated_at,
        ..current
    })
}

pub(crate) fn archive(
    cx: &mut Cx<'_>,
    workspace: WorkspaceId,
    id: EnvironmentId,
    now: Micros,
) -> Told<EnvironmentRow> {
    let sql = "UPDATE environments
               SET archived_at = ?3, updated_at = max(updated_at, ?3), revision = revision + 1
               WHERE id = ?1 AND workspace = ?2 AND archived_at IS NULL";
    let key = (id.to_string(), workspace.to_string(), now.0);
    cx.conn.prepare_cached(sql)?.execute(key)?;
    cx.tell(Note::Grounds);
    get(cx.conn, workspace, id)
}

pub(crate) fn delete(cx: &mut Cx<'_>, workspace: WorkspaceId, id: EnvironmentId) -> Told<()> {
    get(cx.conn, workspace, id)?;
    let key = id.to_string();
    if !grounds::clear(cx, &key)? {
        return Err(Conflict::InUse.into());
    }
    cx.conn
        .prepare_cached("DELETE FROM environments WHERE id = ?1")?
        .execute([&key])?;
    cx.tell(Note::Grounds);
    Ok(())
}

pub(crate) fn list(
    conn: &Connection,
    workspace: WorkspaceId,
    list: &List<EnvironmentId>,
) -> Told<Slice<EnvironmentRow>> {
    let scope = workspace.to_string();
    let key = |row: &EnvironmentRow| (row.created_at, row.id.to_string());
    Ok(page(
        conn,
        &SOURCE,
        &[(":scope", &scope)],
        list,
        environment_row,
        key,
    )?)
}
