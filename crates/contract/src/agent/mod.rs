//! Agents (api.md §4): requests, the definition that is stored, and the object that is served. Rules
//! that need other agents are left to the caller (see [`AgentDefinition::referenced`]).

mod definition;
mod multiagent;
mod snapshot;
mod team;

pub use definition::AgentDefinition;
pub use multiagent::{
    Advisor, AdvisorParams, AgentRef, CoordinatorParams, Found, InlineAgents, Multiagent,
    MultiagentParams, Referenced, RosterEntry, Team, TeamParams, TopologyParams,
};
pub use snapshot::{AgentOverrides, InlineAgent, SessionAgent, SessionThreadAgent, ThreadAgent};
pub use team::{
    EnabledGroup, SessionCoordinator, SessionGroup, SessionTeam, SessionTopology, TeamMember,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::AgentId;
use crate::metadata::{Metadata, MetadataPatch};
use crate::model::{ModelConfig, ModelParams};
use crate::parse::tagged;
use crate::patch::{Patch, present};
use crate::time::Micros;
use crate::tools::{Tool, ToolParams};

/// Body of `POST /v1/agents`. [`CreateAgent::resolve`] checks it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §4.1
pub struct CreateAgent {
    pub name: String,
    pub model: ModelParams,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub system: Option<String>,
    #[serde(default)]
    pub tools: Vec<ToolParams>,
    #[serde(default)]
    pub mcp_servers: Vec<McpServer>,
    #[serde(default)]
    pub skills: Vec<SkillParams>,
    #[serde(default)]
    pub multiagent: Option<MultiagentParams>,
    #[serde(default)]
    pub execution_identity: Option<ExecutionIdentity>,
    #[serde(default)]
    pub metadata: Metadata,
}

/// Body of `POST /v1/agents/{id}`. [`AgentDefinition::updated`] applies it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §4.3
pub struct UpdateAgent {
    #[serde(default)]
    // Null is refused: an agent always has one.
    #[schemars(schema_with = "crate::schema::value::<String>")]
    pub name: Patch<String>,
    #[serde(default)]
    // Null is refused: an agent always has one.
    #[schemars(schema_with = "crate::schema::value::<ModelParams>")]
    pub model: Patch<ModelParams>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub system: Patch<String>,
    #[serde(default)]
    pub tools: Patch<Vec<ToolParams>>,
    #[serde(default)]
    pub mcp_servers: Patch<Vec<McpServer>>,
    #[serde(default)]
    pub skills: Patch<Vec<SkillParams>>,
    #[serde(default)]
    pub multiagent: Patch<MultiagentParams>,
    #[serde(default)]
    pub execution_identity: Patch<ExecutionIdentity>,
    #[serde(default)]
    pub metadata: MetadataPatch,
    /// The version that the client believes to be current; absent: whatever it is.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "std::num::NonZeroU32")]
    pub version: Option<std::num::NonZeroU32>,
}

/// An MCP server, the same in requests, in store and in answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum McpServer {
    /// Reached over HTTP.
    Url(UrlServer),
}

tagged!(McpServer { "url" => Url(UrlServer) });

/// An MCP server reached over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlServer {
    /// Unique in its agent.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// A skill in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkillParams {
    /// One of Anthropic's.
    Anthropic(SkillRefParams),
    /// One that was uploaded.
    Custom(SkillRefParams),
}

tagged!(SkillParams { "anthropic" => Anthropic(SkillRefParams), "custom" => Custom(SkillRefParams) });

/// Which skill, in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkillRefParams {
    /// `xlsx` or `skill_…`.
    pub skill_id: String,
    /// Absent: the latest.
    #[serde(default)]
    pub version: Option<String>,
}

/// A skill as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Skill {
    /// One of Anthropic's.
    Anthropic(SkillRef),
    /// One that was uploaded.
    Custom(SkillRef),
}

tagged!(Skill { "anthropic" => Anthropic(SkillRef), "custom" => Custom(SkillRef) });

/// Which skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkillRef {
    /// `xlsx` or `skill_…`.
    pub skill_id: String,
    /// A version, or `latest` as long as this build has no skills to resolve it against.
    pub version: String,
}

/// As whom an agent acts at a cloud.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecutionIdentity {
    /// The platform's own; carries nothing.
    #[default]
    ServiceAccount,
    /// A role at AWS.
    AwsRole(AwsRole),
}

tagged!(ExecutionIdentity { "service_account" => ServiceAccount, "aws_role" => AwsRole(AwsRole) });

/// A role at AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsRole {
    /// Its ARN.
    pub role_arn: String,
}

/// An agent as it is served.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §4.0
pub struct Agent {
    pub id: AgentId,
    #[serde(rename = "type")]
    pub kind: AgentTag,
    pub name: String,
    pub description: Option<String>,
    pub system: Option<String>,
    pub model: ModelConfig,
    pub tools: Vec<Tool>,
    pub mcp_servers: Vec<McpServer>,
    pub skills: Vec<Skill>,
    pub multiagent: Option<Multiagent>,
    pub execution_identity: ExecutionIdentity,
    pub metadata: Metadata,
    pub version: u32,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

/// The constant `agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentTag {
    /// The only value.
    #[default]
    Agent,
}

/// An agent at a version, as other objects name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct AgentReference {
    pub id: AgentId,
    #[serde(rename = "type")]
    pub kind: AgentTag,
    pub version: u32,
}

impl Agent {
    /// One version of an agent as it is served.
    #[must_use]
    pub fn new(
        id: AgentId,
        version: u32,
        definition: AgentDefinition,
        created_at: Micros,
        updated_at: Micros,
        archived_at: Option<Micros>,
    ) -> Self {
        Self {
            id,
            kind: AgentTag::Agent,
            name: definition.name,
            description: definition.description,
            system: definition.system,
            model: definition.model,
            tools: definition.tools,
            mcp_servers: definition.mcp_servers,
            skills: definition.skills,
            multiagent: definition.multiagent.map(|multi| multi.pinned(id, version)),
            execution_identity: definition.execution_identity,
            metadata: definition.metadata,
            version,
            created_at,
            updated_at,
            archived_at,
        }
    }
}
