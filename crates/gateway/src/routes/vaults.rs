//! Vaults (api.md §12.1). Their secrets are in their credentials.

use std::sync::Arc;

use axum::response::Response;
use contract::ids::{VaultId, WorkspaceId};
use contract::page::{Deleted, Page};
use contract::query::{self, ListArchivable, Order, Range};
use contract::vault::{CreateVault, UpdateVault, Vault, VaultDefinition};
use store::Conflict;
use store::error::Thing;
use store::vaults::VaultRow;

use super::REDO;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging::Keyset;
use crate::reply;

/// `POST /v1/vaults`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let definition = call.json::<CreateVault>().await?.resolve()?;
    let id = VaultId::from_bits(gateway.id_bits());
    let VaultDefinition {
        display_name,
        metadata,
    } = definition;
    let (workspace, now) = (call.workspace(), gateway.now());
    let store = call.store(&gateway, |row: &VaultRow| {
        reply::bytes(&object(row.clone()))
    });
    let row = store
        .create_vault(workspace, id, display_name, metadata, now)
        .await?;
    reply::json(&object(row))
}

/// `GET /v1/vaults/{vault_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let row = gateway.store.vault(call.workspace(), id(&call)?).await?;
    reply::json(&object(row))
}

/// `POST /v1/vaults/{vault_id}`
pub(crate) async fn update(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let id = id(&call)?;
    let update = call.json::<UpdateVault>().await?;
    let mut tries = 0;
    loop {
        match attempt(&gateway, call.workspace(), id, update.clone()).await {
            Err(Failure::Store(store::Error::Conflict(Conflict::Revision { .. })))
                if tries < REDO =>
            {
                tries += 1;
            }
            done => return reply::json(&object(done?)),
        }
    }
}

async fn attempt(
    gateway: &Gateway,
    workspace: WorkspaceId,
    id: VaultId,
    update: UpdateVault,
) -> Result<VaultRow, Failure> {
    let row = gateway.store.vault(workspace, id).await?;
    if row.archived_at.is_some() {
        return Err(store::Error::Archived(Thing::Vault(id)).into());
    }
    let before = definition(&row);
    let after = before.updated(update)?;
    if after == before {
        return Ok(row);
    }
    let (base, now) = (row.revision, gateway.now());
    let VaultDefinition {
        display_name,
        metadata,
    } = after;
    Ok(gateway
        .store
        .update_vault(workspace, id, base, display_name, metadata, now)
        .await?)
}

/// `GET /v1/vaults`
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
        .vaults(call.workspace(), keys.list.clone())
        .await?;
    let next_page = keys.next(&slice, |row: &VaultRow| (row.created_at, row.id));
    let data = slice.items.into_iter().map(object).collect();
    reply::json(&Page::<Vault> { data, next_page })
}

/// `POST /v1/vaults/{vault_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let row = gateway
        .store
        .archive_vault(call.workspace(), id(&call)?, gateway.now())
        .await?;
    reply::json(&object(row))
}

/// `DELETE /v1/vaults/{vault_id}`
pub(crate) async fn delete(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let id = id(&call)?;
    gateway.store.delete_vault(call.workspace(), id).await?;
    reply::json(&Deleted { id })
}

/// The vault that the path names.
pub(super) fn id(call: &Call) -> Result<VaultId, Failure> {
    Ok(call.id("vault_id", "Vault")?)
}

fn definition(row: &VaultRow) -> VaultDefinition {
    VaultDefinition {
        display_name: row.display_name.clone(),
        metadata: row.metadata.clone(),
    }
}

fn object(row: VaultRow) -> Vault {
    let definition = VaultDefinition {
        display_name: row.display_name,
        metadata: row.metadata,
    };
    Vault::new(
        row.id,
        definition,
        row.created_at,
        row.updated_at,
        row.archived_at,
    )
}
