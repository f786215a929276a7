//! Sessions and threads as they are served (api.md §7.0, §10.0).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Budget;
use super::served::{OutcomeEvaluation, Resource};
use crate::agent::{SessionAgent, ThreadAgent};
use crate::event::SessionUsage;
use crate::ids::{DeploymentId, EnvironmentId, SessionId, ThreadId, VaultId, WorkflowRunId};
use crate::metadata::Metadata;
use crate::time::Micros;

/// The state of a session or thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A transient error; it goes on by itself.
    Rescheduling,
    /// At work.
    Running,
    /// Waits for input.
    Idle,
    /// Over.
    Terminated,
}

impl Status {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rescheduling => "rescheduling",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Terminated => "terminated",
        }
    }
}

/// Times of a session, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SessionStats {
    /// Running time summed over threads.
    pub active_seconds: f64,
    /// Since creation; frozen once terminated.
    pub duration_seconds: f64,
}

/// Times of a thread, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ThreadStats {
    /// Running time.
    pub active_seconds: f64,
    /// Since creation; frozen once archived.
    pub duration_seconds: f64,
    /// From creation to the first run; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<f64>,
}

/// A session as it is served. Its agent may be one that is written already.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
#[allow(missing_docs)] // the fields are the contract's, api.md §7.0
pub struct Session<A = SessionAgent> {
    pub id: SessionId,
    #[serde(rename = "type")]
    pub kind: SessionTag,
    pub status: Status,
    pub title: Option<String>,
    pub metadata: Metadata,
    pub agent: A,
    pub environment_id: EnvironmentId,
    pub vault_ids: Vec<VaultId>,
    pub resources: Vec<Resource>,
    pub outcome_evaluations: Vec<OutcomeEvaluation>,
    pub budget: Option<Budget>,
    pub stats: SessionStats,
    pub usage: SessionUsage,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
    /// The deployment that made it; absent if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
}

/// The constant `session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionTag {
    /// The only value.
    #[default]
    Session,
}

/// A thread as it is served.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §10.0
pub struct SessionThread {
    pub id: ThreadId,
    #[serde(rename = "type")]
    pub kind: ThreadTag,
    pub session_id: SessionId,
    pub agent: ThreadAgent,
    pub status: Status,
    /// Null for the primary thread.
    pub parent_thread_id: Option<ThreadId>,
    /// Null until the first change of status.
    pub stats: Option<ThreadStats>,
    /// Null until it was idle after a turn.
    pub usage: Option<SessionUsage>,
    /// Null unless a workflow run made it.
    pub workflow_run_id: Option<WorkflowRunId>,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

/// The constant `session_thread`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThreadTag {
    /// The only value.
    #[default]
    SessionThread,
}
