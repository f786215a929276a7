//! Why a model request failed, by what the caller can do. Its texts must never hold a key nor more than
//! [`crate::limits::ERROR_TEXT_BYTES`] of a provider's words.

use std::time::Duration;

use crate::endpoint::KeySource;
use crate::transcript::Usage;

/// A failed request, with what it had cost until then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// What failed; its text is this one's.
    pub error: Error,
    /// Tokens the provider had reported before it failed; zero when it had not.
    pub partial_usage: Usage,
}

/// What to do about a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same request may succeed later.
    Retry,
    /// The same request will fail again; somebody must change something.
    Fatal,
    /// The same request will fail again until it is shorter.
    TooLong,
    /// We stopped it.
    Cancelled,
}

/// The phase of a request in which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Name resolution, TCP, TLS.
    Connect,
    /// Waiting for the head of the answer.
    FirstByte,
    /// Silence in the middle of the answer.
    Idle,
    /// The whole request.
    Total,
}

impl Phase {
    fn text(self) -> &'static str {
        match self {
            Phase::Connect => "did not accept a connection",
            Phase::FirstByte => "did not begin to answer",
            Phase::Idle => "fell silent in the middle of its answer",
            Phase::Total => "did not finish its answer",
        }
    }
}

/// Why a model request failed. Each text says what to do next and is fit to be shown to the tenant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 401 or 403.
    #[error(
        "the model endpoint {endpoint} refused the key sent as `{header}` from {key_source} (HTTP {status}): \
         check that this key is valid for that endpoint and may use the model{}", said(.message)
    )]
    Auth {
        /// The base URL.
        endpoint: String,
        /// 401 or 403.
        status: u16,
        /// The header the key went in.
        header: &'static str,
        /// Where the key came from.
        key_source: KeySource,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// 429.
    #[error("the model endpoint {endpoint} limits the rate of requests{}: wait, or raise the limit with the provider{}", after(.retry_after), said(.message))]
    RateLimited {
        /// The base URL.
        endpoint: String,
        /// When to come back, as the provider asked.
        retry_after: Option<Duration>,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// 529, or an `overloaded_error` in the stream.
    #[error("the model endpoint {endpoint} is overloaded{}: try again later{}", after(.retry_after), said(.message))]
    Overloaded {
        /// The base URL.
        endpoint: String,
        /// When to come back, as the provider asked.
        retry_after: Option<Duration>,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// Any other 4xx: the provider does not want this request.
    #[error("the model endpoint {endpoint} does not accept the request (HTTP {status}){}", said(.message))]
    BadRequest {
        /// The base URL.
        endpoint: String,
        /// Its status.
        status: u16,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// 400 or 413 in the dialect's words for a request that its model's window cannot hold.
    #[error("the request is too long for the model at {endpoint}{}", said(.message))]
    TooLong {
        /// The base URL.
        endpoint: String,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// 402, or a provider's word for an account that cannot pay.
    #[error("the provider at {endpoint} wants to be paid first: check the account's credit{}", said(.message))]
    Billing {
        /// The base URL.
        endpoint: String,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// 404, or a provider's word for a model that it does not have: no such model, or no such path.
    #[error("the model endpoint {endpoint} knows no model {model:?} or has nothing at {path}: {}check the model id, the model map and the base URL{}", has(.models), said(.message))]
    NotFound {
        /// The base URL.
        endpoint: String,
        /// The model id as it was sent.
        model: String,
        /// The path that was asked for.
        path: &'static str,
        /// The provider's words, scrubbed.
        message: String,
        /// Ids of the models that it has, in one line; at most [`crate::limits::MODELS_SHOWN`] and how many
        /// more. Empty if it did not tell.
        models: String,
    },
    /// 408, 409, 5xx, or an `api_error` in the stream.
    #[error("the model endpoint {endpoint} failed{}: try again later{}", status_text(.status), said(.message))]
    Server {
        /// The base URL.
        endpoint: String,
        /// Its status; `None` when it failed inside a stream.
        status: Option<u16>,
        /// When to come back, as the provider asked.
        retry_after: Option<Duration>,
        /// The provider's words, scrubbed.
        message: String,
    },
    /// A redirect: we never carry a key to another address.
    #[error(
        "the model endpoint {endpoint} redirects (HTTP {status}); redirects are not followed: set the final address as the base URL"
    )]
    Redirect {
        /// The base URL.
        endpoint: String,
        /// Its status.
        status: u16,
    },
    /// No connection: refused, reset, no such host, TLS.
    #[error(
        "no connection to the model endpoint {endpoint}: {reason}; check the base URL and that it is reachable from here"
    )]
    Connect {
        /// The base URL.
        endpoint: String,
        /// The innermost cause.
        reason: String,
        /// The whole chain, for a log. Not a `source`: its end is in the text already.
        cause: reqwest::Error,
    },
    /// Time ran out.
    #[error("the model endpoint {endpoint} {} within {} s", phase.text(), limit.as_secs_f32())]
    Timeout {
        /// The base URL.
        endpoint: String,
        /// Where.
        phase: Phase,
        /// The limit that was met.
        limit: Duration,
    },
    /// The answer ended before its end.
    #[error("the model endpoint {endpoint} ended its answer in the middle")]
    Cut {
        /// The base URL.
        endpoint: String,
    },
    /// The answer is not of the dialect.
    #[error(
        "the model endpoint {endpoint} answered something that is not {dialect}: {what}; check the base URL and the dialect"
    )]
    Garbage {
        /// The base URL.
        endpoint: String,
        /// The dialect's name.
        dialect: &'static str,
        /// What was wrong.
        what: String,
    },
    /// The answer is larger than we take.
    #[error("the answer of the model endpoint {endpoint} is larger than {limit} {what}")]
    TooLarge {
        /// The base URL.
        endpoint: String,
        /// What was counted: bytes, lines, blocks.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// We cancelled it; the connection is gone.
    #[error("the model request was cancelled")]
    Cancelled,
    /// The endpoint's address may not be dialled. The reason is in the text: the tenant must see it.
    #[error("the model endpoint {endpoint} may not be dialled: {reason}")]
    Denied {
        /// The base URL.
        endpoint: String,
        /// The refused address and its class.
        reason: dial::Error,
    },
    /// The endpoint's own settings cannot be sent, e.g. a header with a line break.
    #[error("the settings of the model endpoint {endpoint} cannot be used: {what}")]
    Settings {
        /// The base URL.
        endpoint: String,
        /// Which and why.
        what: String,
    },
    /// The caller broke the rules of [`crate::Request`].
    #[error("the model request is malformed: {what}")]
    Malformed {
        /// How.
        what: String,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Error::RateLimited { .. }
            | Error::Overloaded { .. }
            | Error::Server { .. }
            | Error::Connect { .. }
            | Error::Timeout { .. }
            | Error::Cut { .. } => Class::Retry,
            Error::Auth { .. }
            | Error::BadRequest { .. }
            | Error::Billing { .. }
            | Error::NotFound { .. }
            | Error::Redirect { .. }
            | Error::Garbage { .. }
            | Error::TooLarge { .. }
            | Error::Denied { .. }
            | Error::Settings { .. }
            | Error::Malformed { .. } => Class::Fatal,
            Error::TooLong { .. } => Class::TooLong,
            Error::Cancelled => Class::Cancelled,
        }
    }

    /// The status by which a program is told of it that made the request itself.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Error::Auth { status, .. } | Error::BadRequest { status, .. } => *status,
            Error::RateLimited { .. } => 429,
            Error::TooLong { .. } | Error::Malformed { .. } => 400,
            Error::Billing { .. } => 402,
            Error::NotFound { .. } => 404,
            Error::Overloaded { .. } | Error::Cancelled => 503,
            Error::Timeout { .. } => 504,
            Error::Server { .. }
            | Error::Redirect { .. }
            | Error::Connect { .. }
            | Error::Cut { .. }
            | Error::Garbage { .. }
            | Error::TooLarge { .. }
            | Error::Denied { .. }
            | Error::Settings { .. } => 502,
        }
    }

    /// How long the provider asked us to wait, at most [`crate::limits::RETRY_AFTER`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::RateLimited { retry_after, .. }
            | Error::Overloaded { retry_after, .. }
            | Error::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!("; it said: {message}")
    }
}

fn has(models: &str) -> String {
    if models.is_empty() {
        String::new()
    } else {
        format!("its models are {models}; ")
    }
}

fn after(wait: &Option<Duration>) -> String {
    wait.map_or_else(String::new, |w| {
        format!(" (it asks to wait {} s)", w.as_secs())
    })
}

fn status_text(status: &Option<u16>) -> String {
    status.map_or_else(
        || " in the middle of its answer".to_owned(),
        |s| format!(" (HTTP {s})"),
    )
}
