//! SQL of `session_rows`, `grounds` and `session_states`, read side.

use contract::ids::{AgentId, EnvironmentId, SessionId, VaultId, WorkspaceId};
use rusqlite::{Connection, OptionalExtension, Row};
use session::{State, Status};

use super::paging::{Source, page};
use super::row::{json, json_with, micros, micros_opt, raw, text};
use super::{Fault, Told, agents, environments, outcomes, vaults};
use crate::error::Thing;
use crate::page::{List, Slice};
use crate::rules::outcomes::read;
use crate::rules::{status_name, status_named, usable, within};
use crate::sessions::{Resolved, Scope, SessionFilter, SessionRow};

macro_rules! select {
    () => {
        concat!("SELECT t.id, t.workspace, t.agent, g.agent_version, coalesce(t.agent_body, g.agent_body),
            g.environment, g.environment_body, g.vaults, t.title, t.metadata, st.state, t.created_at, st.updated_at,
            st.archived_at, ",
            outcomes::of_session!(),
            "
         FROM session_rows t CROSS JOIN grounds g ON g.num = t.ground CROSS JOIN session_states st ON st.num = t.num")
    };
}

const OF_WORKSPACE: Source = Source {
    select: select!(),
    scope: "t.workspace = :scope AND (:any OR st.status IN (:s0, :s1, :s2, :s3))",
    archived: "st.archived_at",
};

const OF_AGENT: Source = Source {
    select: select!(),
    scope: "t.workspace = :scope AND t.agent = :agent
        AND (:version IS NULL OR g.agent_version = :version)
        AND (:any OR st.status IN (:s0, :s1, :s2, :s3))",
    archived: "st.archived_at",
};

/// The status stored in a column.
pub(super) fn status_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Status> {
    let name: String = row.get(at)?;
    status_named(&name).map_err(|why| super::row::unreadable(at, why))
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let state: State = json(row, 10)?;
    state.check();
    Ok(SessionRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        agent_id: text(row, 2)?,
        agent_version: row.get(3)?,
        agent: raw(row, 4)?.into(),
        environment_id: text(row, 5)?,
        environment: raw(row, 6)?.into(),
        vault_ids: json(row, 7)?,
        profile: session::input::Profile {
            title: row.get(8)?,
            metadata: json(row, 9)?,
        },
        state,
        created_at: micros(row, 11)?,
        updated_at: micros(row, 12)?,
        archived_at: micros_opt(row, 13)?,
        outcomes: json_with(row, 14, read)?,
    })
}

/// The session's number, if it is within `scope`.
pub(super) fn num_of(conn: &Connection, scope: Scope, id: SessionId) -> Told<i64> {
    let sql = "SELECT num, workspace FROM session_rows WHERE id = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement
        .query_row([id.to_string()], |row| Ok((row.get(0)?, text(row, 1)?)))
        .optional()?;
    match found {
        Some((num, workspace)) if within(scope, workspace) => Ok(num),
        Some(_) | None => Err(Thing::Session(id).into()),
    }
}

pub(crate) fn get(conn: &Connection, scope: Scope, id: SessionId) -> Told<SessionRow> {
    let sql = concat!(select!(), " WHERE t.id = ?1");
    let mut statement = conn.prepare_cached(sql)?;
    let row = statement
        .query_row([id.to_string()], session_row)
        .optional()?;
    row.filter(|row| within(scope, row.workspace))
        .ok_or_else(|| Thing::Session(id).into())
}

pub(crate) fn existing(conn: &Connection, ids: &[SessionId]) -> Told<Vec<SessionId>> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM session_rows WHERE id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        if statement.exists([id.to_string()])? {
            found.push(*id);
        }
    }
    Ok(found)
}

pub(crate) fn list(
    conn: &Connection,
    workspace: WorkspaceId,
    list: &List<SessionId>,
    filter: &SessionFilter,
) -> Told<Slice<SessionRow>> {
    let scope = workspace.to_string();
    let any = filter.statuses.is_empty();
    let status = |wanted| {
        filter
            .statuses
            .contains(&wanted)
            .then(|| status_name(wanted))
    };
    let (s0, s1) = (status(Status::Idle), status(Status::Running));
    let (s2, s3) = (status(Status::Rescheduling), status(Status::Terminated));
    let key = |row: &SessionRow| (row.created_at, row.id.to_string());
    let agent = filter.agent_id.map(|a| a.to_string());
    let mut bound: Vec<(&str, &dyn rusqlite::ToSql)> = vec![
        (":scope", &scope),
        (":any", &any),
        (":s0", &s0),
        (":s1", &s1),
        (":s2", &s2),
        (":s3", &s3),
    ];
    let source = if agent.is_some() {
        bound.push((":agent", &agent));
        bound.push((":version", &filter.agent_version));
        &OF_AGENT
    } else {
        &OF_WORKSPACE
    };
    Ok(page(conn, source, &bound, list, session_row, key)?)
}

pub(crate) fn resolve(
    conn: &Connection,
    workspace: WorkspaceId,
    agent: AgentId,
    version: Option<u32>,
    environment: EnvironmentId,
    vault_ids: &[VaultId],
) -> Told<Resolved> {
    let resolved = Resolved {
        agent: agents::get(conn, workspace, agent, version)?,
        environment: environments::get(conn, workspace, environment)?,
        vaults: vaults::views(conn, workspace, vault_ids)?,
    };
    usable(&resolved).map_err(Fault::Told)?;
    Ok(resolved)
}
