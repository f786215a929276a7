//! What events are made of (api.md §9, §7.4): reasons, judgements, usage, errors. Which event holds which
//! stands in `body`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CredentialId, EventId, VaultId};
use crate::session::Money;

/// Why a thread or a session became idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StopReason {
    /// Done; ready for the next message.
    EndTurn {},
    /// Blocked on answers to these events.
    RequiresAction {
        /// The tool-use events that wait.
        event_ids: Vec<EventId>,
    },
    /// Errors used up what may be tried.
    RetriesExhausted {},
    /// The budget is spent.
    BudgetReached {},
    /// The model refused.
    Refusal {},
}

/// More about a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusalDetails {
    /// Always `refusal`.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "refusal"))]
    pub kind: String,
    /// The provider's category, if it names one.
    pub category: Option<String>,
    /// The provider's words, if any.
    pub explanation: Option<String>,
}

/// What a policy said of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It may run.
    Allow,
    /// The client decides.
    Ask,
    /// It does not run.
    Deny,
}

/// Which policy produced the permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Evaluation {
    /// The tool's policy is `always_allow`.
    AlwaysAllow {},
    /// The tool's policy is `always_ask`.
    AlwaysAsk {},
    /// The tool's policy is `auto`: a judge decided.
    Auto {
        /// What it decided.
        evaluated_permission: Judgement,
    },
}

/// What a judge says of a call whose policy is `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Judgement {
    /// It may run.
    Allow {},
    /// The client decides.
    Ask {
        /// Why the judge did not.
        reason_code: AskReason,
    },
    /// It does not run.
    Deny {
        /// Why not.
        reason_code: DenyReason,
    },
}

impl Judgement {
    /// Without a judgement the client is asked.
    pub const UNKNOWN: Self = Self::Ask {
        reason_code: AskReason::Indeterminate,
    };

    /// The permission that follows.
    #[must_use]
    pub const fn permission(self) -> Permission {
        match self {
            Self::Allow {} => Permission::Allow,
            Self::Ask { .. } => Permission::Ask,
            Self::Deny { .. } => Permission::Deny,
        }
    }
}

/// Why a judge leaves a call to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskReason {
    /// It could not tell.
    Indeterminate,
}

/// Why a judge refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// What it does may not be undone, or is not what the user wants.
    HighRisk,
}

/// Tokens of one model request (span) as the contract spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelUsage {
    /// Tokens read that no cache held.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens put into a cache.
    pub cache_creation_input_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_input_tokens: u64,
    /// `standard`, `fast`, or null when the provider does not say.
    pub speed: Option<Speed>,
}

/// The provider's speed tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// The usual tier.
    Standard,
    /// The faster, dearer tier.
    Fast,
}

/// Cache creation split by lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CacheCreation {
    /// Tokens cached for five minutes.
    pub ephemeral_5m_input_tokens: u64,
    /// Tokens cached for an hour.
    pub ephemeral_1h_input_tokens: u64,
}

/// Cumulative usage of a session or thread (api.md §7.4).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SessionUsage {
    /// Seconds with at least one running thread.
    pub active_seconds: f64,
    /// Tokens put into caches; null until there were any.
    pub cache_creation: Option<CacheCreation>,
    /// Tokens read from caches.
    pub cache_read_input_tokens: u64,
    /// Tokens read that no cache held.
    pub input_tokens: u64,
    /// At list prices, in whole cents; absent until something with a price was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_cost: Option<Money>,
    /// Tokens written.
    pub output_tokens: u64,
    /// Requests of the provider's own tools; absent until there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_tool_use: Option<ServerToolUsage>,
}

/// Requests of the provider's own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct ServerToolUsage {
    pub web_fetch_requests: u64,
    pub web_search_requests: u64,
}

/// What went wrong, for `session.error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionError {
    /// Which error, and what it is about.
    #[serde(flatten)]
    pub kind: SessionErrorKind,
    /// What happened and what to do, for people.
    pub message: String,
    /// What the server does about it.
    pub retry_status: RetryStatus,
}

/// The kinds of `session.error` (api.md §9.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are the contract's
pub enum SessionErrorKind {
    /// None of the others.
    UnknownError,
    /// The provider has no capacity.
    ModelOverloadedError,
    /// The provider limits our rate.
    ModelRateLimitedError,
    /// Any other failure of a model request.
    ModelRequestFailedError,
    /// An MCP server cannot be reached.
    McpConnectionFailedError { mcp_server_name: String },
    /// An MCP server refuses the credential.
    McpAuthenticationFailedError { mcp_server_name: String },
    /// Out of credit at the provider.
    BillingError,
    /// The environment's network forbids the only hosts of a credential.
    CredentialHostUnreachableError {
        credential_id: CredentialId,
        vault_id: VaultId,
    },
    /// Too many rounds of tool calls in one turn.
    ToolUseLimitReachedError,
    /// Compacted again and again without getting on.
    CompactionLimitReachedError,
    /// The repository refuses the token.
    RepositoryAuthenticationError { repository_url: Option<String> },
    /// The token may not read the repository.
    RepositoryForbiddenError { repository_url: Option<String> },
    /// There is no such repository.
    RepositoryNotFoundError { repository_url: Option<String> },
    /// There is no such branch or commit.
    RepositoryCheckoutError { repository_url: Option<String> },
    /// Any other failure of a clone.
    RepositoryCloneError { repository_url: Option<String> },
}

/// What the server does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RetryStatus {
    /// It tries again by itself.
    Retrying {},
    /// The turn is over; the session is idle.
    Exhausted {},
    /// The session is over.
    Terminal {},
}

/// An id that may be missing, which the contract writes as an empty text.
pub(super) mod or_empty {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::ids::EventId;

    pub(in crate::event) fn serialize<S: Serializer>(
        id: &Option<EventId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => id.serialize(to),
            None => "".serialize(to),
        }
    }

    pub(in crate::event) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<EventId>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(serde::de::Error::custom)
    }
}
