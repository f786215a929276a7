//! `/v1/x/master_key`: which key wraps the secrets, and another one for it. The key itself is never asked for and
//! never told.

use std::sync::Arc;

use axum::response::Response;
use contract::query;
use schemars::JsonSchema;
use serde::Serialize;

use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// The master key in force.
#[derive(Serialize, JsonSchema)]
pub(crate) struct MasterKey {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "master_key"))]
    kind: &'static str,
    /// Counts the keys of this database, from 1.
    version: u32,
    /// Whether a rotation was begun and has not ended.
    rotating: bool,
    /// Secrets that this request wrapped under the new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    wrapped: Option<u64>,
}

/// `GET /v1/x/master_key`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    told(&gateway, None)
}

/// `POST /v1/x/master_key/rotate`. A client that goes away stops it half-way; the next request goes on.
pub(crate) async fn rotate(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let done = gateway.vault.rotate(&gateway.store).await?;
    told(&gateway, Some(done.wrapped))
}

fn told(gateway: &Gateway, wrapped: Option<u64>) -> Result<Response, Failure> {
    reply::json(&MasterKey {
        kind: "master_key",
        version: gateway.vault.key_version(),
        rotating: gateway.vault.is_rotating(),
        wrapped,
    })
}
