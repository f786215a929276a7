//! SQL of `sessions` and `session_states`, read side.

use contract::ids::{AgentId, EnvironmentId, SessionId, VaultId, WorkspaceId};
use session::State;
use tokio_postgres::Row;

use super::fault::Read;
use super::paging::{Source, page};
use super::row::{get as column, json, json_with, micros, micros_opt, raw, small, text};
use super::value::values;
use super::{Conn, Fault, Told, agents, environments, outcomes, vaults};
use crate::error::Thing;
use crate::page::{List, Slice};
use crate::rules::outcomes::read;
use crate::rules::{status_name, usable, within};
use crate::sessions::{Resolved, Scope, SessionFilter, SessionRow};

macro_rules! select {
    () => {
        concat!("SELECT t.id, t.workspace, t.agent, t.agent_version, t.agent_body, t.environment,
            t.environment_body, t.vaults, t.title, t.metadata, st.state, t.created_at, st.updated_at,
            st.archived_at, ",
            outcomes::of_session!(),
            "
         FROM sessions t JOIN session_states st ON st.num = t.num")
    };
}

const OF_WORKSPACE: Source = Source {
    select: select!(),
    scope: "t.workspace = $1 AND ($2::text[] IS NULL OR st.status = ANY ($2))",
    archived: "st.archived_at",
};

const OF_AGENT: Source = Source {
    select: select!(),
    scope: "t.workspace = $1 AND ($2::text[] IS NULL OR st.status = ANY ($2))
        AND t.agent = $3 AND ($4::bigint IS NULL OR t.agent_version = $4)",
    archived: "st.archived_at",
};

fn session_row(row: &Row) -> Read<SessionRow> {
    let state: State = json(row, 10)?;
    state.check();
    Ok(SessionRow {
        id: text(row, 0)?,
        workspace: text(row, 1)?,
        agent_id: text(row, 2)?,
        agent_version: small(row, 3)?,
        agent: raw(row, 4)?.into(),
        environment_id: text(row, 5)?,
        environment: raw(row, 6)?.into(),
        vault_ids: json(row, 7)?,
        profile: session::input::Profile {
            title: column(row, 8)?,
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
pub(super) async fn num_of(conn: &Conn, scope: Scope, id: SessionId) -> Told<i64> {
    let sql = "SELECT num, workspace FROM sessions WHERE id = $1";
    match conn.row(sql, values![id.to_string()]).await? {
        Some(row) if within(scope, text(&row, 1)?) => Ok(column(&row, 0)?),
        Some(_) | None => Err(Thing::Session(id).into()),
    }
}

pub(crate) async fn get(conn: &Conn, scope: Scope, id: SessionId) -> Told<SessionRow> {
    let sql = concat!(select!(), " WHERE t.id = $1");
    let row = conn.row(sql, values![id.to_string()]).await?;
    let row = row.as_ref().map(session_row).transpose()?;
    row.filter(|row| within(scope, row.workspace))
        .ok_or_else(|| Thing::Session(id).into())
}

pub(crate) async fn existing(conn: &Conn, ids: &[SessionId]) -> Told<Vec<SessionId>> {
    let mut found = Vec::new();
    for id in ids {
        let sql = "SELECT 1 FROM sessions WHERE id = $1";
        if conn.row(sql, values![id.to_string()]).await?.is_some() {
            found.push(*id);
        }
    }
    Ok(found)
}

pub(crate) async fn list(
    conn: &Conn,
    workspace: WorkspaceId,
    list: &List<SessionId>,
    filter: &SessionFilter,
) -> Told<Slice<SessionRow>> {
    let key = |row: &SessionRow| (row.created_at, row.id.to_string());
    let source = match filter.agent_id {
        Some(_) => &OF_AGENT,
        None => &OF_WORKSPACE,
    };
    let bound = || {
        let statuses = filter.statuses.iter().map(|s| status_name(*s));
        let statuses = statuses.collect::<Vec<_>>();
        let statuses = (!statuses.is_empty()).then_some(statuses);
        let mut bound = vec![workspace.to_string().into(), statuses.into()];
        if let Some(agent) = filter.agent_id {
            bound.extend([agent.to_string().into(), filter.agent_version.into()]);
        }
        bound
    };
    Ok(page(conn, source, &bound, list, session_row, key).await?)
}

pub(crate) async fn resolve(
    conn: &Conn,
    workspace: WorkspaceId,
    agent: AgentId,
    version: Option<u32>,
    environment: EnvironmentId,
    vault_ids: &[VaultId],
) -> Told<Resolved> {
    let resolved = Resolved {
        agent: agents::get(conn, workspace, agent, version).await?,
        environment: environments::get(conn, workspace, environment).await?,
        vaults: vaults::views(conn, workspace, vault_ids).await?,
    };
    usable(&resolved).map_err(Fault::Told)?;
    Ok(resolved)
}
