//! One request on its way to a handler: who asks, what the path names, and a body that is read only
//! when the handler asks for it. It holds no state of the server.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::RawPathParams;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use bytes::Bytes;
use contract::error::ApiError;
use contract::ids::WorkspaceId;
use contract::parse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use store::Store;
use store::kept::Slot;
use store::sessions::Scope;

use crate::auth::Principal;
use crate::body;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply::Meta;
use crate::shares::Hold;

/// A request that passed every check that needs no body.
pub(crate) struct Call {
    pub(crate) meta: Meta,
    pub(crate) who: Principal,
    pub(crate) headers: HeaderMap,
    /// The path as it was sent: what a page cursor is bound to.
    pub(crate) path: String,
    query: String,
    params: Vec<(String, String)>,
    /// Behind a lock that nobody waits for: it makes a call that waits for its answer `Sync`.
    body: Mutex<Body>,
    /// The body, if it was read before its handler asked for it.
    ahead: Option<Bytes>,
    body_idle: Duration,
    /// The room that the body takes, until the request is answered.
    hold: Hold,
    /// Where its answer is kept, if it has an `Idempotency-Key`.
    pub(crate) once: Option<Slot>,
}

/// The body of a route that has none: nothing, or `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Call {
    pub(crate) fn new(
        meta: Meta,
        who: Principal,
        parts: Parts,
        params: &RawPathParams,
        body: Body,
        body_idle: Duration,
        hold: Hold,
    ) -> Self {
        Self {
            meta,
            who,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            params: params
                .iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            headers: parts.headers,
            body: Mutex::new(body),
            ahead: None,
            body_idle,
            hold,
            once: None,
        }
    }

    /// The workspace that the caller acts in.
    pub(crate) fn workspace(&self) -> WorkspaceId {
        self.who.workspace
    }

    /// Whether an operator asks, who may see every workspace under `/v1/x`.
    pub(crate) fn is_operator(&self) -> bool {
        self.who.operator
    }

    /// What the caller may see under `/v1/x`.
    pub(crate) fn scope(&self) -> Scope {
        if self.who.operator {
            Scope::Any
        } else {
            Scope::Workspace(self.who.workspace)
        }
    }

    /// A parameter of the path as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .expect("the route's path, which stands in one table with its handler, names it")
    }

    /// An id in the path. One that is malformed names nothing, so it is a 404 like any other that does
    /// not exist.
    pub(crate) fn id<I: FromStr>(&self, name: &str, what: &str) -> Result<I, ApiError> {
        self.text(name).parse().map_err(|_| missing(what))
    }

    /// The raw query string.
    pub(crate) fn query(&self) -> &str {
        &self.query
    }

    /// The body as it comes, for a handler that holds none of it. It is bound by the handler, not here.
    pub(crate) fn stream(&mut self) -> Body {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(body)
    }

    /// Reads a JSON body strictly.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let bytes = self.bytes().await?;
        Ok(parse::parse(&bytes)?)
    }

    /// Reads the body of a route that has none.
    pub(crate) async fn nothing(&mut self) -> Result<(), ApiError> {
        let bytes = self.bytes().await?;
        if !bytes.iter().all(u8::is_ascii_whitespace) {
            let Nothing {} = parse::parse(&bytes)?;
        }
        Ok(())
    }

    /// The store for the one write that answers this request: what `answer` makes of its outcome is
    /// kept with it, if the request has an `Idempotency-Key`.
    pub(crate) fn store<T: 'static>(
        &self,
        gateway: &Gateway,
        answer: impl Fn(&T) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
    ) -> Store {
        match self.once {
            None => gateway.store.clone(),
            // One that cannot be written is not kept, and the handler will say why.
            Some(slot) => gateway.store.keeping(slot, move |done| answer(done).ok()),
        }
    }

    /// Reads the body before its handler does.
    pub(crate) async fn read_ahead(&mut self) -> Result<Bytes, ApiError> {
        let bytes = self.bytes().await?;
        self.ahead = Some(bytes.clone());
        Ok(bytes)
    }

    async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        if let Some(bytes) = self.ahead.take() {
            return Ok(bytes);
        }
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let body = std::mem::take(body);
        body::read(&self.headers, body, self.body_idle, &mut self.hold).await
    }
}

/// 404 for a thing that does not exist, or not for this caller: the two look the same.
pub(crate) fn missing(what: &str) -> ApiError {
    ApiError::not_found(format!("{what} not found."))
}
