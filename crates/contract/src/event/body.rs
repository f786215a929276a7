//! Type and fields of every event that is stored (api.md §9.1): one table, from which the type, its names,
//! and what reads it are made. What an event means is not known here.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::parts::{
    Evaluation, ModelUsage, Permission, RefusalDetails, SessionError, SessionUsage, StopReason,
};
use super::workflow::{Phase, WorkflowError, WorkflowResult};
use crate::agent::SessionAgent;
use crate::client_event::{Confirmation, Rubric};
use crate::content::Block;
use crate::ids::{EventId, OutcomeId, ThreadId, WorkflowPhaseId, WorkflowRunId};
use crate::patch::present;
use crate::session::Budget;

/// Defines [`Body`] with its names, and reads each variant straight from the text.
macro_rules! bodies {
    ($($kind:literal => $variant:ident { $($(#[$attr:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        /// Type and fields of an event.
        #[derive(Debug, Clone, Serialize, JsonSchema)]
        #[serde(tag = "type")]
        #[allow(missing_docs)] // the fields are the contract's, api.md §9
        pub enum Body {$(
            #[serde(rename = $kind)]
            $variant { $($(#[$attr])* $field: $type),* },
        )*}

        impl Body {
            /// Every type that is stored, in the order of the contract.
            pub const KINDS: &[&str] = &[$($kind),*];

            /// The event's type as the wire spells it: also its SSE name and its `types[]` filter.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $kind,)* }
            }

            /// Reads the fields of one type; those of the envelope are skipped.
            pub(super) fn read(kind: &str, json: &str) -> Result<Self, serde_json::Error> {
                match kind {
                    $($kind => {
                        #[derive(Deserialize, JsonSchema)]
                        struct Fields { $($(#[$attr])* $field: $type),* }
                        let Fields { $($field),* } = serde_json::from_str(json)?;
                        Ok(Self::$variant { $($field),* })
                    })*
                    other => Err(Error::unknown_variant(other, Self::KINDS)),
                }
            }
        }
    };
}

bodies! {
    "user.message" => UserMessage { #[schemars(schema_with = "crate::schema::said::<Block>")]
        content: Vec<Block> }
    "user.interrupt" => UserInterrupt {
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "user.tool_confirmation" => UserToolConfirmation {
        tool_use_id: EventId,
        result: Confirmation,
        #[serde(skip_serializing_if = "Option::is_none")]
        deny_message: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "user.custom_tool_result" => UserCustomToolResult {
        custom_tool_use_id: EventId,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(schema_with = "crate::schema::result::<Block>")]
        content: Vec<Block>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "user.tool_result" => UserToolResult {
        tool_use_id: EventId,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(schema_with = "crate::schema::result::<Block>")]
        content: Vec<Block>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "user.define_outcome" => UserDefineOutcome {
        outcome_id: OutcomeId,
        description: String,
        rubric: Rubric,
        max_iterations: Option<std::num::NonZeroU32>,
    }
    "system.message" => SystemMessage { #[schemars(schema_with = "crate::schema::system::<Block>")]
        content: Vec<Block> }
    "agent.message" => AgentMessage { #[schemars(schema_with = "crate::schema::reply::<Block>")]
        content: Vec<Block> }
    "agent.thinking" => AgentThinking {}
    "agent.tool_use" => AgentToolUse {
        name: String,
        #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
        input: Box<RawValue>,
        evaluated_permission: Permission,
        #[serde(skip_serializing_if = "Option::is_none")]
        evaluation: Option<Evaluation>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "agent.tool_result" => AgentToolResult {
        tool_use_id: EventId,
        #[schemars(schema_with = "crate::schema::result::<Block>")]
        content: Vec<Block>,
        is_error: bool,
    }
    "agent.mcp_tool_use" => AgentMcpToolUse {
        mcp_server_name: String,
        name: String,
        #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
        input: Box<RawValue>,
        evaluated_permission: Permission,
        #[serde(skip_serializing_if = "Option::is_none")]
        evaluation: Option<Evaluation>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "agent.mcp_tool_result" => AgentMcpToolResult {
        mcp_tool_use_id: EventId,
        #[schemars(schema_with = "crate::schema::result::<Block>")]
        content: Vec<Block>,
        is_error: bool,
    }
    "agent.custom_tool_use" => AgentCustomToolUse {
        name: String,
        #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
        input: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_thread_id: Option<ThreadId>,
    }
    "agent.thread_message_received" => ThreadMessageReceived {
        from_session_thread_id: ThreadId,
        #[serde(skip_serializing_if = "Option::is_none")]
        from_agent_name: Option<String>,
        #[schemars(schema_with = "crate::schema::said::<Block>")]
        content: Vec<Block>,
    }
    "agent.thread_message_sent" => ThreadMessageSent {
        to_session_thread_id: ThreadId,
        #[serde(skip_serializing_if = "Option::is_none")]
        to_agent_name: Option<String>,
        #[schemars(schema_with = "crate::schema::said::<Block>")]
        content: Vec<Block>,
    }
    "agent.thread_context_compacted" => ThreadContextCompacted {}
    "session.status_running" => StatusRunning {}
    "session.status_idle" => StatusIdle {
        stop_reason: StopReason,
        stop_details: Option<RefusalDetails>,
    }
    "session.status_rescheduled" => StatusRescheduled {}
    "session.status_terminated" => StatusTerminated {}
    "session.error" => SessionError { error: SessionError }
    "session.updated" => SessionUpdated {
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<SessionAgent>")]
        agent: Option<Box<RawValue>>,
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        budget: Option<Option<Budget>>,
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        title: Option<Option<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<std::collections::BTreeMap<String, String>>,
    }
    "session.usage" => SessionUsage { usage: SessionUsage, budget: Option<Budget> }
    "session.thread_created" => ThreadCreated {
        agent_name: String,
        session_thread_id: ThreadId,
        workflow_run_id: Option<WorkflowRunId>,
    }
    "session.thread_status_running" => ThreadStatusRunning {
        agent_name: String,
        session_thread_id: ThreadId,
    }
    "session.thread_status_idle" => ThreadStatusIdle {
        agent_name: String,
        session_thread_id: ThreadId,
        stop_reason: StopReason,
        stop_details: Option<RefusalDetails>,
    }
    "session.thread_status_rescheduled" => ThreadStatusRescheduled {
        agent_name: String,
        session_thread_id: ThreadId,
    }
    "session.thread_status_terminated" => ThreadStatusTerminated {
        agent_name: String,
        session_thread_id: ThreadId,
    }
    "session.deleted" => SessionDeleted {}
    "span.model_request_start" => SpanModelRequestStart {}
    "span.model_request_end" => SpanModelRequestEnd {
        model_request_start_id: EventId,
        is_error: bool,
        model_usage: ModelUsage,
    }
    "span.outcome_evaluation_start" => SpanOutcomeEvaluationStart {
        outcome_id: OutcomeId,
        iteration: u32,
    }
    "span.outcome_evaluation_ongoing" => SpanOutcomeEvaluationOngoing {
        outcome_id: OutcomeId,
        iteration: u32,
    }
    "span.outcome_evaluation_end" => SpanOutcomeEvaluationEnd {
        #[serde(with = "super::parts::or_empty")]
        #[schemars(with = "String")]
        outcome_evaluation_start_id: Option<EventId>,
        outcome_id: OutcomeId,
        iteration: u32,
        result: String,
        explanation: String,
        usage: ModelUsage,
    }
    "workflow_run.created" => WorkflowRunCreated {
        workflow_run_id: WorkflowRunId,
        name: String,
        description: Option<String>,
        phases: Vec<Phase>,
    }
    "workflow_run.status_running" => WorkflowRunStatusRunning { workflow_run_id: WorkflowRunId }
    "workflow_run.status_idle" => WorkflowRunStatusIdle { workflow_run_id: WorkflowRunId }
    "workflow_run.status_ended" => WorkflowRunStatusEnded {
        workflow_run_id: WorkflowRunId,
        result: WorkflowResult,
    }
    "workflow_run.error" => WorkflowRunError {
        workflow_run_id: Option<WorkflowRunId>,
        error: WorkflowError,
    }
    "workflow_run.phase_started" => WorkflowRunPhaseStarted {
        workflow_run_id: WorkflowRunId,
        workflow_run_phase_id: WorkflowPhaseId,
    }
    "workflow_run.phase_ended" => WorkflowRunPhaseEnded {
        workflow_run_id: WorkflowRunId,
        workflow_run_phase_id: WorkflowPhaseId,
        phase_started_id: EventId,
    }
}

impl Body {
    /// Whether an event of this type may wait for its place (api.md §9): what clients send.
    pub(super) fn can_wait(kind: &str) -> bool {
        kind == "system.message" || kind.starts_with("user.")
    }
}
