//! What this build cannot honour yet. Agents and environments store every definition that the contract
//! allows; a session that needs such an effect is refused here, naming the field. Nothing is accepted
//! and ignored.

use crate::agent::{AgentDefinition, ExecutionIdentity, SessionAgent};
use crate::environment::{Config, EnvironmentDefinition};
use crate::error::ApiError;
use crate::event::Speed;
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
    if !agent.skills.is_empty() {
        return Some(Unbuilt::new("agent.skills", "running skills"));
    }
    if agent.multiagent.is_some() {
        return Some(team());
    }
    if agent.execution_identity != ExecutionIdentity::ServiceAccount {
        let what = "running under an identity of a cloud";
        return Some(Unbuilt::new("agent.execution_identity", what));
    }
    if agent.model.inference_geo.is_some() {
        return Some(Unbuilt::new(
            "agent.model.inference_geo",
            "pinning where inference runs",
        ));
    }
    if agent.model.speed != Speed::Standard {
        return Some(Unbuilt::new("agent.model.speed", "choosing a speed tier"));
    }
    for (index, tool) in agent.tools.iter().enumerate() {
        let path = format!("agent.tools[{index}]");
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
    if !agent.mcp_servers.is_empty() {
        return Some(Unbuilt::new(
            "agent.mcp_servers",
            "connecting to MCP servers",
        ));
    }
    None
}

/// As [`in_agent`], before the agents of a team are looked up.
#[must_use]
pub fn in_team(agent: &AgentDefinition) -> Option<Unbuilt> {
    agent.multiagent.as_ref().map(|_| team())
}

fn team() -> Unbuilt {
    Unbuilt::new("agent.multiagent", "running a team of agents")
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
