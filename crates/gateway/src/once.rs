//! `Idempotency-Key` on POST: a request that is sent again within 24 hours gets the answer of the first
//! and does nothing. Additive: the SDKs send a POST again without one (docs/compatibility.md).
//!
//! Creates and sends keep their answer in the transaction that they write ([`crate::call::Call::store`]).
//! What sets values or archives changes nothing when it is done twice, so its answer is kept after it. A
//! refusal is not kept: the same request may do later.
//!
//! A workspace has room for so many bytes of answers (`limits.workspace_kept_bytes`). What it has no room for is
//! refused and not done: to forget an earlier answer would let an earlier request be done twice. Only what changes
//! nothing when it is done twice may be done and go unkept, where the room went while it was under way.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use contract::error::ApiError;
use contract::ids::WorkspaceId;
use http_body_util::BodyExt as _;
use store::kept::{Kept, Mark, Slot};

use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::limits::IDEMPOTENCY_KEY;
use crate::metrics::Limit;
use crate::reply;
use crate::table::{Beta, Handler, Route};

const KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Has `handler` answer, unless the same request was answered before.
pub(crate) async fn answer(
    gateway: Arc<Gateway>,
    route: &Route,
    handler: Handler,
    mut call: Call,
) -> Result<Response, Failure> {
    let Some(key) = key(route, &call.headers)? else {
        return handler(gateway, call).await;
    };
    let slot = Slot {
        id: id(&gateway, call.workspace(), key),
        request: request(&gateway, route, &mut call).await?,
        now: gateway.now(),
    };
    if let Some(kept) = gateway.store.kept(slot.id, slot.now).await? {
        return Ok(again(kept, &slot)?);
    }
    call.once = Some(slot);
    let answered = match gateway.store.make_room(slot).await {
        Ok(()) => handler(Arc::clone(&gateway), call).await,
        Err(full) => Err(full.into()),
    };
    if answered.as_ref().is_err_and(Failure::is_unkept) {
        gateway.metrics.hit(Limit::Kept);
    }
    match answered {
        Ok(response) => keep(&gateway, slot, response).await,
        // The same request, sent meanwhile, may have come first.
        Err(failure) => match gateway.store.kept(slot.id, slot.now).await {
            Ok(Some(kept)) => Ok(again(kept, &slot)?),
            Ok(None) | Err(_) => Err(failure),
        },
    }
}

/// The key of a request that has one.
fn key<'h>(route: &Route, headers: &'h HeaderMap) -> Result<Option<&'h str>, ApiError> {
    let Some(value) = headers.get(KEY).filter(|_| route.method == Method::POST) else {
        return Ok(None);
    };
    if matches!(route.beta, Beta::Operator | Beta::Own) {
        // What these answer may be a key, and that is stored nowhere.
        return Err(ApiError::invalid(
            "Idempotency-Key: the routes under /v1/x do not take it; leave it out",
        ));
    }
    let visible = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = value.to_str().ok().map(str::trim).filter(visible);
    text.filter(|text| (1..=IDEMPOTENCY_KEY).contains(&text.len()))
        .map(Some)
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "Idempotency-Key: must be 1 to {IDEMPOTENCY_KEY} visible ASCII characters"
            ))
        })
}

fn id(gateway: &Gateway, workspace: WorkspaceId, key: &str) -> Mark {
    let workspace = workspace.to_string();
    let workspace = workspace.as_bytes();
    let owner = gateway.vault.mark(&[b"kept", workspace]);
    let chosen = gateway
        .vault
        .mark(&[b"idempotency", workspace, key.as_bytes()]);
    Mark::of(Mark(owner), Mark(chosen))
}

async fn request(gateway: &Gateway, route: &Route, call: &mut Call) -> Result<Mark, ApiError> {
    let body = call.read_ahead().await?;
    let (path, query) = (call.path.as_bytes(), call.query().as_bytes());
    let method = route.method.as_str().as_bytes();
    Ok(Mark(
        gateway
            .vault
            .mark(&[b"request", method, path, query, &body]),
    ))
}

/// The answer of the first request, once more.
fn again(kept: Kept, slot: &Slot) -> Result<Response, ApiError> {
    if kept.request != slot.request {
        return Err(ApiError::invalid(
            "Idempotency-Key: another request was made with this key in the last 24 hours; send the \
             same request, or take a new key",
        )
        .code("idempotency_key_reused"));
    }
    let mut response = reply::raw(kept.body.into());
    let headers = response.headers_mut();
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// Answers with what is kept, which may say another time than the handler did; keeps it, if no write has.
async fn keep(gateway: &Gateway, slot: Slot, response: Response) -> Result<Response, Failure> {
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    if let Some(kept) = gateway.store.kept(slot.id, slot.now).await? {
        return Ok(reply::raw(kept.body.into()));
    }
    let body = response.into_body().collect().await;
    let body = body.map_err(Failure::Body)?.to_bytes();
    match gateway.store.keep(slot, body.to_vec()).await {
        Ok(kept) => Ok(reply::raw(kept.body.into())),
        Err(store::Error::Full { .. }) => {
            gateway.metrics.hit(Limit::Kept);
            Ok(reply::raw(body.into()))
        }
        Err(error) => Err(error.into()),
    }
}
