//! Events of a session as they are stored and served (api.md §9): one variant a type this build can
//! emit. The envelope (`id`, `type`, `processed_at`) is written here and nowhere else.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client_event::Confirmation;
use crate::content::Block;
use crate::ids::{EventId, ThreadId};
use crate::session::{Budget, Money};
use crate::time::Micros;

/// An event with its envelope, in the key order of the wire. It is only ever written: `RawValue` does
/// not survive being read through a tagged enum (serde-rs/serde#1183), so readers take the few fields
/// they need from a struct of their own.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Unique in the workspace, never reused.
    pub id: EventId,
    /// When the session took it; null while a client's event waits.
    pub processed_at: Option<Micros>,
    /// Its type and fields.
    #[serde(flatten)]
    pub body: Body,
}

/// Why a thread or a session became idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalDetails {
    /// Always `refusal`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The provider's category, if it names one.
    pub category: Option<String>,
    /// The provider's words, if any.
    pub explanation: Option<String>,
}

/// What a policy said of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskReason {
    /// It could not tell.
    Indeterminate,
}

/// Why a judge refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// What it does may not be undone, or is not what the user wants.
    HighRisk,
}

/// Tokens of one model request (span) as the contract spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// The usual tier.
    Standard,
    /// The faster, dearer tier.
    Fast,
}

/// Cache creation split by lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheCreation {
    /// Tokens cached for five minutes.
    pub ephemeral_5m_input_tokens: u64,
    /// Tokens cached for an hour.
    pub ephemeral_1h_input_tokens: u64,
}

/// Cumulative usage of a session or thread (api.md §7.4).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
}

/// What went wrong, for `session.error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionError {
    /// Which error.
    #[serde(rename = "type")]
    pub kind: SessionErrorKind,
    /// What happened and what to do, for people.
    pub message: String,
    /// What the server does about it.
    pub retry_status: RetryStatus,
}

/// The kinds of `session.error` this build emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionErrorKind {
    /// None of the others.
    UnknownError,
    /// The provider has no capacity.
    ModelOverloadedError,
    /// The provider limits our rate.
    ModelRateLimitedError,
    /// Any other failure of a model request.
    ModelRequestFailedError,
    /// Out of credit at the provider.
    BillingError,
    /// Too many rounds of tool calls in one turn.
    ToolUseLimitReachedError,
    /// Compacted again and again without getting on.
    CompactionLimitReachedError,
}

/// What the server does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RetryStatus {
    /// It tries again by itself.
    Retrying {},
    /// The turn is over; the session is idle.
    Exhausted {},
    /// The session is over.
    Terminal {},
}

/// Type and fields of an event.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type")]
#[allow(missing_docs)] // the fields are the contract's, api.md §9
pub enum Body {
    #[serde(rename = "user.message")]
    UserMessage { content: Vec<Block> },
    #[serde(rename = "user.interrupt")]
    UserInterrupt {
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    },
    #[serde(rename = "user.tool_confirmation")]
    UserToolConfirmation {
        tool_use_id: EventId,
        result: Confirmation,
        #[serde(skip_serializing_if = "Option::is_none")]
        deny_message: Option<String>,
    },
    #[serde(rename = "system.message")]
    SystemMessage { content: Vec<Block> },
    #[serde(rename = "user.custom_tool_result")]
    UserCustomToolResult {
        custom_tool_use_id: EventId,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
    #[serde(rename = "agent.message")]
    AgentMessage { content: Vec<Block> },
    #[serde(rename = "agent.thinking")]
    AgentThinking {},
    #[serde(rename = "agent.tool_use")]
    AgentToolUse {
        name: String,
        input: Box<RawValue>,
        evaluated_permission: Permission,
        #[serde(skip_serializing_if = "Option::is_none")]
        evaluation: Option<Evaluation>,
    },
    #[serde(rename = "agent.tool_result")]
    AgentToolResult {
        tool_use_id: EventId,
        content: Vec<Block>,
        is_error: bool,
    },
    #[serde(rename = "agent.custom_tool_use")]
    AgentCustomToolUse { name: String, input: Box<RawValue> },
    #[serde(rename = "agent.thread_context_compacted")]
    ThreadContextCompacted {},
    #[serde(rename = "session.status_running")]
    StatusRunning {},
    #[serde(rename = "session.status_rescheduled")]
    StatusRescheduled {},
    #[serde(rename = "session.status_idle")]
    StatusIdle {
        stop_reason: StopReason,
        stop_details: Option<RefusalDetails>,
    },
    #[serde(rename = "session.status_terminated")]
    StatusTerminated {},
    #[serde(rename = "session.deleted")]
    SessionDeleted {},
    #[serde(rename = "session.error")]
    SessionError { error: SessionError },
    #[serde(rename = "session.updated")]
    SessionUpdated {
        #[serde(skip_serializing_if = "Option::is_none")]
        agent: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        budget: Option<Option<Budget>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<Option<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<std::collections::BTreeMap<String, String>>,
    },
    #[serde(rename = "session.usage")]
    SessionUsage {
        usage: SessionUsage,
        budget: Option<Budget>,
    },
    #[serde(rename = "session.thread_status_running")]
    ThreadStatusRunning {
        agent_name: String,
        session_thread_id: ThreadId,
    },
    #[serde(rename = "session.thread_status_rescheduled")]
    ThreadStatusRescheduled {
        agent_name: String,
        session_thread_id: ThreadId,
    },
    #[serde(rename = "session.thread_status_idle")]
    ThreadStatusIdle {
        agent_name: String,
        session_thread_id: ThreadId,
        stop_reason: StopReason,
        stop_details: Option<RefusalDetails>,
    },
    #[serde(rename = "session.thread_status_terminated")]
    ThreadStatusTerminated {
        agent_name: String,
        session_thread_id: ThreadId,
    },
    #[serde(rename = "span.model_request_start")]
    SpanModelRequestStart {},
    #[serde(rename = "span.model_request_end")]
    SpanModelRequestEnd {
        model_request_start_id: EventId,
        is_error: bool,
        model_usage: ModelUsage,
    },
}

impl Body {
    /// The event's type as the wire spells it: also its SSE name and its `types[]` filter.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UserMessage { .. } => "user.message",
            Self::UserInterrupt { .. } => "user.interrupt",
            Self::UserToolConfirmation { .. } => "user.tool_confirmation",
            Self::SystemMessage { .. } => "system.message",
            Self::UserCustomToolResult { .. } => "user.custom_tool_result",
            Self::AgentMessage { .. } => "agent.message",
            Self::AgentThinking {} => "agent.thinking",
            Self::AgentToolUse { .. } => "agent.tool_use",
            Self::AgentToolResult { .. } => "agent.tool_result",
            Self::AgentCustomToolUse { .. } => "agent.custom_tool_use",
            Self::ThreadContextCompacted {} => "agent.thread_context_compacted",
            Self::StatusRunning {} => "session.status_running",
            Self::StatusRescheduled {} => "session.status_rescheduled",
            Self::StatusIdle { .. } => "session.status_idle",
            Self::StatusTerminated {} => "session.status_terminated",
            Self::SessionDeleted {} => "session.deleted",
            Self::SessionError { .. } => "session.error",
            Self::SessionUpdated { .. } => "session.updated",
            Self::SessionUsage { .. } => "session.usage",
            Self::ThreadStatusRunning { .. } => "session.thread_status_running",
            Self::ThreadStatusRescheduled { .. } => "session.thread_status_rescheduled",
            Self::ThreadStatusIdle { .. } => "session.thread_status_idle",
            Self::ThreadStatusTerminated { .. } => "session.thread_status_terminated",
            Self::SpanModelRequestStart {} => "span.model_request_start",
            Self::SpanModelRequestEnd { .. } => "span.model_request_end",
        }
    }
}
