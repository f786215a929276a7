//! Builds the routers out of the table, and wraps each request: an id, one envelope for every error, a
//! panic that ends its request and nothing else. It knows no route by name but the three that need no
//! key.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use axum::{Extension, Router};
use contract::error::{ApiError, ErrorKind};
use contract::ids::{RequestId, SessionId, compose};
use futures_util::FutureExt;

use crate::admit;
use crate::auth::Access;
use crate::body;
use crate::call::Call;
use crate::client::{self, Peer};
use crate::cors;
use crate::gateway::Gateway;
use crate::openapi;
use crate::reply::{self, Meta};
use crate::serve::handover::Last;
use crate::table::{OPERATE, PUBLIC, Route};
use crate::watched;

/// Which route of the table answered.
#[derive(Clone, Copy)]
struct Served(&'static Route);

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The API as it is served over TCP: every route of the contract, and `/v1/x` for operator keys.
pub fn router(gateway: Arc<Gateway>) -> Router {
    assemble(gateway, Access::Key, PUBLIC.iter().chain(OPERATE))
}

/// The same routes as they are served on the control socket or called in process: whoever reaches this
/// router is the operator, no key is asked for, and `anthropic-workspace-id` chooses the workspace.
pub fn control_router(gateway: Arc<Gateway>) -> Router {
    assemble(gateway, Access::Control, PUBLIC.iter().chain(OPERATE))
}

fn assemble(
    gateway: Arc<Gateway>,
    access: Access,
    routes: impl Iterator<Item = &'static Route>,
) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/llms.txt", get(llms));
    for route in routes {
        router = router.route(route.path, serve(access, route));
    }
    router
        .fallback(async |Extension(meta): Extension<Meta>| reply::error(&reply::no_route(), meta))
        .method_not_allowed_fallback(async |Extension(meta): Extension<Meta>| {
            reply::error(&reply::wrong_method(), meta)
        })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&gateway),
            envelope,
        ))
        .with_state(gateway)
}

/// The service of one route.
fn serve(access: Access, route: &'static Route) -> MethodRouter<Arc<Gateway>> {
    let filter = match route.method {
        Method::GET => MethodFilter::GET,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    };
    on(
        filter,
        move |State(gateway): State<Arc<Gateway>>,
              Extension(meta): Extension<Meta>,
              request: Request| async move {
            let answered = answer(access, route, gateway, meta, request).await;
            let mut response = answered.unwrap_or_else(|refusal| reply::error(&refusal, meta));
            response.extensions_mut().insert(Served(route));
            if route.is_secret() {
                response.extensions_mut().insert(Last);
            }
            response
        },
    )
}

async fn answer(
    access: Access,
    route: &'static Route,
    gateway: Arc<Gateway>,
    meta: Meta,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let admitted = admit::admit(&gateway, access, route, &parts.headers, meta).await;
    let admitted = admitted.and_then(|who| room(&gateway, route).map(|()| who));
    let (who, handler) = match (admitted, route.handler) {
        (Ok(who), Some(handler)) => (who, handler),
        (admitted, _) => {
            body::refuse(&parts.headers, body).await;
            admitted?;
            return Err(not_built(route));
        }
    };
    let params = RawPathParams::from_request_parts(&mut parts, &()).await;
    // A segment that is not UTF-8 names nothing.
    let params = params.map_err(|_| reply::no_route())?;
    let limits = &gateway.config.limits;
    let hold = gateway.shares.hold(limits.bodies, &gateway.metrics);
    let call = Call::new(meta, who, parts, &params, body, limits.body_idle, hold);
    watched::answer(gateway, route, handler, call).await
}

/// Refuses what would write while the disk is almost full. Deleting makes room, and an operator's small
/// writes may be what mends it.
fn room(gateway: &Gateway, route: &Route) -> Result<(), ApiError> {
    let operates = route.path.starts_with("/v1/x/") && !route.path.ends_with("/backup");
    match &gateway.disk {
        Some(disk) if route.method == Method::POST && !operates => disk.room(&gateway.metrics),
        Some(_) | None => Ok(()),
    }
}

fn not_built(route: &Route) -> ApiError {
    ApiError::not_implemented(format!(
        "{} {} is not implemented in this version of Longhand",
        route.method, route.path
    ))
}

/// The outermost layer.
async fn envelope(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let meta = Meta {
        request: RequestId::from_bits(compose((gateway.clock)().millis(), gateway.random())),
        generation: admit::generation(request.headers()),
    };
    request.extensions_mut().insert(meta);
    let method = request.method().clone();
    let session = session_named(request.uri().path());
    let origin = cors::allowed(&gateway.config.cors_origins, request.headers());
    let peer = request.extensions().get::<Peer>().copied();
    let trusted = &gateway.config.trusted_proxies;
    let client = client::address(peer, request.headers(), trusted);
    let preflight = origin
        .as_ref()
        .and_then(|_| cors::preflight(&method, request.headers()));
    if let Some(mut answer) = preflight {
        cors::let_read(
            origin.unwrap_or(HeaderValue::from_static("*")),
            answer.headers_mut(),
        );
        return answer;
    }
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(request_id = %meta.request, "http.request panicked");
        reply::error(&ApiError::new(ErrorKind::Api, crate::error::INTERNAL), meta)
    });
    let route = response.extensions().get::<Served>();
    let none = ("none", "none");
    let (method, route) = route.map_or(none, |Served(route)| (route.method.as_str(), route.path));
    let (took, status) = (started.elapsed(), response.status().as_u16());
    gateway
        .metrics
        .answered((method, route), status, took.as_secs_f64());
    tracing::debug!(
        request_id = %meta.request,
        session_id = session,
        method,
        route,
        client = client.map(tracing::field::display),
        status,
        elapsed_ms = took.as_millis(),
        "http.request"
    );
    if let Some(origin) = origin {
        cors::let_read(origin, response.headers_mut());
    }
    let id = HeaderValue::try_from(meta.request.to_string());
    response
        .headers_mut()
        .insert(REQUEST_ID, id.expect("an id is ASCII"));
    response
}

/// The session that a path names, for the log; only where that line is written.
fn session_named(path: &str) -> Option<String> {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return None;
    }
    let named = path
        .strip_prefix("/v1/")
        .map(|path| path.trim_start_matches("x/"))?;
    let id = named.strip_prefix("sessions/")?.split('/').next()?;
    id.parse::<SessionId>().ok().map(|id| id.to_string())
}

/// A text for people and probes.
fn plain(text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn healthz() -> Response {
    plain("ok\n")
}

async fn readyz(State(gateway): State<Arc<Gateway>>) -> Response {
    let (status, text) = match gateway.ready().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    let mut response = plain(text);
    *response.status_mut() = status;
    response
}

/// Without a key, like the two above: it says how busy the server is and nothing of what it holds.
async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.metrics.text() {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let kind = HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            );
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

async fn llms() -> Response {
    plain(openapi::llms_txt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_a_500_in_the_envelope_and_ends_its_request_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::Store::open(&dir.path().join("db"), store::Options::default()).unwrap();
        let key = vault::master::MasterKey::from_bytes([7; 32]);
        let vault = Arc::new(vault::Vault::with(&key));
        let settings = vault::refresh::Settings::default();
        let refresher =
            vault::refresh::Refresher::new(store.clone(), vault.clone(), settings).unwrap();
        let gateway = Gateway::new(crate::Parts {
            store,
            vault,
            refresher,
            catalog: Arc::new(model::Catalog::embedded()),
            clock: store::clock::now,
            shutdown: tokio_util::sync::CancellationToken::new(),
            config: crate::Config::default(),
            metrics: Arc::default(),
            sandboxes: None,
            egress: None,
            control_audit: None,
        });
        let router = Router::new()
            .route("/boom", get(async || -> Response { panic!("a defect") }))
            .layer(middleware::from_fn_with_state(gateway, envelope));
        for _ in 0..2 {
            let request = Request::builder().uri("/boom").body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 500);
            let id = response.headers()[REQUEST_ID].to_str().unwrap().to_owned();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice::<serde_json::Value>(&body).unwrap();
            assert_eq!(body["request_id"], serde_json::json!(id));
            assert_eq!(body["error"]["type"], "api_error");
            assert!(!body.to_string().contains("a defect"));
        }
    }
}
