//! What this build cannot honour yet. Agents and environments store every definition that the contract
//! allows; a session that needs such an effect is refused here, naming the field. Nothing is accepted
//! and ignored.

use crate::agent::{
    ExecutionIdentity, McpServer, SessionAgent, SessionTeam, SessionThreadAgent, Skill,
};
use crate::environment::{Config, EnvironmentDefinition};
use crate::error::ApiError;
use crate::event::Speed;
use crate::model::ModelConfig;
use crate::session::CreateSession;
use crate::tools::{AgentToolset, Tool, ToolConfig};

/// A field whose effect this build does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbuilt {
    /// Where the field is, seen from the session.
    pub path: String,
    /// What is missing, as a noun phrase.
    pub what: String,
}

impl Unbuilt {
    pub(super) fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            what: what.into(),
        }
    }
}

impl From<Unbuilt> for ApiError {
    fn from(unbuilt: Unbuilt) -> Self {
        Self::unbuilt(
            &unbuilt.path,
            &format!("{} is not supported by this build", unbuilt.what),
        )
    }
}

/// The first thing that a new session needs and this build does not have. `web_fetch` and `web_search`
/// that are enabled only by default are tolerated: they are not offered to the model.
#[must_use]
pub fn unbuilt(
    request: &CreateSession,
    agent: &SessionAgent,
    environment: &EnvironmentDefinition,
) -> Option<Unbuilt> {
    let request_parts = || {
        if !request.resources.is_empty() {
            return Some(Unbuilt::new("resources", "mounting resources"));
        }
        request
            .initial_events
            .iter()
            .enumerate()
            .find(|(_, event)| !event.served())
            .map(|(index, event)| {
                Unbuilt::new(
                    format!("initial_events[{index}].type"),
                    format!("the event `{}`", event.kind()),
                )
            })
    };
    request_parts()
        .or_else(|| in_agent(agent))
        .or_else(|| in_environment(environment))
}

/// The first thing that a session with this agent needs and this build does not have.
#[must_use]
pub fn in_agent(agent: &SessionAgent) -> Option<Unbuilt> {
    in_parts("agent", agent.into()).or_else(|| agent.multiagent.as_ref().and_then(in_team))
}

/// The first thing that an agent of the team needs and this build does not have.
fn in_team(team: &SessionTeam) -> Option<Unbuilt> {
    let path = match team {
        SessionTeam::Coordinator(_) => "agent.multiagent.agents",
        SessionTeam::Multiagent20261001(_) => "agent.multiagent.subagents.predefined_agents",
    };
    let mut members = team.members().into_iter();
    members.find_map(|member| in_parts(&format!("{path} ({})", member.name), member.into()))
}

/// What may need more than this build has.
struct Parts<'a> {
    skills: &'a [Skill],
    identity: &'a ExecutionIdentity,
    model: &'a ModelConfig,
    tools: &'a [Tool],
    servers: &'a [McpServer],
}

impl<'a> From<&'a SessionAgent> for Parts<'a> {
    fn from(agent: &'a SessionAgent) -> Self {
        Self {
            skills: &agent.skills,
            identity: &agent.execution_identity,
            model: &agent.model,
            tools: &agent.tools,
            servers: &agent.mcp_servers,
        }
    }
}

impl<'a> From<&'a SessionThreadAgent> for Parts<'a> {
    fn from(agent: &'a SessionThreadAgent) -> Self {
        Self {
            skills: &agent.skills,
            identity: &agent.execution_identity,
            model: &agent.model,
            tools: &agent.tools,
            servers: &agent.mcp_servers,
        }
    }
}

fn in_parts(at: &str, agent: Parts<'_>) -> Option<Unbuilt> {
    let unbuilt = |field: &str, what: &str| Some(Unbuilt::new(format!("{at}.{field}"), what));
    if !agent.skills.is_empty() {
        return unbuilt("skills", "running skills");
    }
    if *agent.identity != ExecutionIdentity::ServiceAccount {
        return unbuilt("execution_identity", "running under an identity of a cloud");
    }
    if agent.model.inference_geo.is_some() {
        return unbuilt("model.inference_geo", "pinning where inference runs");
    }
    if agent.model.speed != Speed::Standard {
        return unbuilt("model.speed", "choosing a speed tier");
    }
    for (index, tool) in agent.tools.iter().enumerate() {
        let path = format!("{at}.tools[{index}]");
        match tool {
            Tool::Custom(_) => {}
            Tool::McpToolset(_) => return Some(Unbuilt::new(path, "connecting to MCP servers")),
            Tool::AgentToolset(toolset) => {
                if let Some(unbuilt) = in_toolset(&path, toolset) {
                    return Some(unbuilt);
                }
            }
        }
    }
    if !agent.servers.is_empty() {
        return unbuilt("mcp_servers", "connecting to MCP servers");
    }
    None
}

fn in_toolset(path: &str, toolset: &AgentToolset) -> Option<Unbuilt> {
    let wanted = |config: &&ToolConfig| config.enabled && config.name.is_web();
    let index = toolset.configs.iter().position(|config| wanted(&config))?;
    let what = format!("the tool `{}`", toolset.configs[index].name.name());
    Some(Unbuilt::new(format!("{path}.configs[{index}]"), what))
}

fn in_environment(environment: &EnvironmentDefinition) -> Option<Unbuilt> {
    match &environment.config {
        Config::SelfHosted => Some(Unbuilt::new(
            "environment_id",
            "a session in a self_hosted environment",
        )),
        Config::Cloud(cloud) => cloud.packages.first_used().map(|manager| {
            Unbuilt::new(
                "environment_id",
                format!("installing packages (`config.packages.{manager}` of the environment)"),
            )
        }),
    }
}
