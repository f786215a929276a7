//! Actions on keys, workspaces, policies and credentials are recorded before they are done and after, in a chain of
//! hashes of their own. It must never let one be done that is not on the disk, and it records no body.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use contract::error::{ApiError, ErrorKind};
use egress::audit::{Control, Stage};

use crate::call::Call;
use crate::gateway::Gateway;
use crate::once;
use crate::table::{Handler, Route};

/// Below these paths every change is recorded; an environment's networking is the policy of its sandboxes.
const WATCHED: [&str; 6] = [
    "/v1/x/keys",
    "/v1/x/master_key",
    "/v1/x/sandboxes/{sandbox_id}/egress/rules",
    "/v1/x/workspaces",
    "/v1/environments",
    "/v1/vaults",
];

/// Has `handler` answer, recorded if it changes what is watched.
pub(crate) async fn answer(
    gateway: Arc<Gateway>,
    route: &Route,
    handler: Handler,
    call: Call,
) -> Result<Response, ApiError> {
    let meta = call.meta;
    let audit = gateway.control_audit.clone();
    let Some(audit) = audit.filter(|_| is_watched(route)) else {
        let answered = once::answer(gateway, route, handler, call).await;
        return answered.map_err(|failure| failure.answer(meta));
    };
    let begun = Control {
        at: gateway.now(),
        stage: Stage::Begun,
        what: format!("{} {}", route.method, route.path),
        target: call.path.clone(),
        request: Some(meta.request.to_string()),
        key: call.who.key.map(|key| key.to_string()),
        workspace: Some(call.workspace().to_string()),
        status: None,
    };
    if audit.note(begun.clone()).await.is_err() {
        let text = "What is done here is recorded first, and that cannot be written. Try again.";
        return Err(ApiError::new(ErrorKind::Unavailable, text).retry_after(1));
    }
    let answered = once::answer(Arc::clone(&gateway), route, handler, call).await;
    let answered = answered.map_err(|failure| failure.answer(meta));
    let (stage, status) = match &answered {
        Ok(response) => (Stage::Done, response.status().as_u16()),
        Err(error) => (Stage::Refused, error.status),
    };
    let ended = Control {
        at: gateway.now(),
        stage,
        status: Some(status),
        ..begun
    };
    if audit.note(ended).await.is_err() {
        tracing::error!(request_id = %meta.request, "how a recorded action ended is not recorded");
    }
    answered
}

fn is_watched(route: &Route) -> bool {
    let below = |of: &str| {
        let rest = route.path.strip_prefix(of);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Work is not what an environment says.
    let is_work = route
        .path
        .starts_with("/v1/environments/{environment_id}/work");
    route.method != Method::GET && !is_work && WATCHED.iter().any(|of| below(of))
}
