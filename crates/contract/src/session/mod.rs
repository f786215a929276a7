//! Sessions and threads as requests and objects (api.md §7, §10). What a session may do is decided in
//! the session core, not here.

mod lifetime;
mod object;
mod resources;
mod sandbox;
mod served;
mod unbuilt;
mod volumes;

pub use lifetime::{SANDBOX_TTL, SANDBOX_TTL_MAX, sandbox_ttl};
pub use object::{
    Session, SessionStats, SessionTag, SessionThread, Status, ThreadStats, ThreadTag,
};
pub use resources::{AddResource, UpdateResource};
pub use sandbox::{
    SANDBOX_KEEP_AWAKE, SANDBOX_PROVIDER, SANDBOX_START, SANDBOX_TEMPLATE, SandboxProvider,
    SandboxWishes,
};
pub use served::{FileMount, MemoryMount, OutcomeEvaluation, RepositoryMount, Resource};
pub use unbuilt::{Unbuilt, in_agent, unbuilt};
pub use volumes::{SANDBOX_VOLUMES, VolumeWish};

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentOverrides, McpServer, SkillParams};
use crate::check;
use crate::client_event::{self, ClientEvent};
use crate::ids::{AgentId, EnvironmentId, FileId, MemoryStoreId, VaultId};
use crate::limits::{
    AMOUNT_DIGITS, INITIAL_EVENTS, INSTRUCTIONS, MOUNT_PATH, RESOURCES, SECRET_BYTES, TITLE, VAULTS,
};
use crate::metadata::{self, Metadata, MetadataPatch};
use crate::model::ModelParams;
use crate::parse::{Invalid, StringOr, tagged};
use crate::patch::{Patch, present};
use crate::secret::Secret;
use crate::tools::ToolParams;

/// Body of `POST /v1/sessions`. [`CreateSession::check`] checks it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §7.1
pub struct CreateSession {
    pub agent: StringOr<AgentObject>,
    pub environment_id: EnvironmentId,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Budget")]
    pub budget: Option<Budget>,
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::initial::<ClientEvent>")]
    pub initial_events: Vec<ClientEvent>,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub resources: Vec<ResourceParams>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub vault_ids: Vec<VaultId>,
}

/// The long forms of an agent in a request.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentObject {
    /// An agent at a version.
    Agent(AgentAt),
    /// An agent with changes for this session.
    AgentWithOverrides(Box<AgentWithOverrides>),
}

tagged!(AgentObject {
    "agent" => Agent(AgentAt),
    "agent_with_overrides" => AgentWithOverrides(Box<AgentWithOverrides>),
});

/// An agent at a version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentAt {
    /// Which.
    pub id: AgentId,
    /// Absent: the latest.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "std::num::NonZeroU32")]
    pub version: Option<std::num::NonZeroU32>,
}

/// An agent with changes for this session.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §7.1
pub struct AgentWithOverrides {
    pub id: AgentId,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "std::num::NonZeroU32")]
    pub version: Option<std::num::NonZeroU32>,
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::value::<ModelParams>")] // null is refused
    pub model: Patch<ModelParams>,
    #[serde(default)]
    pub system: Patch<String>,
    #[serde(default)]
    pub tools: Patch<Vec<ToolParams>>,
    #[serde(default)]
    pub mcp_servers: Patch<Vec<McpServer>>,
    #[serde(default)]
    pub skills: Patch<Vec<SkillParams>>,
}

/// Which agent a session asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentAsked {
    /// Which.
    pub id: AgentId,
    /// Which version; `None`: the latest.
    pub version: Option<u32>,
    /// The session's changes, if any.
    pub overrides: Option<AgentOverrides>,
}

/// Body of `POST /v1/sessions/{id}`. [`UpdateSession::check`] checks it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §7.2
pub struct UpdateSession {
    #[serde(default)]
    pub title: Patch<String>,
    #[serde(default)]
    pub metadata: MetadataPatch,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "SessionAgentUpdate")]
    pub agent: Option<SessionAgentUpdate>,
    #[serde(default)]
    pub budget: Patch<Budget>,
    #[serde(default)]
    pub vault_ids: Patch<serde_json::Value>,
}

/// What a session may change in its agent.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SessionAgentUpdate {
    #[serde(default)]
    pub tools: Patch<Vec<ToolParams>>,
    #[serde(default)]
    pub mcp_servers: Patch<Vec<McpServer>>,
}

/// A cap on what a session costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Budget {
    /// The only form.
    Limit(BudgetLimit),
}

tagged!(Budget { "limit" => Limit(BudgetLimit) });

/// A cap at list prices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetLimit {
    /// The cap.
    pub max_list_cost: Money,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units (cents) as a decimal integer without leading zeros.
    pub amount: String,
    /// `USD`.
    pub currency: Currency,
}

/// A currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Currency {
    /// US dollars.
    #[serde(rename = "USD")]
    Usd,
}

/// A resource of a session in a request (api.md §3.11).
#[derive(Debug)]
pub enum ResourceParams {
    /// A file of the Files API.
    File(FileResource),
    /// A repository to clone.
    GithubRepository(RepositoryResource),
    /// A memory store to mount.
    MemoryStore(MemoryResource),
}

tagged!(ResourceParams {
    "file" => File(FileResource),
    "github_repository" => GithubRepository(RepositoryResource),
    "memory_store" => MemoryStore(MemoryResource),
});

/// A file of the Files API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FileResource {
    pub file_id: FileId,
    #[serde(default)]
    pub mount_path: Option<String>,
}

/// A repository to clone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RepositoryResource {
    pub url: String,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Secret")]
    pub authorization_token: Option<Secret>,
    #[serde(default)]
    pub checkout: Option<Checkout>,
    #[serde(default)]
    pub mount_path: Option<String>,
}

/// What to check out; the same in requests and in answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Checkout {
    /// A branch.
    Branch(Branch),
    /// A commit.
    Commit(Commit),
}

tagged!(Checkout { "branch" => Branch(Branch), "commit" => Commit(Commit) });

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Its name.
    pub name: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Its full hash.
    pub sha: String,
}

/// A memory store to mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MemoryResource {
    pub memory_store_id: MemoryStoreId,
    #[serde(default)]
    pub access: Option<Access>,
    #[serde(default)]
    pub instructions: Option<String>,
}

/// How a memory store is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

impl CreateSession {
    /// Checks every rule that needs no other object.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn check(&self) -> Result<(), Invalid> {
        self.asked()?;
        metadata::check(&self.metadata)?;
        check_title(self.title.as_deref())?;
        if let Some(budget) = &self.budget {
            budget.check()?;
        }
        self.check_initial_events()?;
        check_vaults(&self.vault_ids)?;
        check::count("resources", self.resources.len(), RESOURCES)?;
        for (index, resource) in self.resources.iter().enumerate() {
            resource
                .check()
                .map_err(|bad| bad.under_index(index).under("resources"))?;
        }
        Ok(())
    }

    /// Which agent is asked for.
    ///
    /// # Errors
    /// The short form is not an agent's id.
    pub fn asked(&self) -> Result<AgentAsked, Invalid> {
        Ok(match &self.agent {
            StringOr::String(text) => AgentAsked {
                id: text
                    .parse()
                    .map_err(|bad: crate::ids::BadId| Invalid::at("agent", bad.to_string()))?,
                version: None,
                overrides: None,
            },
            StringOr::Object(AgentObject::Agent(agent)) => AgentAsked {
                id: agent.id,
                version: agent.version.map(std::num::NonZeroU32::get),
                overrides: None,
            },
            StringOr::Object(AgentObject::AgentWithOverrides(agent)) => AgentAsked {
                id: agent.id,
                version: agent.version.map(std::num::NonZeroU32::get),
                overrides: Some(AgentOverrides {
                    model: agent.model.clone(),
                    system: agent.system.clone(),
                    tools: agent.tools.clone(),
                    mcp_servers: agent.mcp_servers.clone(),
                    skills: agent.skills.clone(),
                }),
            },
        })
    }

    fn check_initial_events(&self) -> Result<(), Invalid> {
        check::count("initial_events", self.initial_events.len(), INITIAL_EVENTS)?;
        let mut outcomes = 0;
        for (index, event) in self.initial_events.iter().enumerate() {
            let at = |bad: Invalid| bad.under_index(index).under("initial_events");
            match event {
                ClientEvent::UserMessage(_) => {}
                ClientEvent::UserDefineOutcome(_) => outcomes += 1,
                _ => {
                    let problem = "unknown value; allowed: `user.message`, `user.define_outcome`";
                    return Err(at(Invalid::at("type", problem)));
                }
            }
            if outcomes > 1 {
                return Err(at(Invalid::body(
                    "a session can have one outcome at a time",
                )));
            }
            event.check().map_err(at)?;
        }
        client_event::check_files("initial_events", &self.initial_events)
    }
}

/// At most 50 vaults, each once.
pub(crate) fn check_vaults(vaults: &[VaultId]) -> Result<(), Invalid> {
    check::count("vault_ids", vaults.len(), VAULTS)?;
    let mut seen = BTreeSet::new();
    match vaults.iter().position(|vault| !seen.insert(vault)) {
        None => Ok(()),
        Some(index) => Err(Invalid::at(format!("vault_ids[{index}]"), "is there twice")),
    }
}

fn check_title(title: Option<&str>) -> Result<(), Invalid> {
    title.map_or(Ok(()), |title| check::length("title", title, 0, TITLE))
}

impl UpdateSession {
    /// Checks every rule that does not need the session.
    ///
    /// # Errors
    /// The first rule that is broken; `vault_ids` is always refused, as hosted.
    pub fn check(&self) -> Result<(), Invalid> {
        if let Patch::Value(title) = &self.title {
            check_title(Some(title))?;
        }
        if let Patch::Value(budget) = &self.budget {
            budget.check()?;
        }
        if !self.vault_ids.is_absent() {
            return Err(Invalid::at(
                "vault_ids",
                "cannot be changed after a session is created",
            ));
        }
        Ok(())
    }
}

impl Budget {
    /// The cap in cents; 0 for an amount that [`CreateSession::check`] would refuse.
    #[must_use]
    pub fn cents(&self) -> u64 {
        let Self::Limit(limit) = self;
        limit.max_list_cost.amount.parse().unwrap_or(0)
    }

    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let Self::Limit(limit) = self;
        let amount = limit.max_list_cost.amount.as_str();
        let good = !amount.is_empty()
            && amount.len() <= AMOUNT_DIGITS
            && amount.bytes().all(|b| b.is_ascii_digit())
            && !amount.starts_with('0');
        if good {
            return Ok(());
        }
        Err(Invalid::at(
            "budget.max_list_cost.amount",
            "must be a whole number of cents above zero, without leading zeros, such as \"2500\"",
        ))
    }
}

impl ResourceParams {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let path = |path: &Option<String>| match path {
            Some(path) => check::length("mount_path", path, 1, MOUNT_PATH),
            None => Ok(()),
        };
        match self {
            Self::File(file) => path(&file.mount_path),
            Self::GithubRepository(repository) => {
                check::url("url", &repository.url)?;
                if let Some(token) = &repository.authorization_token {
                    check::length("authorization_token", token.expose(), 1, SECRET_BYTES)?;
                }
                path(&repository.mount_path)
            }
            Self::MemoryStore(store) => match &store.instructions {
                Some(text) => check::length("instructions", text, 0, INSTRUCTIONS),
                None => Ok(()),
            },
        }
    }
}
