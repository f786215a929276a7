//! Answers: JSON bodies and the error envelope. It decides no status.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use contract::dialect::Generation;
use contract::error::{ApiError, ErrorKind};
use contract::ids::RequestId;
use serde::Serialize;

use crate::error::Failure;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What every answer to one request needs to know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    /// Its id: in the header and in the envelope.
    pub(crate) request: RequestId,
    /// Which spelling of errors the client knows.
    pub(crate) generation: Generation,
}

/// 200 with a JSON body.
pub(crate) fn json<T: Serialize>(body: &T) -> Result<Response, Failure> {
    Ok(raw(bytes(body)?.into()))
}

/// The body of such an answer.
pub(crate) fn bytes<T: Serialize>(body: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(Failure::Encode)
}

/// 200 with a body that is JSON already.
pub(crate) fn raw(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The envelope of an error (api.md §2.1) with the headers that belong to it.
pub(crate) fn error(error: &ApiError, meta: Meta) -> Response {
    let body = error.envelope(meta.generation, &meta.request).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(seconds) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(retry) = error.should_retry {
        let retry = if retry { "true" } else { "false" };
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(retry));
    }
    response
}

/// The headers of an event stream: nobody on the way may keep, join or compress its frames.
pub(crate) fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
}

/// The recorded 404 of a route that does not exist.
pub(crate) fn no_route() -> ApiError {
    ApiError::not_found("Not found")
}

/// The recorded 405.
pub(crate) fn wrong_method() -> ApiError {
    ApiError::new(ErrorKind::MethodNotAllowed, "Method Not Allowed")
}
