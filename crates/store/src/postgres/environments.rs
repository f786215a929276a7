//! SQL of `environments`.

use contract::ids::{EnvironmentId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;
use tokio_postgres::Row;

use super::fault::{Read, is_referred_to, is_taken};
use super::paging::{Source, page};
use super::row::{get as column, micros, micros_opt, raw, small, text};
use super::value::values;
use super::{Conn, Cx, Told};
use crate::environments::EnvironmentRow;
use crate::error::{Conflict, Error, Thing};
use crate::page::{List, Slice};
use crate::rules::told::Note;

const SOURCE: Source = Source {
    select: "SELECT t.id, t.workspace, t.revision, t.name, t.body, t.created_at, t.updated_at,
        t.archived_at FROM environments t",
    scope: "t.workspace = $1",
    archived: "t.archived_at",
};

fn environment_row(row: &Row) -> Read<EnvironmentRow> {
    Ok(EnvironmentRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        revision: small(row, 2)?,
        name: column(row, 3)?,
        body: raw(row, 4)?.into(),
        created_at: micros(row, 5)?,
        updated_at: micros(row, 6)?,
        archived_at: micros_opt(row, 7)?,
    })
}

pub(crate) async fn create(cx: &mut Cx, row: EnvironmentRow) -> Told<EnvironmentRow> {
    let sql = "INSERT INTO environments
                 (id, workspace, revision, name, created_at, updated_at, body)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = values![
        row.id.to_string(),
        row.workspace.to_string(),
        row.revision,
        &row.name,
        row.created_at.0,
        row.updated_at.0,
        row.body.get(),
    ];
    named(cx.conn.execute(sql, values).await)?;
    Ok(row)
}

fn named(done: Read<u64>) -> Told<()> {
    match done {
        Err(failed) if is_taken(&failed) => Err(Conflict::EnvironmentName.into()),
        Err(failed) => Err(failed.into()),
        Ok(_) => Ok(()),
    }
}

pub(crate) async fn get(
    conn: &Conn,
    workspace: WorkspaceId,
    id: EnvironmentId,
) -> Told<EnvironmentRow> {
    let sql = format!("{} WHERE t.id = $1 AND t.workspace = $2", SOURCE.select);
    let key = values![id.to_string(), workspace.to_string()];
    match conn.row(&sql, key).await? {
        Some(row) => Ok(environment_row(&row)?),
        None => Err(Thing::Environment(id).into()),
    }
}

/// That a new session may be made in it, without reading it.
pub(super) async fn check(conn: &Conn, workspace: WorkspaceId, id: EnvironmentId) -> Told<()> {
    let sql = "SELECT archived_at IS NOT NULL FROM environments WHERE id = $1 AND workspace = $2";
    let key = values![id.to_string(), workspace.to_string()];
    match conn.row(sql, key).await? {
        None => Err(Thing::Environment(id).into()),
        Some(row) if column(&row, 0)? => Err(Error::Archived(Thing::Environment(id)).into()),
        Some(_) => Ok(()),
    }
}

pub(crate) async fn update(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: EnvironmentId,
    base: u32,
    name: String,
    body: Box<RawValue>,
    now: Micros,
) -> Told<EnvironmentRow> {
    let sql = "SELECT 1 FROM environments WHERE id = $1 FOR NO KEY UPDATE";
    cx.conn.row(sql, values![id.to_string()]).await?;
    let current = get(&cx.conn, workspace, id).await?;
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
    let sql = "UPDATE environments SET revision = $2, name = $3, body = $4, updated_at = $5
               WHERE id = $1";
    let updated_at = now.max(current.updated_at);
    let values = values![id.to_string(), base + 1, &name, body.get(), updated_at.0,];
    named(cx.conn.execute(sql, values).await)?;
    cx.tell(Note::Grounds);
    Ok(EnvironmentRow {
        revision: base + 1,
        name,
        body: body.into(),
        updated_at,
        ..current
    })
}

pub(crate) async fn archive(
    cx: &mut Cx,
    workspace: WorkspaceId,
    id: EnvironmentId,
    now: Micros,
) -> Told<EnvironmentRow> {
    let sql = "UPDATE environments
               SET archived_at = $3, updated_at = greatest(updated_at, $3), revision = revision + 1
               WHERE id = $1 AND workspace = $2 AND archived_at IS NULL";
    let key = values![id.to_string(), workspace.to_string(), now.0];
    cx.conn.execute(sql, key).await?;
    cx.tell(Note::Grounds);
    get(&cx.conn, workspace, id).await
}

pub(crate) async fn delete(cx: &mut Cx, workspace: WorkspaceId, id: EnvironmentId) -> Told<()> {
    get(&cx.conn, workspace, id).await?;
    let key = id.to_string();
    // Sessions refer to it: one that another replica makes meanwhile is seen too.
    let done = cx
        .conn
        .execute("DELETE FROM environments WHERE id = $1", values![&key])
        .await;
    match done {
        Err(failed) if is_referred_to(&failed) => return Err(Conflict::InUse.into()),
        done => done?,
    };
    cx.tell(Note::Grounds);
    Ok(())
}

pub(crate) async fn list(
    conn: &Conn,
    workspace: WorkspaceId,
    list: &List<EnvironmentId>,
) -> Told<Slice<EnvironmentRow>> {
    let scope = || vec![workspace.to_string().into()];
    let key = |row: &EnvironmentRow| (row.created_at, row.id.to_string());
    Ok(page(conn, &SOURCE, &scope, list, environment_row, key).await?)
}
