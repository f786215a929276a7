//! Deployments (api.md §15): requests, the definition that is stored and the object that is served. When one
//! is due is decided elsewhere.

mod event;
mod resource;
mod run;
mod schedule;

pub use event::DeploymentEvent;
pub use resource::ResourceConfig;
pub use run::{DeploymentRun, DeploymentRunTag, RunError, RunErrorKind, Trigger, TriggerKind};
pub use schedule::{Cron, CronParams, Schedule, ScheduleParams, ScheduleTag};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::AgentReference;
use crate::check;
use crate::client_event::ClientEvent;
use crate::ids::{BadId, DeploymentId, EnvironmentId, VaultId};
use crate::limits::{DEPLOYMENT_NAME, DESCRIPTION};
use crate::metadata::{self, Empty, Metadata, MetadataPatch};
use crate::parse::{Invalid, StringOr, tagged};
use crate::patch::{Patch, present};
use crate::schema::constants;
use crate::secret::Secret;
use crate::session::{self, AgentAt, Budget, ResourceParams};
use crate::time::Micros;

constants! { DeploymentTag = Deployment; }

/// Body of `POST /v1/deployments`. [`CreateDeployment::resolve`] checks it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §15.1
pub struct CreateDeployment {
    pub name: String,
    pub agent: StringOr<DeployedAgent>,
    pub environment_id: EnvironmentId,
    #[schemars(schema_with = "crate::schema::deployed::<ClientEvent>")]
    pub initial_events: Vec<ClientEvent>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub resources: Vec<ResourceParams>,
    #[serde(default)]
    pub schedule: Option<ScheduleParams>,
    #[serde(default)]
    pub vault_ids: Vec<VaultId>,
    #[serde(default)]
    pub budget: Option<Budget>,
}

/// Body of `POST /v1/deployments/{id}`. [`DeploymentDefinition::updated`] applies it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §15.1
pub struct UpdateDeployment {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub name: Option<String>,
    /// The short form pins the latest version again.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "StringOr<DeployedAgent>")]
    pub agent: Option<StringOr<DeployedAgent>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "EnvironmentId")]
    pub environment_id: Option<EnvironmentId>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(schema_with = "crate::schema::deployed::<ClientEvent>")]
    pub initial_events: Option<Vec<ClientEvent>>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub metadata: MetadataPatch,
    #[serde(default)]
    pub resources: Patch<Vec<ResourceParams>>,
    /// Null: it runs by hand only.
    #[serde(default)]
    pub schedule: Patch<ScheduleParams>,
    #[serde(default)]
    pub vault_ids: Patch<Vec<VaultId>>,
    #[serde(default)]
    pub budget: Patch<Budget>,
}

/// The long form of a deployment's agent: one that has no changes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeployedAgent {
    /// An agent at a version.
    Agent(AgentAt),
}

tagged!(DeployedAgent { "agent" => Agent(AgentAt) });

/// A deployment without its identity and its agent: what is stored. It holds no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct DeploymentDefinition {
    pub name: String,
    pub description: Option<String>,
    pub environment_id: EnvironmentId,
    pub initial_events: Vec<DeploymentEvent>,
    pub resources: Vec<ResourceConfig>,
    pub vault_ids: Vec<VaultId>,
    pub metadata: Metadata,
    pub schedule: Option<ScheduleParams>,
    pub budget: Option<Budget>,
}

/// A definition, and what the caller has to do before it is stored.
#[derive(Debug)]
pub struct Resolved {
    /// What is stored in clear.
    pub definition: DeploymentDefinition,
    /// The agent to look up and to pin; `None`: the one that is pinned stays.
    pub agent: Option<AgentAt>,
    /// The token of each resource, in order, to be sealed; `None`: those that are sealed stay.
    pub tokens: Option<Vec<Option<Secret>>>,
}

/// Whether a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the values are the contract's
pub enum DeploymentStatus {
    Active,
    Paused,
}

/// Why a deployment is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PausedReason {
    /// Somebody paused it.
    Manual,
    /// A scheduled run failed in a way that the next would too.
    Error {
        /// How.
        error: PausedError,
    },
}

/// The failure that paused a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PausedError {
    /// Its kind.
    #[serde(rename = "type")]
    #[schemars(schema_with = "run::pausing")]
    pub kind: RunErrorKind,
}

/// A deployment as it is served.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §15.0
pub struct Deployment {
    pub id: DeploymentId,
    #[serde(rename = "type")]
    pub kind: DeploymentTag,
    pub name: String,
    pub description: Option<String>,
    pub agent: AgentReference,
    pub environment_id: EnvironmentId,
    pub initial_events: Vec<DeploymentEvent>,
    pub resources: Vec<ResourceConfig>,
    pub vault_ids: Vec<VaultId>,
    pub metadata: Metadata,
    pub schedule: Option<Schedule>,
    pub status: DeploymentStatus,
    /// Null unless it is paused.
    pub paused_reason: Option<PausedReason>,
    /// Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

/// What changes in the life of a deployment without an update of its definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct DeploymentState {
    pub paused: Option<PausedReason>,
    pub last_run_at: Option<Micros>,
    /// At most five; empty once it is archived.
    pub upcoming_runs_at: Vec<Micros>,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

impl Deployment {
    /// A deployment as it is served. One that is archived is `active`, whatever it was before.
    #[must_use]
    pub fn new(
        id: DeploymentId,
        agent: AgentReference,
        definition: DeploymentDefinition,
        state: DeploymentState,
    ) -> Self {
        let paused_reason = state.paused.filter(|_| state.archived_at.is_none());
        let served = |params| Schedule::new(params, state.last_run_at, state.upcoming_runs_at);
        Self {
            id,
            kind: DeploymentTag::Deployment,
            name: definition.name,
            description: definition.description,
            agent,
            environment_id: definition.environment_id,
            initial_events: definition.initial_events,
            resources: definition.resources,
            vault_ids: definition.vault_ids,
            metadata: definition.metadata,
            schedule: definition.schedule.map(served),
            status: match paused_reason {
                Some(_) => DeploymentStatus::Paused,
                None => DeploymentStatus::Active,
            },
            paused_reason,
            budget: definition.budget,
            created_at: state.created_at,
            updated_at: state.updated_at,
            archived_at: state.archived_at,
        }
    }
}

impl CreateDeployment {
    /// Checks every rule that needs no other object, and parts the secrets from the rest.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn resolve(self) -> Result<Resolved, Invalid> {
        let agent = asked(self.agent)?;
        let (resources, tokens) = resource::parted(self.resources)?;
        let definition = DeploymentDefinition {
            name: self.name,
            description: self.description.filter(|text| !text.is_empty()),
            environment_id: self.environment_id,
            initial_events: event::accepted(self.initial_events)?,
            resources,
            vault_ids: self.vault_ids,
            metadata: self.metadata,
            schedule: self.schedule,
            budget: self.budget,
        };
        Ok(Resolved {
            definition: definition.checked()?,
            agent: Some(agent),
            tokens: Some(tokens),
        })
    }
}

impl DeploymentDefinition {
    /// The deployment after an update: whatever it names is replaced whole, but metadata, which change key by
    /// key.
    ///
    /// # Errors
    /// The first rule that the result breaks, with its path.
    pub fn updated(&self, update: UpdateDeployment) -> Result<Resolved, Invalid> {
        let agent = update.agent.map(asked).transpose()?;
        let (resources, tokens) = match update.resources {
            Patch::Absent => (self.resources.clone(), None),
            Patch::Null => (Vec::new(), Some(Vec::new())),
            Patch::Value(params) => {
                let (resources, tokens) = resource::parted(params)?;
                (resources, Some(tokens))
            }
        };
        let initial_events = match update.initial_events {
            None => self.initial_events.clone(),
            Some(events) => event::accepted(events)?,
        };
        let description = update.description.apply(self.description.clone());
        let vault_ids = update.vault_ids.apply(Some(self.vault_ids.clone()));
        let definition = Self {
            name: update.name.unwrap_or_else(|| self.name.clone()),
            description: description.filter(|text| !text.is_empty()),
            environment_id: update.environment_id.unwrap_or(self.environment_id),
            initial_events,
            resources,
            vault_ids: vault_ids.unwrap_or_default(),
            metadata: metadata::patched(&self.metadata, update.metadata, Empty::Keeps)?,
            schedule: update.schedule.apply(self.schedule.clone()),
            budget: update.budget.apply(self.budget.clone()),
        };
        Ok(Resolved {
            definition: definition.checked()?,
            agent,
            tokens,
        })
    }

    fn checked(self) -> Result<Self, Invalid> {
        check::length("name", &self.name, 1, DEPLOYMENT_NAME)?;
        if let Some(description) = &self.description {
            check::length("description", description, 1, DESCRIPTION)?;
        }
        metadata::check(&self.metadata)?;
        session::check_vaults(&self.vault_ids)?;
        if let Some(schedule) = &self.schedule {
            schedule.check()?;
        }
        if let Some(budget) = &self.budget {
            budget.check()?;
        }
        Ok(self)
    }
}

/// Which agent is asked for. Absent version: the latest.
fn asked(agent: StringOr<DeployedAgent>) -> Result<AgentAt, Invalid> {
    match agent {
        StringOr::Object(DeployedAgent::Agent(agent)) => Ok(agent),
        StringOr::String(text) => {
            let bad = |bad: BadId| Invalid::at("agent", bad.to_string());
            let id = text.parse().map_err(bad)?;
            Ok(AgentAt { id, version: None })
        }
    }
}
