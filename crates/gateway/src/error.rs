//! The only place where a typed error becomes a status and an envelope, exhaustively. It never looks at
//! the text of an error, and what is internal goes to the log under the request id.

use contract::error::{ApiError, ErrorKind};
use contract::parse::Invalid;
use session::Refused;
use store::error::{Cause, Conflict, Plenty, SubmitError, Thing};

use vault::refresh::TokenError;
use vault::rotate::RotateError;

use crate::reply::Meta;

/// What a caller is told of a failure that is ours.
pub(crate) const INTERNAL: &str =
    "Internal server error. The operator finds the cause in the log under this request id.";

const UNAVAILABLE: &str = "The server cannot reach its storage right now. Try again.";

/// Why a handler gives no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Decided already.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The store refused or failed, for the thing that the path names.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A session's input was refused or failed.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A stored secret does not open.
    #[error(transparent)]
    Sealed(#[from] vault::OpenError),
    /// An OAuth credential cannot be tried.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The master key was not rotated.
    #[error(transparent)]
    Rotate(#[from] RotateError),
    /// What is stored cannot be read.
    #[error("read what is stored as {0}")]
    Stored(&'static str, #[source] serde_json::Error),
    /// A sandbox did not do what was asked.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The audit cannot be read.
    #[error(transparent)]
    Audit(egress::audit::AuditError),
    /// An answer of ours cannot be read back.
    #[error("read an answer")]
    Body(#[source] axum::Error),
    /// An answer cannot be written.
    #[error("write an answer")]
    Encode(#[source] serde_json::Error),
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Api(invalid.into())
    }
}

impl Failure {
    /// Whether there was no room to keep the answer.
    pub(crate) fn is_unkept(&self) -> bool {
        matches!(
            self,
            Self::Store(store::Error::Full {
                what: Plenty::Kept,
                ..
            }) | Self::Submit(SubmitError::Full {
                what: Plenty::Kept,
                ..
            })
        )
    }

    /// What the client is told. What is ours is logged here, once.
    pub(crate) fn answer(self, meta: Meta) -> ApiError {
        match self {
            Self::Api(error) => error,
            Self::Store(error) => store_error(error, meta),
            Self::Submit(error) => submit_error(error, meta),
            Self::Sandbox(error) => sandbox_error(error, meta),
            Self::Token(error) => token_error(error, meta),
            Self::Rotate(error) => rotate_error(error, meta),
            error @ (Self::Sealed(_)
            | Self::Stored(..)
            | Self::Audit(_)
            | Self::Body(_)
            | Self::Encode(_)) => internal(meta, &error),
        }
    }
}

/// Why the OAuth credential that a path names gives no token. What servers said is an answer, not a failure.
fn token_error(error: TokenError, meta: Meta) -> ApiError {
    match error {
        TokenError::Store(error) => store_error(error, meta),
        TokenError::Kind { .. } => ApiError::invalid(error.to_string()),
        other @ (TokenError::NoRefreshToken
        | TokenError::Revoked { .. }
        | TokenError::Failed { .. }
        | TokenError::RefusedAfresh
        | TokenError::Sealed(_)
        | TokenError::Stored(_)) => internal(meta, &other),
    }
}

/// Only an operator asks for it, so the text is theirs.
fn rotate_error(error: RotateError, meta: Meta) -> ApiError {
    match error {
        RotateError::Store(error) => store_error(error, meta),
        error @ (RotateError::Busy
        | RotateError::NoNext
        | RotateError::Same
        | RotateError::Unheard { .. }
        | RotateError::Damaged { .. }) => ApiError::conflict(error.to_string()),
        RotateError::Key(error) => internal(meta, &error),
    }
}

/// A failure of the sandbox that a path names.
fn sandbox_error(error: sandbox::Error, meta: Meta) -> ApiError {
    use sandbox::Error as Failed;
    let text = error.to_string();
    match error {
        Failed::Invalid { .. } => ApiError::invalid(text),
        Failed::Missing { .. } => ApiError::not_found(text),
        Failed::Conflict { .. } => ApiError::conflict(text),
        Failed::Failed { .. } => ApiError::conflict(text).code("sandbox_operation_failed"),
        Failed::Lost | Failed::Gone | Failed::Cancelled => {
            ApiError::conflict(format!("{text}; the next request starts it again"))
                .code("sandbox_ended")
        }
        Failed::Busy { .. } => ApiError::new(ErrorKind::Unavailable, text)
            .code("sandbox_busy")
            .retry_after(1),
        Failed::Unsupported { .. } => {
            ApiError::new(ErrorKind::Unavailable, text).code("sandbox_unsupported")
        }
        // The host's own files and processes are nobody's business outside.
        other => internal(meta, &other),
    }
}

/// A failure of the store about the thing that a path names.
pub(crate) fn store_error(error: store::Error, meta: Meta) -> ApiError {
    match error {
        store::Error::NotFound(thing) => {
            ApiError::not_found(format!("{} not found.", noun(&thing)))
        }
        store::Error::Archived(thing) => archived(&thing),
        store::Error::Conflict(conflict) => {
            let error = ApiError::conflict(collision(&conflict));
            // Somebody else came first, and the client named no version: the same request may do now.
            let again = matches!(conflict, Conflict::Revision { .. });
            ApiError {
                should_retry: Some(again),
                ..error
            }
        }
        store::Error::TooManyCredentials { limit } => ApiError::invalid(format!(
            "a vault holds at most {limit} active credentials; archive or delete one first, or ask the operator to \
             raise `limits.vault_credentials`"
        )),
        store::Error::Full { what, limit } => full(what, limit),
        store::Error::Unavailable(cause) => unavailable(meta, &cause),
        store::Error::Bug(cause) => internal(meta, &*cause),
    }
}

/// A failure of the store about a thing that a field of the body names: 400 with the path. A version
/// that an agent does not have is a 404 all the same (recorded).
pub(crate) fn named(error: store::Error, path: impl FnOnce(&Thing) -> String) -> Failure {
    match error {
        store::Error::NotFound(Thing::AgentVersion(version)) => {
            ApiError::not_found(format!("agent.version: {version} not found")).into()
        }
        store::Error::NotFound(thing) => Invalid::at(path(&thing), "not found").into(),
        store::Error::Archived(thing) => Invalid::at(
            path(&thing),
            "is archived and cannot be used for new sessions",
        )
        .into(),
        error @ (store::Error::Conflict(_)
        | store::Error::TooManyCredentials { .. }
        | store::Error::Full { .. }
        | store::Error::Unavailable(_)
        | store::Error::Bug(_)) => error.into(),
    }
}

fn noun(thing: &Thing) -> &'static str {
    match thing {
        Thing::Workspace => "Workspace",
        Thing::ApiKey => "API key",
        Thing::Agent => "Agent",
        Thing::AgentVersion(_) => "Agent version",
        Thing::Environment(_) => "Environment",
        Thing::Vault(_) => "Vault",
        Thing::Credential(_) => "Credential",
        Thing::Session(_) => "Session",
    }
}

fn archived(thing: &Thing) -> ApiError {
    let error = ApiError::invalid(format!(
        "Cannot modify archived {}",
        noun(thing).to_lowercase()
    ));
    match thing {
        Thing::Environment(_) => error.code("environment_archived"),
        Thing::Workspace
        | Thing::ApiKey
        | Thing::Agent
        | Thing::AgentVersion(_)
        | Thing::Vault(_)
        | Thing::Credential(_)
        | Thing::Session(_) => error,
    }
}

fn collision(conflict: &Conflict) -> &'static str {
    match conflict {
        Conflict::Version { .. } | Conflict::Revision { .. } => {
            "Concurrent modification detected. Please fetch the latest version and retry."
        }
        Conflict::EnvironmentName => {
            "An active environment has this name. Choose another one, or archive that environment."
        }
        Conflict::McpServerUrl => {
            "A credential already exists for this MCP server URL. Archive or delete it first."
        }
        Conflict::SecretName => {
            "A credential already exists for this secret name. Archive or delete it first."
        }
        Conflict::InUse => {
            "Sessions still use this environment. Delete them first, or archive the environment."
        }
        Conflict::Exists => "It exists already.",
    }
}

fn submit_error(error: SubmitError, meta: Meta) -> ApiError {
    match error {
        SubmitError::NotFound => ApiError::not_found("Session not found."),
        SubmitError::Refused(refused) => refusal(&refused, meta),
        SubmitError::Full { what, limit } => full(what, limit),
        SubmitError::Unavailable(cause) => unavailable(meta, &cause),
        SubmitError::Bug(cause) => internal(meta, &*cause),
        // Only a claim can be held off, and the gateway makes none.
        held @ SubmitError::Held { .. } => internal(meta, &held),
    }
}

fn refusal(refused: &Refused, meta: Meta) -> ApiError {
    let message = refused.to_string();
    match refused {
        Refused::Archived => ApiError::conflict(message),
        Refused::Running { .. }
        | Refused::WaitingOn { .. }
        | Refused::TooManyPairs { .. }
        | Refused::BudgetReached { .. }
        | Refused::NotAsked { .. }
        | Refused::Resolved { .. }
        | Refused::OutcomeOpen { .. }
        | Refused::TooManyOutcomes { .. }
        | Refused::UnknownCall { .. }
        | Refused::OtherThread { .. }
        | Refused::ThreadEnded { .. }
        | Refused::ThreadRunning
        | Refused::PrimaryThread
        | Refused::UnknownThread { .. } => ApiError::invalid(message),
        Refused::NoThread => crate::call::missing("Thread"),
        Refused::BudgetCreateOnly => ApiError::invalid(message).code("budget_create_only"),
        Refused::BudgetNotRaised => ApiError::invalid(message).code("budget_not_raised"),
        Refused::InboxFull { .. } | Refused::InboxLarge { .. } => {
            ApiError::new(ErrorKind::RateLimit, message).retry_after(1)
        }
        // Facts come from runners, never through the gateway.
        Refused::Stale { .. } | Refused::OutOfPlace { .. } | Refused::NothingToRun => {
            internal(meta, refused)
        }
    }
}

fn full(what: Plenty, limit: u64) -> ApiError {
    let message = match what {
        Plenty::Sessions | Plenty::Vaults => format!(
            "this workspace has {limit} {what}, the most it may have; delete some, or ask the operator \
             to raise `limits.workspace_{what}`"
        ),
        Plenty::Kept => format!(
            "Idempotency-Key: this workspace has room for {limit} bytes of kept answers, and this one's does not \
             fit; nothing was done. Send the request without the header, wait until earlier answers are \
             forgotten (24 hours after their requests), or ask the operator to raise \
             `limits.workspace_kept_bytes`"
        ),
    };
    ApiError::invalid(message).code("workspace_limit_reached")
}

fn unavailable(meta: Meta, cause: &Cause) -> ApiError {
    tracing::error!(request_id = %meta.request, error = %Chain(&**cause), "store unavailable");
    ApiError::new(ErrorKind::Unavailable, UNAVAILABLE).retry_after(1)
}

fn internal(meta: Meta, error: &(dyn std::error::Error + 'static)) -> ApiError {
    tracing::error!(request_id = %meta.request, error = %Chain(error), "request failed");
    ApiError::new(ErrorKind::Api, INTERNAL)
}

/// An error with its causes, for the log.
struct Chain<'e>(&'e (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
