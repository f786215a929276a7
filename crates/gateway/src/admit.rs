//! The checks that come before any handler, in the recorded order (hosted-facts, first line): route,
//! method, key, beta, version, workspace; only then is a body read. It looks at no resource.

use axum::http::HeaderMap;
use contract::dialect::Generation;
use contract::error::{ApiError, ErrorKind};

use crate::auth::{self, Access, Principal};
use crate::gateway::Gateway;
use crate::reply::Meta;
use crate::table::{Beta, Route};

const VERSION: &str = "anthropic-version";
const BETA: &str = "anthropic-beta";
pub(crate) const WORKSPACE: &str = "anthropic-workspace-id";

/// Which spelling of errors a client knows, as far as its headers say.
pub(crate) fn generation(headers: &HeaderMap) -> Generation {
    text(headers, VERSION)
        .and_then(Generation::from_version)
        .unwrap_or(Generation::V2026)
}

/// Everything that is checked before the body.
pub(crate) async fn admit(
    gateway: &Gateway,
    access: Access,
    route: &Route,
    headers: &HeaderMap,
    meta: Meta,
) -> Result<Principal, ApiError> {
    let who = auth::principal(gateway, access, headers, meta).await?;
    if let (Some(key), Some(rate)) = (who.key, gateway.config.limits.rate) {
        gateway
            .shares
            .request(key, rate, tokio::time::Instant::now(), &gateway.metrics)?;
    }
    if route.beta == Beta::Operator {
        return if who.operator {
            Ok(who)
        } else {
            Err(ApiError::new(
                ErrorKind::Permission,
                "this route needs an operator key (`longhand keys create --operator`)",
            ))
        };
    }
    if route.beta == Beta::Own {
        return Ok(who);
    }
    let lenient = gateway.config.lenient_headers;
    beta(route.beta, headers, lenient)?;
    version(headers, lenient)?;
    workspace(&who, headers)?;
    Ok(who)
}

fn beta(need: Beta, headers: &HeaderMap, lenient: bool) -> Result<(), ApiError> {
    let values = need.values();
    let Some(first) = values.first() else {
        return Ok(());
    };
    let given = |wanted: &str| {
        headers
            .get_all(BETA)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .any(|value| value.trim() == wanted)
    };
    if lenient || values.iter().any(|value| given(value)) {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "not found: this route needs the header `{BETA}: {first}`"
    )))
}

fn version(headers: &HeaderMap, lenient: bool) -> Result<(), ApiError> {
    match text(headers, VERSION) {
        None if lenient => Ok(()),
        None => Err(ApiError::invalid("anthropic-version: header is required")),
        Some(value) if Generation::from_version(value).is_some() => Ok(()),
        Some(_) => Err(ApiError::invalid(format!(
            "anthropic-version: not a known version; send one of {}",
            Generation::VERSIONS.join(", ")
        ))),
    }
}

fn workspace(who: &Principal, headers: &HeaderMap) -> Result<(), ApiError> {
    match text(headers, WORKSPACE) {
        None => Ok(()),
        Some(id) if id.trim().parse() == Ok(who.workspace) => Ok(()),
        Some(_) => Err(ApiError::new(
            ErrorKind::Permission,
            format!("{WORKSPACE}: the API key belongs to another workspace"),
        )),
    }
}

/// A header as text; one that is not text counts as an unknown value.
fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}
