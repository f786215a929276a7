//! Agents and their versions (api.md §4).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::response::Response;
use contract::agent::{Agent, AgentDefinition, CreateAgent, Found, UpdateAgent};
use contract::ids::{AgentId, WorkspaceId};
use contract::page::Page;
use contract::query::{self, GetAgent, ListAgents, ListPlain, Order, Range};
use store::Conflict;
use store::agents::{AgentRow, VersionList};
use store::error::Thing;

use super::{REDO, stored};
use crate::call::Call;
use crate::cursor::{Cursor, Side};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging::{self, Keyset};
use crate::reply;

/// `POST /v1/agents`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let mut definition = call.json::<CreateAgent>().await?.resolve()?;
    fill_roster(&gateway, call.workspace(), None, &mut definition).await?;
    let now = gateway.now();
    let id = AgentId::from_bits(gateway.id_bits());
    let body = stored::write(&definition)?;
    let store = call.store(&gateway, |row: &AgentRow| {
        reply::bytes(&object(row.clone())?)
    });
    let row = store.create_agent(call.workspace(), id, body, now).await?;
    reply::json(&object(row)?)
}

/// `GET /v1/agents/{agent_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let GetAgent { version } = GetAgent::parse(call.query())?;
    let row = gateway
        .store
        .agent(call.workspace(), id(&call)?, version)
        .await?;
    reply::json(&object(row)?)
}

/// `POST /v1/agents/{agent_id}`
pub(crate) async fn update(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let id = id(&call)?;
    let update = call.json::<UpdateAgent>().await?;
    let named = update.version;
    let mut tries = 0;
    loop {
        match attempt(&gateway, call.workspace(), id, named, update.clone()).await {
            Err(Failure::Store(store::Error::Conflict(Conflict::Version { .. })))
                if named.is_none() && tries < REDO =>
            {
                tries += 1;
            }
            done => return reply::json(&object(done?)?),
        }
    }
}

async fn attempt(
    gateway: &Gateway,
    workspace: WorkspaceId,
    id: AgentId,
    named: Option<NonZeroU32>,
    update: UpdateAgent,
) -> Result<AgentRow, Failure> {
    let row = gateway.store.agent(workspace, id, None).await?;
    if row.archived_at.is_some() {
        return Err(store::Error::Archived(Thing::Agent).into());
    }
    if named.is_some_and(|named| named.get() != row.version) {
        return Err(store::Error::Conflict(Conflict::Version {
            current: row.version,
        })
        .into());
    }
    let before = definition(&row)?;
    let mut after = before.updated(update)?;
    fill_roster(gateway, workspace, Some(id), &mut after).await?;
    if after == before {
        return Ok(row);
    }
    let body = stored::write(&after)?;
    Ok(gateway
        .store
        .update_agent(workspace, id, row.version, body, gateway.now())
        .await?)
}

/// `GET /v1/agents`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let query = ListAgents::parse(call.query())?;
    let (created, archived) = (query.created_at, query.include_archived);
    let keys = Keyset::new(&call, &query.paging, Order::Desc, created, archived)?;
    let slice = gateway
        .store
        .agents(call.workspace(), keys.list.clone())
        .await?;
    let next_page = keys.next(&slice, |row: &AgentRow| (row.created_at, row.id));
    page(slice.items, next_page)
}

/// `POST /v1/agents/{agent_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let row = gateway
        .store
        .archive_agent(call.workspace(), id(&call)?, gateway.now())
        .await?;
    reply::json(&object(row)?)
}

/// `GET /v1/agents/{agent_id}/versions`
pub(crate) async fn versions(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = id(&call)?;
    let ListPlain { paging } = ListPlain::parse_versions(call.query())?;
    let scope = paging::scope(&call, Order::Desc, Range::default());
    let cursor = paging
        .page
        .as_deref()
        .map(|text| scope.read::<u64>(text))
        .transpose()?;
    let below = cursor.map(|Cursor { position, .. }| u32::try_from(position).unwrap_or(u32::MAX));
    let list = VersionList {
        limit: paging.limit,
        below,
    };
    let slice = gateway
        .store
        .agent_versions(call.workspace(), id, list)
        .await?;
    let last = slice.items.last().filter(|_| slice.has_next);
    let next_page = last.map(|row| scope.write(Side::After, &u64::from(row.version)));
    page(slice.items, next_page)
}

fn id(call: &Call) -> Result<AgentId, Failure> {
    Ok(call.id("agent_id", "Agent")?)
}

fn page(rows: Vec<AgentRow>, next_page: Option<String>) -> Result<Response, Failure> {
    let data = rows
        .into_iter()
        .map(object)
        .collect::<Result<Vec<_>, _>>()?;
    reply::json(&Page { data, next_page })
}

/// Looks up the agents that a team names.
async fn fill_roster(
    gateway: &Gateway,
    workspace: WorkspaceId,
    own: Option<AgentId>,
    definition: &mut AgentDefinition,
) -> Result<(), Failure> {
    let found = found(gateway, workspace, definition).await?;
    let mut found = found.into_iter();
    definition.fill_roster(own, |_| found.next().flatten())?;
    Ok(())
}

/// What there is of the agents that a team names, in order.
async fn found(
    gateway: &Gateway,
    workspace: WorkspaceId,
    definition: &AgentDefinition,
) -> Result<Vec<Option<Found>>, Failure> {
    let mut found = Vec::new();
    for named in definition.referenced() {
        let row = match gateway
            .store
            .agent(workspace, named.id, named.version)
            .await
        {
            Ok(row) => Some(row),
            Err(store::Error::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        found.push(match row {
            None => None,
            Some(row) => Some(Found {
                version: row.version,
                archived: row.archived_at.is_some(),
                multiagent: self::definition(&row)?.multiagent.is_some(),
            }),
        });
    }
    Ok(found)
}

/// The agents that a definition names, as its session copies them: each at the version that was pinned when it was
/// saved, and held to the same rules as then.
pub(super) async fn team(
    gateway: &Gateway,
    workspace: WorkspaceId,
    own: AgentId,
    definition: &AgentDefinition,
) -> Result<HashMap<(AgentId, u32), AgentDefinition>, Failure> {
    let mut team = HashMap::new();
    if definition.multiagent.is_none() {
        return Ok(team);
    }
    let mut checked = definition.clone();
    let found = found(gateway, workspace, definition).await?;
    let mut found = found.into_iter();
    let checked = checked.fill_roster(Some(own), |_| found.next().flatten());
    checked.map_err(|bad| bad.under("agent"))?;
    for named in definition.referenced() {
        let row = gateway
            .store
            .agent(workspace, named.id, named.version)
            .await?;
        team.insert((row.id, row.version), self::definition(&row)?);
    }
    Ok(team)
}

/// The definition of a stored version.
pub(super) fn definition(row: &AgentRow) -> Result<AgentDefinition, Failure> {
    stored::read("an agent", &row.body)
}

fn object(row: AgentRow) -> Result<Agent, Failure> {
    let definition = definition(&row)?;
    Ok(Agent::new(
        row.id,
        row.version,
        definition,
        row.created_at,
        row.updated_at,
        row.archived_at,
    ))
}
