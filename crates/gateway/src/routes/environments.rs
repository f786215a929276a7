//! Environments (api.md §5).

use std::sync::Arc;

use axum::response::Response;
use contract::environment::{
    CreateEnvironment, Environment, EnvironmentDefinition, UpdateEnvironment,
};
use contract::ids::{EnvironmentId, WorkspaceId};
use contract::page::{Deleted, Page};
use contract::query::{self, ListArchivable, Order, Range};
use contract::session::SandboxWishes;
use store::Conflict;
use store::environments::EnvironmentRow;
use store::error::Thing;

use super::{REDO, stored};
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging::Keyset;
use crate::reply;

/// `POST /v1/environments`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let definition = call.json::<CreateEnvironment>().await?.resolve()?;
    SandboxWishes::check(&definition.metadata)?;
    let body = stored::write(&definition)?;
    let id = EnvironmentId::from_bits(gateway.id_bits());
    let (workspace, now) = (call.workspace(), gateway.now());
    let name = definition.name;
    let store = call.store(&gateway, |row: &EnvironmentRow| {
        reply::bytes(&object(row.clone())?)
    });
    let row = store
        .create_environment(workspace, id, name, body, now)
        .await?;
    reply::json(&object(row)?)
}

/// `GET /v1/environments/{environment_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let row = gateway
        .store
        .environment(call.workspace(), id(&call)?)
        .await?;
    reply::json(&object(row)?)
}

/// `POST /v1/environments/{environment_id}`
pub(crate) async fn update(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let id = id(&call)?;
    let update = call.json::<UpdateEnvironment>().await?;
    let mut tries = 0;
    loop {
        match attempt(&gateway, call.workspace(), id, update.clone()).await {
            Err(Failure::Store(store::Error::Conflict(Conflict::Revision { .. })))
                if tries < REDO =>
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
    id: EnvironmentId,
    update: UpdateEnvironment,
) -> Result<EnvironmentRow, Failure> {
    let row = gateway.store.environment(workspace, id).await?;
    if row.archived_at.is_some() {
        return Err(store::Error::Archived(Thing::Environment(id)).into());
    }
    let before = definition(&row)?;
    let after = before.updated(update)?;
    SandboxWishes::check(&after.metadata)?;
    if after == before {
        return Ok(row);
    }
    let body = stored::write(&after)?;
    let (base, now) = (row.revision, gateway.now());
    Ok(gateway
        .store
        .update_environment(workspace, id, base, after.name, body, now)
        .await?)
}

/// `GET /v1/environments`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let query = ListArchivable::parse(call.query())?;
    let archived = query.include_archived;
    let keys = Keyset::new(
        &call,
        &query.paging,
        Order::Desc,
        Range::default(),
        archived,
    )?;
    let slice = gateway
        .store
        .environments(call.workspace(), keys.list.clone())
        .await?;
    let next_page = keys.next(&slice, |row: &EnvironmentRow| (row.created_at, row.id));
    let data = slice
        .items
        .into_iter()
        .map(object)
        .collect::<Result<Vec<_>, _>>()?;
    reply::json(&Page { data, next_page })
}

/// `POST /v1/environments/{environment_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let (workspace, now) = (call.workspace(), gateway.now());
    let row = gateway
        .store
        .archive_environment(workspace, id(&call)?, now)
        .await?;
    reply::json(&object(row)?)
}

/// `DELETE /v1/environments/{environment_id}`
pub(crate) async fn delete(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let id = id(&call)?;
    gateway
        .store
        .delete_environment(call.workspace(), id)
        .await?;
    reply::json(&Deleted { id })
}

fn id(call: &Call) -> Result<EnvironmentId, Failure> {
    Ok(call.id("environment_id", "Environment")?)
}

/// The definition of a stored environment.
pub(super) fn definition(row: &EnvironmentRow) -> Result<EnvironmentDefinition, Failure> {
    stored::read("an environment", &row.body)
}

/// The same, remembered.
pub(super) fn setting(
    gateway: &Gateway,
    row: &EnvironmentRow,
) -> Result<Arc<EnvironmentDefinition>, Failure> {
    let key = (row.id, row.revision);
    if let Some(known) = gateway.settings.known(&key) {
        return Ok(known);
    }
    let read = Arc::new(definition(row)?);
    gateway.settings.keep(key, &read, row.body.get().len());
    Ok(read)
}

fn object(row: EnvironmentRow) -> Result<Environment, Failure> {
    let definition = definition(&row)?;
    Ok(Environment::new(
        row.id,
        definition,
        row.created_at,
        row.updated_at,
        row.archived_at,
    ))
}
