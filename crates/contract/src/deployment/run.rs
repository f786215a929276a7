//! Runs of deployments (api.md §16): each is one attempt to make a session. What became of the session is told
//! by the session.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::agent::AgentReference;
use crate::ids::{DeploymentId, DeploymentRunId, SessionId};
use crate::schema::constants;
use crate::time::Micros;

constants! { DeploymentRunTag = DeploymentRun; }

/// A run as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §16
pub struct DeploymentRun {
    pub id: DeploymentRunId,
    #[serde(rename = "type")]
    pub kind: DeploymentRunTag,
    pub deployment_id: DeploymentId,
    /// The agent as it was pinned then.
    pub agent: AgentReference,
    /// Null if there is an error.
    pub session_id: Option<SessionId>,
    /// Null if there is a session.
    pub error: Option<RunError>,
    pub trigger_context: Trigger,
    pub created_at: Micros,
}

impl DeploymentRun {
    /// A run as it is served: it made a session, or failed to.
    #[must_use]
    pub fn new(
        id: DeploymentRunId,
        (deployment_id, agent): (DeploymentId, AgentReference),
        trigger_context: Trigger,
        outcome: Result<SessionId, RunError>,
        created_at: Micros,
    ) -> Self {
        let (session_id, error) = match outcome {
            Ok(session) => (Some(session), None),
            Err(error) => (None, Some(error)),
        };
        Self {
            id,
            kind: DeploymentRunTag::DeploymentRun,
            deployment_id,
            agent,
            session_id,
            error,
            trigger_context,
            created_at,
        }
    }
}

/// Why a run happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Trigger {
    /// It was due.
    Schedule {
        /// The minute that the schedule names.
        scheduled_at: Micros,
    },
    /// Somebody asked for it.
    Manual,
}

/// The kinds of [`Trigger`], for a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TriggerKind {
    Schedule,
    Manual,
}

/// Why a run made no session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunError {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: RunErrorKind,
    /// For people.
    pub message: String,
}

/// The kinds of [`RunError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the values are the contract's, api.md §16
pub enum RunErrorKind {
    #[serde(rename = "environment_archived_error")]
    EnvironmentArchived,
    #[serde(rename = "agent_archived_error")]
    AgentArchived,
    #[serde(rename = "environment_not_found_error")]
    EnvironmentNotFound,
    #[serde(rename = "vault_not_found_error")]
    VaultNotFound,
    #[serde(rename = "vault_archived_error")]
    VaultArchived,
    #[serde(rename = "file_not_found_error")]
    FileNotFound,
    #[serde(rename = "memory_store_archived_error")]
    MemoryStoreArchived,
    #[serde(rename = "skill_not_found_error")]
    SkillNotFound,
    #[serde(rename = "session_resource_not_found_error")]
    SessionResourceNotFound,
    #[serde(rename = "workspace_archived_error")]
    WorkspaceArchived,
    #[serde(rename = "organization_disabled_error")]
    OrganizationDisabled,
    #[serde(rename = "session_rate_limited_error")]
    SessionRateLimited,
    #[serde(rename = "session_creation_rejected_error")]
    SessionCreationRejected,
    #[serde(rename = "self_hosted_resources_unsupported_error")]
    SelfHostedResourcesUnsupported,
    #[serde(rename = "mcp_egress_blocked_error")]
    McpEgressBlocked,
    #[serde(rename = "unknown_error")]
    Unknown,
}

impl RunErrorKind {
    /// Whether a scheduled run that fails so pauses its deployment: the next would fail too.
    #[must_use]
    pub const fn pauses(self) -> bool {
        !matches!(
            self,
            Self::SessionRateLimited | Self::SessionCreationRejected
        )
    }
}

/// The schema of the kinds that pause.
pub(super) fn pausing(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = RunErrorKind::json_schema(generator).to_value();
    if let Some(kinds) = schema["enum"].as_array_mut() {
        kinds.retain(|kind| {
            serde_json::from_value::<RunErrorKind>(kind.clone()).is_ok_and(RunErrorKind::pauses)
        });
    }
    schema.try_into().unwrap_or_default()
}
