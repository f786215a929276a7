//! Who asks: the key in the headers, or the operator on the control socket. A missing key and a wrong
//! one are answered alike (recorded).

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use contract::error::{ApiError, ErrorKind};
use contract::ids::{ApiKeyId, WorkspaceId};
use store::keys::KeyRole;

use crate::admit::WORKSPACE;
use crate::error::store_error;
use crate::gateway::Gateway;
use crate::limits::KEY_BYTES;
use crate::reply::Meta;

/// How a request reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// From anywhere: a key says who asks.
    Key,
    /// Through the control socket or in process: the operator.
    Control,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Principal {
    /// The key they have; none on the control socket.
    pub(crate) key: Option<ApiKeyId>,
    /// The workspace they act in.
    pub(crate) workspace: WorkspaceId,
    /// Whether `/v1/x` is theirs.
    pub(crate) operator: bool,
}

/// Finds out who asks. Costs no read: the store remembers keys until one changes.
pub(crate) async fn principal(
    gateway: &Gateway,
    access: Access,
    headers: &HeaderMap,
    meta: Meta,
) -> Result<Principal, ApiError> {
    match access {
        Access::Control => return operator(gateway, headers, meta).await,
        Access::Key => {}
    }
    let secret = secret(headers).ok_or_else(refused)?;
    let hash = gateway.vault.hash_api_key(secret);
    let found = gateway
        .store
        .authenticate(hash)
        .await
        .map_err(|error| store_error(error, meta))?;
    let key = found.ok_or_else(refused)?;
    Ok(Principal {
        key: Some(key.id),
        workspace: key.workspace,
        operator: key.role == KeyRole::Operator,
    })
}

/// The operator acts in the workspace that the request names, or in the default one.
async fn operator(
    gateway: &Gateway,
    headers: &HeaderMap,
    meta: Meta,
) -> Result<Principal, ApiError> {
    let operator = |workspace| Principal {
        key: None,
        workspace,
        operator: true,
    };
    let Some(named) = headers.get(WORKSPACE) else {
        return Ok(operator(WorkspaceId::Default));
    };
    let named = named
        .to_str()
        .ok()
        .and_then(|id| id.trim().parse::<WorkspaceId>().ok());
    let all = gateway.store.workspaces().await;
    let all = all.map_err(|error| store_error(error, meta))?;
    named
        .filter(|id| all.iter().any(|row| row.id == *id))
        .map(operator)
        .ok_or_else(|| {
            let text = format!(
                "{WORKSPACE}: there is no such workspace; `longhand workspaces list` shows them"
            );
            ApiError::new(ErrorKind::Permission, text)
        })
}

/// `Authorization: Bearer`, or else `x-api-key`.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let key = || headers.get("x-api-key")?.to_str().ok();
    bearer
        .or_else(key)
        .map(str::trim)
        .filter(|key| !key.is_empty() && key.len() <= KEY_BYTES)
}

fn refused() -> ApiError {
    ApiError::new(ErrorKind::Authentication, "Authentication failed")
}
