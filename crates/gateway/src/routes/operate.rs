//! `/v1/x`: what operators do with a running server. Keys are shown once, when they are made.

use std::sync::Arc;

use axum::response::Response;
use contract::error::ApiError;
use contract::ids::{ApiKeyId, MintedWorkspaceId, WorkspaceId};
use contract::page::Page;
use contract::parse::Invalid;
use contract::query;
use contract::time::Micros;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::error::Thing;
use store::keys::{ApiKeyRow, KeyRole, WorkspaceRow};

use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// Characters of a name.
const NAME: usize = 255;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateWorkspace {
    name: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    name: String,
    /// Absent: the default one.
    #[serde(default)]
    workspace_id: Option<WorkspaceId>,
    /// Whether it opens `/v1/x`.
    #[serde(default)]
    operator: bool,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Workspace {
    id: WorkspaceId,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "workspace"))]
    kind: &'static str,
    name: String,
    created_at: Micros,
    archived_at: Option<Micros>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKey")]
pub(crate) struct Key {
    id: ApiKeyId,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "api_key"))]
    kind: &'static str,
    name: String,
    workspace_id: WorkspaceId,
    operator: bool,
    /// Enough to recognise it by.
    hint: String,
    created_at: Micros,
    revoked_at: Option<Micros>,
    /// The key itself, in the answer that makes it and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServerStatus")]
pub(crate) struct Status {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "status"))]
    kind: &'static str,
    version: &'static str,
    started_at: Micros,
    now: Micros,
    ready: bool,
    draining: bool,
    turns: Turns,
    store: StoreStatus,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenTurns")]
struct Turns {
    running: u64,
    waiting: u64,
}

#[derive(Serialize, JsonSchema)]
struct StoreStatus {
    commits: u64,
    jobs: u64,
    refused: u64,
    events: u64,
    max_batch: u64,
    checkpoints: u64,
    queue_depth: u64,
    subscribers_cut: u64,
}

/// `GET /v1/x/status`
pub(crate) async fn status(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let stats = gateway.store.stats();
    let turns = gateway.store.open_turns().await?;
    reply::json(&Status {
        kind: "status",
        version: env!("CARGO_PKG_VERSION"),
        started_at: gateway.started_at,
        now: gateway.now(),
        ready: gateway.ready().await.is_ok(),
        draining: gateway.shutdown.is_cancelled(),
        turns: Turns {
            running: turns.running,
            waiting: turns.waiting,
        },
        store: StoreStatus {
            commits: stats.commits,
            jobs: stats.jobs,
            refused: stats.refused,
            events: stats.events,
            max_batch: stats.max_batch,
            checkpoints: stats.checkpoints,
            queue_depth: stats.queue_depth,
            subscribers_cut: stats.cut,
        },
    })
}

/// `GET /v1/x/workspaces`
pub(crate) async fn list_workspaces(
    gateway: Arc<Gateway>,
    call: Call,
) -> Result<Response, Failure> {
    query::none(call.query())?;
    let rows = gateway.store.workspaces().await?;
    let data = rows.into_iter().map(workspace).collect();
    reply::json(&Page::<Workspace> {
        data,
        next_page: None,
    })
}

/// `POST /v1/x/workspaces`
pub(crate) async fn create_workspace(
    gateway: Arc<Gateway>,
    mut call: Call,
) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<CreateWorkspace>().await?;
    check_name(&request.name)?;
    let id = WorkspaceId::Minted(MintedWorkspaceId::from_bits(gateway.id_bits()));
    let row = gateway
        .store
        .create_workspace(id, request.name, gateway.now())
        .await?;
    reply::json(&workspace(row))
}

/// `POST /v1/x/workspaces/{workspace_id}/archive`
pub(crate) async fn archive_workspace(
    gateway: Arc<Gateway>,
    mut call: Call,
) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let id = call.id("workspace_id", "Workspace")?;
    if id == WorkspaceId::Default {
        return Err(ApiError::invalid("The default workspace cannot be archived.").into());
    }
    let row = gateway.store.archive_workspace(id, gateway.now()).await?;
    reply::json(&workspace(row))
}

/// `GET /v1/x/keys`
pub(crate) async fn list_keys(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let rows = gateway.store.api_keys(None).await?;
    let data = rows.into_iter().map(|row| key(row, None)).collect();
    reply::json(&Page::<Key> {
        data,
        next_page: None,
    })
}

/// `POST /v1/x/keys`
pub(crate) async fn create_key(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let request = call.json::<CreateKey>().await?;
    check_name(&request.name)?;
    let minted = gateway.vault.mint_api_key();
    let row = ApiKeyRow {
        id: ApiKeyId::from_bits(gateway.id_bits()),
        workspace: request.workspace_id.unwrap_or(WorkspaceId::Default),
        hash: minted.hash,
        prefix: minted.prefix,
        last4: minted.last4,
        name: request.name,
        role: if request.operator {
            KeyRole::Operator
        } else {
            KeyRole::Workspace
        },
        created_at: gateway.now(),
        revoked_at: None,
    };
    let created = gateway.store.create_api_key(row).await;
    let row = created
        .map_err(|failure| crate::error::named(failure, |_: &Thing| "workspace_id".to_owned()))?;
    reply::json(&key(row, Some(minted.secret.expose().to_owned())))
}

/// `POST /v1/x/keys/{key_id}/revoke`
pub(crate) async fn revoke_key(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let id = call
        .text("key_id")
        .parse()
        .map_err(|_| missing("API key"))?;
    let row = gateway.store.revoke_api_key(id, gateway.now()).await?;
    reply::json(&key(row, None))
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let length = name.chars().count();
    if (1..=NAME).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Invalid::at(
        "name",
        format!("must have 1 to {NAME} characters and no control characters"),
    ))
}

fn workspace(row: WorkspaceRow) -> Workspace {
    Workspace {
        id: row.id,
        kind: "workspace",
        name: row.name,
        created_at: row.created_at,
        archived_at: row.archived_at,
    }
}

fn key(row: ApiKeyRow, secret: Option<String>) -> Key {
    Key {
        id: row.id,
        kind: "api_key",
        name: row.name,
        workspace_id: row.workspace,
        operator: row.role == KeyRole::Operator,
        hint: format!("{}…{}", row.prefix, row.last4),
        created_at: row.created_at,
        revoked_at: row.revoked_at,
        key: secret,
    }
}
