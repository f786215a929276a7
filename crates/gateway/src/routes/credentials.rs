//! Credentials of a vault (api.md §12.2). Secrets are sealed before they are stored and never read back
//! by anything here.

use std::sync::Arc;

use axum::response::Response;
use contract::credential::{
    Auth, CreateCredential, Credential, CredentialDefinition, Secrets, UpdateCredential,
};
use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::page::{Deleted, Page};
use contract::parse::Invalid;
use contract::query::{self, ListArchivable, Order, Range};
use store::error::Thing;
use store::vaults::{
    CredentialChange, CredentialKind, CredentialRow, NewCredential, Slot, VaultRow,
};

use vault::refresh::Named;
use vault::secret::CredentialSecret;

use super::{stored, vaults};
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging::Keyset;
use crate::reply;

/// `POST /v1/vaults/{vault_id}/credentials`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let vault = vaults::id(&call)?;
    let request = call.json::<CreateCredential>().await?;
    let (definition, secrets) = request.resolve(gateway.now())?;
    let row = gateway.store.vault(call.workspace(), vault).await?;
    if row.archived_at.is_some() {
        return Err(store::Error::Archived(Thing::Vault(vault)).into());
    }
    fits(&row, &definition.auth)?;
    let id = CredentialId::from_bits(gateway.id_bits());
    let sealed = gateway
        .vault
        .seal_credential(call.workspace(), id, &whole(secrets));
    let new = NewCredential {
        id,
        kind: kind(&definition.auth),
        slot: slot(&definition.auth),
        auth: stored::write(&definition.auth)?,
        display_name: definition.display_name,
        metadata: definition.metadata,
        sealed,
    };
    let (workspace, now) = (call.workspace(), gateway.now());
    let store = call.store(&gateway, |row: &CredentialRow| {
        reply::bytes(&object(row.clone())?)
    });
    let row = store.create_credential(workspace, vault, new, now).await?;
    reply::json(&object(row)?)
}

/// The secrets of a new credential.
fn whole(secrets: Secrets) -> CredentialSecret {
    CredentialSecret {
        token: secrets
            .main
            .expect("every kind of credential requires its main secret"),
        refresh_token: secrets.refresh_token,
        client_secret: secrets.client_secret,
    }
}

/// The secrets after a change. Those that stay are opened only if there can be any.
fn merged(
    gateway: &Gateway,
    workspace: WorkspaceId,
    row: &CredentialRow,
    secrets: Secrets,
) -> Result<CredentialSecret, Failure> {
    let single = match row.kind {
        CredentialKind::StaticBearer | CredentialKind::EnvironmentVariable => true,
        CredentialKind::McpOauth => false,
    };
    if single && secrets.main.is_some() {
        return Ok(whole(secrets));
    }
    let sealed = row.sealed.as_ref().ok_or(vault::OpenError::Damaged)?;
    let kept = gateway.vault.open_credential(workspace, row.id, sealed)?;
    Ok(CredentialSecret {
        token: secrets.main.unwrap_or(kept.token),
        refresh_token: secrets.refresh_token.or(kept.refresh_token),
        client_secret: secrets.client_secret.or(kept.client_secret),
    })
}

/// A bearer without a server is the key of an LLM vault and nothing else.
fn fits(row: &VaultRow, auth: &Auth) -> Result<(), Invalid> {
    match auth {
        Auth::StaticBearer(bearer)
            if bearer.mcp_server_url.is_none() && !vault::llm::is_llm(&row.metadata) =>
        {
            Err(Invalid::at("auth.mcp_server_url", "is required"))
        }
        Auth::StaticBearer(_) | Auth::McpOauth(_) | Auth::EnvironmentVariable(_) => Ok(()),
    }
}

/// `GET /v1/vaults/{vault_id}/credentials/{credential_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let (vault, id) = ids(&call)?;
    let row = gateway
        .store
        .credential(call.workspace(), vault, id)
        .await?;
    reply::json(&object(row)?)
}

/// `POST /v1/vaults/{vault_id}/credentials/{credential_id}`
pub(crate) async fn update(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let (vault, id) = ids(&call)?;
    let update = call.json::<UpdateCredential>().await?;
    let workspace = call.workspace();
    let row = gateway.store.credential(workspace, vault, id).await?;
    if row.archived_at.is_some() {
        return Err(store::Error::Archived(Thing::Credential(id)).into());
    }
    let before = definition(&row)?;
    let now = gateway.now();
    let (after, secrets) = before.updated(update, now)?;
    if after == before && secrets.is_empty() {
        return reply::json(&object(row)?);
    }
    let sealed = if secrets.is_empty() {
        None
    } else {
        let secret = merged(&gateway, workspace, &row, secrets)?;
        Some(gateway.vault.seal_credential(workspace, id, &secret))
    };
    let change = CredentialChange {
        base: row.revision,
        auth: stored::write(&after.auth)?,
        display_name: after.display_name,
        metadata: after.metadata,
        sealed,
    };
    // A secret is not merged a second time behind the client's back: a change that came between is a
    // conflict.
    let row = gateway
        .store
        .update_credential(workspace, vault, id, change, now)
        .await?;
    reply::json(&object(row)?)
}

/// `GET /v1/vaults/{vault_id}/credentials`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let vault = vaults::id(&call)?;
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
        .credentials(call.workspace(), vault, keys.list.clone())
        .await?;
    let next_page = keys.next(&slice, |row: &CredentialRow| (row.created_at, row.id));
    let data = slice
        .items
        .into_iter()
        .map(object)
        .collect::<Result<Vec<_>, _>>()?;
    reply::json(&Page { data, next_page })
}

/// `POST /v1/vaults/{vault_id}/credentials/{credential_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let (vault, id) = ids(&call)?;
    let (workspace, now) = (call.workspace(), gateway.now());
    let row = gateway
        .store
        .archive_credential(workspace, vault, id, now)
        .await?;
    reply::json(&object(row)?)
}

/// `DELETE /v1/vaults/{vault_id}/credentials/{credential_id}`
pub(crate) async fn delete(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let (vault, id) = ids(&call)?;
    gateway
        .store
        .delete_credential(call.workspace(), vault, id)
        .await?;
    reply::json(&Deleted { id })
}

/// `POST /v1/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate`
pub(crate) async fn validate(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let (vault, credential) = ids(&call)?;
    let it = Named {
        workspace: call.workspace(),
        vault,
        credential,
    };
    reply::json(&gateway.refresher.validate(it).await?)
}

fn ids(call: &Call) -> Result<(VaultId, CredentialId), Failure> {
    Ok((vaults::id(call)?, call.id("credential_id", "Credential")?))
}

fn kind(auth: &Auth) -> CredentialKind {
    match auth {
        Auth::McpOauth(_) => CredentialKind::McpOauth,
        Auth::StaticBearer(_) => CredentialKind::StaticBearer,
        Auth::EnvironmentVariable(_) => CredentialKind::EnvironmentVariable,
    }
}

/// What at most one active credential of the vault may occupy.
fn slot(auth: &Auth) -> Option<Slot> {
    use contract::credential::normal_url;
    match auth {
        Auth::McpOauth(oauth) => Some(Slot::McpServerUrl(normal_url(&oauth.mcp_server_url))),
        Auth::StaticBearer(bearer) => bearer
            .mcp_server_url
            .as_deref()
            .map(|url| Slot::McpServerUrl(normal_url(url))),
        Auth::EnvironmentVariable(variable) => Some(Slot::SecretName(variable.secret_name.clone())),
    }
}

fn definition(row: &CredentialRow) -> Result<CredentialDefinition, Failure> {
    Ok(CredentialDefinition {
        auth: stored::read("a credential", &row.auth)?,
        display_name: row.display_name.clone(),
        metadata: row.metadata.clone(),
    })
}

fn object(row: CredentialRow) -> Result<Credential, Failure> {
    let definition = definition(&row)?;
    Ok(Credential::new(
        row.id,
        row.vault,
        definition,
        row.created_at,
        row.updated_at,
        row.archived_at,
    ))
}
