//! The agent as a session holds it: a copy of one version, with the overrides of the session
//! (behaviours §3.1). It never changes when the agent does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::definition::{check_servers, resolve_skills};
use super::{
    AdvisorParams, AgentDefinition, AgentTag, ExecutionIdentity, McpServer, SessionTeam, Skill,
    SkillParams,
};
use crate::check;
use crate::ids::AgentId;
use crate::limits::SYSTEM;
use crate::model::{ModelConfig, ModelParams};
use crate::parse::Invalid;
use crate::patch::Patch;
use crate::tools::{self, Tool, ToolParams};

/// What a session changes in its agent: absent inherits, null or `[]` clears, a value replaces whole.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §7.1
pub struct AgentOverrides {
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

/// The agent of a session (api.md §7.3), as stored and served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct SessionAgent {
    pub id: AgentId,
    #[serde(rename = "type")]
    pub kind: AgentTag,
    pub version: u32,
    pub name: String,
    pub description: Option<String>,
    pub system: Option<String>,
    pub model: ModelConfig,
    pub tools: Vec<Tool>,
    pub mcp_servers: Vec<McpServer>,
    pub skills: Vec<Skill>,
    /// Its team, with a copy of each member.
    pub multiagent: Option<SessionTeam>,
    pub execution_identity: ExecutionIdentity,
}

/// The agent of a thread: as [`SessionAgent`] without its team.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct SessionThreadAgent {
    pub id: AgentId,
    pub version: u32,
    pub name: String,
    pub description: Option<String>,
    pub system: Option<String>,
    pub model: ModelConfig,
    pub tools: Vec<Tool>,
    pub mcp_servers: Vec<McpServer>,
    pub skills: Vec<Skill>,
    pub execution_identity: ExecutionIdentity,
}

/// Whom a thread runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ThreadAgent {
    /// An agent of the workspace.
    Agent(Box<SessionThreadAgent>),
    /// One that was made up on the spot.
    Inline(Box<InlineAgent>),
    /// A model that is asked for advice.
    Advisor(AdvisorParams),
}

/// An agent that was made up on the spot: it has no id and no versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct InlineAgent {
    pub name: String,
    pub description: Option<String>,
    pub system: Option<String>,
    pub model: ModelConfig,
    pub tools: Vec<Tool>,
    pub mcp_servers: Vec<McpServer>,
    pub skills: Vec<Skill>,
    pub execution_identity: ExecutionIdentity,
}

impl From<SessionAgent> for ThreadAgent {
    fn from(agent: SessionAgent) -> Self {
        Self::Agent(Box::new(agent.into()))
    }
}

impl SessionThreadAgent {
    /// An agent as it is defined.
    pub(super) fn of(id: AgentId, version: u32, definition: AgentDefinition) -> Self {
        Self {
            id,
            version,
            name: definition.name,
            description: definition.description,
            system: definition.system,
            model: definition.model,
            tools: definition.tools,
            mcp_servers: definition.mcp_servers,
            skills: definition.skills,
            execution_identity: definition.execution_identity,
        }
    }
}

impl From<SessionAgent> for SessionThreadAgent {
    fn from(agent: SessionAgent) -> Self {
        Self {
            id: agent.id,
            version: agent.version,
            name: agent.name,
            description: agent.description,
            system: agent.system,
            model: agent.model,
            tools: agent.tools,
            mcp_servers: agent.mcp_servers,
            skills: agent.skills,
            execution_identity: agent.execution_identity,
        }
    }
}

impl SessionAgent {
    /// The agent with other tools or MCP servers: absent keeps, null and `[]` clear, a value replaces whole
    /// (api.md §7.2). Paths start at `agent`.
    ///
    /// # Errors
    /// Skills without a `read` tool, servers and toolsets that do not match, and every rule of tools.
    pub fn updated(
        &self,
        tools: Patch<Vec<ToolParams>>,
        mcp_servers: Patch<Vec<McpServer>>,
    ) -> Result<Self, Invalid> {
        let changed = || {
            let tools = match list(tools) {
                Some(tools) => tools::resolve(tools)?,
                None => self.tools.clone(),
            };
            if tools.is_empty() && !self.skills.is_empty() {
                return Err(Invalid::at(
                    "tools",
                    "cannot be cleared: skills need the tool `read`",
                ));
            }
            let mcp_servers = list(mcp_servers).unwrap_or_else(|| self.mcp_servers.clone());
            check_servers(&mcp_servers, &tools)?;
            Ok(Self {
                tools,
                mcp_servers,
                ..self.clone()
            })
        };
        changed().map_err(|bad: Invalid| bad.under("agent"))
    }
}

fn list<T>(patch: Patch<Vec<T>>) -> Option<Vec<T>> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(Vec::new()),
        Patch::Value(items) => Some(items),
    }
}

impl AgentDefinition {
    /// A session's copy of this version, with the session's overrides. Paths start at `agent`.
    ///
    /// # Errors
    /// `model: null`, skills without a `read` tool, servers and toolsets that do not match, every rule that an
    /// agent has, and a team that names other agents: [`Self::team_snapshot`] copies those.
    pub fn session_snapshot(
        &self,
        id: AgentId,
        version: u32,
        overrides: Option<AgentOverrides>,
    ) -> Result<SessionAgent, Invalid> {
        self.team_snapshot(id, version, overrides, |_, _| None)
    }

    /// As [`Self::session_snapshot`], with a copy of each agent of the team. The overrides change the agent
    /// itself, where the team names it too, and none of the others. `find` gives another agent at a version.
    ///
    /// # Errors
    /// As [`Self::session_snapshot`]; an agent of the team is not found.
    pub fn team_snapshot(
        &self,
        id: AgentId,
        version: u32,
        overrides: Option<AgentOverrides>,
        find: impl FnMut(AgentId, u32) -> Option<Self>,
    ) -> Result<SessionAgent, Invalid> {
        let cast = || {
            let alone = self.snapshot(id, version, overrides)?;
            let multiagent = match &self.multiagent {
                None => None,
                Some(team) => {
                    let own = alone.clone().into();
                    let team = team.cast(&own, find);
                    Some(team.map_err(|bad| bad.under("multiagent"))?)
                }
            };
            Ok(SessionAgent {
                multiagent,
                ..alone
            })
        };
        cast().map_err(|bad: Invalid| bad.under("agent"))
    }

    fn system_under(&self, system: Patch<String>) -> Result<Option<String>, Invalid> {
        Ok(match system {
            Patch::Absent => self.system.clone(),
            Patch::Null => None,
            Patch::Value(text) => {
                check::length("system", &text, 0, SYSTEM)?;
                (!text.is_empty()).then_some(text)
            }
        })
    }

    /// Without the team.
    fn snapshot(
        &self,
        id: AgentId,
        version: u32,
        overrides: Option<AgentOverrides>,
    ) -> Result<SessionAgent, Invalid> {
        let AgentOverrides {
            model,
            system,
            tools,
            mcp_servers,
            skills,
        } = overrides.unwrap_or_default();
        let model = match model {
            Patch::Absent => self.model.clone(),
            Patch::Null => {
                return Err(Invalid::at(
                    "model",
                    "agent_model_required: cannot be cleared",
                ));
            }
            // An override's effort is ignored and the agent's is dropped.
            Patch::Value(model) => ModelConfig {
                effort: None,
                ..ModelConfig::resolve(model, None)?
            },
        };
        let system = self.system_under(system)?;
        let cleared = matches!(&tools, Patch::Null)
            || matches!(&tools, Patch::Value(tools) if tools.is_empty());
        let tools = match list(tools) {
            Some(tools) => tools::resolve(tools)?,
            None => self.tools.clone(),
        };
        let skills = match list(skills) {
            Some(skills) => resolve_skills(skills)?,
            None => self.skills.clone(),
        };
        if cleared && !skills.is_empty() {
            return Err(Invalid::at(
                "tools",
                "cannot be cleared: skills need the tool `read`",
            ));
        }
        let mcp_servers = list(mcp_servers).unwrap_or_else(|| self.mcp_servers.clone());
        check_servers(&mcp_servers, &tools)?;
        Ok(SessionAgent {
            id,
            kind: AgentTag::Agent,
            version,
            name: self.name.clone(),
            description: self.description.clone(),
            system,
            model,
            tools,
            mcp_servers,
            skills,
            multiagent: None,
            execution_identity: self.execution_identity.clone(),
        })
    }
}
