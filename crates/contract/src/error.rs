//! The error envelope (api.md §2). A status comes from a kind, never from the text of a message; the
//! text says what to do next and holds nothing internal.

use serde_json::{Map, Value, json};

use crate::dialect::Generation;
use crate::ids::RequestId;
use crate::parse::Invalid;

/// What kind of error it is: decides the status and `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// 400: the request is wrong.
    InvalidRequest,
    /// 401: who asks is not known.
    Authentication,
    /// 402: the bill.
    Billing,
    /// 403: who asks may not.
    Permission,
    /// 404: there is no such thing.
    NotFound,
    /// 405: not with this method.
    MethodNotAllowed,
    /// 409: the state of the thing forbids it.
    Conflict,
    /// 409: another memory has the path.
    MemoryPathConflict,
    /// 409: a memory is not what the request takes it for.
    MemoryPreconditionFailed,
    /// 412: a precondition of the request does not hold.
    PreconditionFailed,
    /// 413: the body is too large.
    RequestTooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 429: too much at once.
    RateLimit,
    /// 500: ours.
    Api,
    /// 501: in the contract, not in this build.
    NotImplemented,
    /// 503: not now.
    Unavailable,
    /// 504: took too long.
    Timeout,
    /// 529: no capacity.
    Overloaded,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::InvalidRequest,
        Self::Authentication,
        Self::Billing,
        Self::Permission,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::MemoryPathConflict,
        Self::MemoryPreconditionFailed,
        Self::PreconditionFailed,
        Self::RequestTooLarge,
        Self::UnsupportedMediaType,
        Self::RateLimit,
        Self::Api,
        Self::NotImplemented,
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
    ];

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Billing => 402,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::MemoryPathConflict | Self::MemoryPreconditionFailed => 409,
            Self::PreconditionFailed => 412,
            Self::RequestTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::RateLimit => 429,
            Self::Api => 500,
            Self::NotImplemented => 501,
            Self::Unavailable => 503,
            Self::Timeout => 504,
            Self::Overloaded => 529,
        }
    }

    /// `error.type`, out of the closed set of the SDKs (api.md §2.2; `request_too_large` is recorded).
    /// Only generation 2026 knows `conflict_error`.
    #[must_use]
    pub const fn wire(self, generation: Generation) -> &'static str {
        match (self, generation) {
            (Self::Conflict, Generation::V2026) => "conflict_error",
            (
                Self::InvalidRequest
                | Self::MethodNotAllowed
                | Self::Conflict
                | Self::PreconditionFailed
                | Self::UnsupportedMediaType,
                _,
            ) => "invalid_request_error",
            (Self::MemoryPathConflict, _) => "memory_path_conflict_error",
            (Self::MemoryPreconditionFailed, _) => "memory_precondition_failed_error",
            (Self::Authentication, _) => "authentication_error",
            (Self::Billing, _) => "billing_error",
            (Self::Permission, _) => "permission_error",
            (Self::NotFound, _) => "not_found_error",
            (Self::RequestTooLarge, _) => "request_too_large",
            (Self::RateLimit, _) => "rate_limit_error",
            (Self::Api | Self::NotImplemented | Self::Unavailable, _) => "api_error",
            (Self::Timeout, _) => "timeout_error",
            (Self::Overloaded, _) => "overloaded_error",
        }
    }
}

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// Which kind.
    pub kind: ErrorKind,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// `error.details.error_code`, the key for machines.
    pub code: Option<&'static str>,
    /// Further keys of `error.details`.
    pub details: Map<String, Value>,
    /// Further keys of `error` itself: only conflicts of memories have any.
    pub beside: Map<String, Value>,
    /// Seconds for the `retry-after` header.
    pub retry_after: Option<u32>,
    /// The `x-should-retry` header: false on every refusal that a retry cannot change.
    pub should_retry: Option<bool>,
}

impl ApiError {
    /// An error of a kind, with the status and retry hint that belong to it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let should_retry = match kind {
            // SDKs repeat 409 and every status from 500 up unless told not to (api.md §1.8).
            ErrorKind::Conflict
            | ErrorKind::MemoryPathConflict
            | ErrorKind::MemoryPreconditionFailed
            | ErrorKind::NotImplemented => Some(false),
            _ => None,
        };
        Self {
            status: kind.status(),
            kind,
            message: message.into(),
            code: None,
            details: Map::new(),
            beside: Map::new(),
            retry_after: None,
            should_retry,
        }
    }

    /// 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// 409, not to be repeated.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// 501 for a route that this build does not serve, with the code `not_implemented`.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message).code("not_implemented")
    }

    /// 400 for a field whose effect this build does not have (design: never accepted and ignored).
    #[must_use]
    pub fn unbuilt(path: &str, what: &str) -> Self {
        Self::invalid(format!("`{path}`: not_implemented: {what}")).code("not_implemented")
    }

    /// The same error with an `error_code`.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same error with one more key in `error.details`.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// The same error with one more key in `error`.
    #[must_use]
    pub fn beside(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.beside.insert(key.to_owned(), value.into());
        self
    }

    /// The same error that may be tried again after this many seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The JSON body. `error.details` is there only when there is a code or a detail.
    #[must_use]
    pub fn envelope(&self, generation: Generation, request: &RequestId) -> Value {
        let mut error = self.beside.clone();
        error.insert("type".to_owned(), self.kind.wire(generation).into());
        error.insert("message".to_owned(), self.message.clone().into());
        if self.code.is_some() || !self.details.is_empty() {
            let mut details = self.details.clone();
            if let Some(code) = self.code {
                details.insert("error_code".to_owned(), code.into());
            }
            error.insert("details".to_owned(), details.into());
        }
        json!({"type": "error", "error": error, "request_id": request.to_string()})
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid.to_string())
    }
}
