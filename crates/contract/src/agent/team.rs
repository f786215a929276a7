//! The team of a session's agent (api.md §7.3): a copy of each agent that the definition names, made when the
//! session is. It never changes when those agents do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::multiagent::{AgentRef, Multiagent, PinnedAgent, Team};
use super::snapshot::SessionThreadAgent;
use super::{AdvisorParams, AgentDefinition, InlineAgents};
use crate::agent::multiagent::Advisor;
use crate::ids::AgentId;
use crate::parse::{Invalid, tagged};

/// A session's team, as stored and served.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionTeam {
    /// The older topology.
    Coordinator(SessionCoordinator),
    /// Advisor, subagents and workflows.
    #[serde(rename = "multiagent_20261001")]
    Multiagent20261001(SessionTopology),
}

tagged!(SessionTeam {
    "coordinator" => Coordinator(SessionCoordinator),
    "multiagent_20261001" => Multiagent20261001(SessionTopology),
});

/// The older topology.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionCoordinator {
    /// Whom it may run.
    pub agents: Vec<TeamMember>,
}

/// Topology 2026-10-01.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct SessionTopology {
    pub advisor: Advisor,
    pub subagents: SessionGroup,
    pub workflows: SessionGroup,
}

/// Subagents or workflows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SessionGroup {
    /// Allowed.
    Enabled(EnabledGroup),
    /// Not allowed.
    Disabled,
}

tagged!(SessionGroup { "enabled" => Enabled(EnabledGroup), "disabled" => Disabled });

/// Whom subagents or workflows may run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct EnabledGroup {
    pub inline_agents: InlineAgents,
    #[schemars(schema_with = "crate::schema::predefined::<TeamMember>")]
    pub predefined_agents: Vec<TeamMember>,
}

/// A member of a team.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TeamMember {
    /// An agent, whole.
    Agent(Box<SessionThreadAgent>),
    /// A model to ask for advice (coordinator only).
    Advisor(AdvisorParams),
}

tagged!(TeamMember { "agent" => Agent(Box<SessionThreadAgent>), "advisor" => Advisor(AdvisorParams) });

impl SessionTeam {
    /// The agents that the session's agent may begin threads of, in the order of the definition. A workflow's agents
    /// are none of them.
    #[must_use]
    pub fn members(&self) -> Vec<&SessionThreadAgent> {
        let members = match self {
            Self::Coordinator(team) => team.agents.as_slice(),
            Self::Multiagent20261001(topology) => match &topology.subagents {
                SessionGroup::Enabled(group) => group.predefined_agents.as_slice(),
                SessionGroup::Disabled => &[],
            },
        };
        let agents = members.iter().filter_map(|member| match member {
            TeamMember::Agent(agent) => Some(agent.as_ref()),
            TeamMember::Advisor(_) => None,
        });
        agents.collect()
    }

    /// Whether it may make up agents.
    #[must_use]
    pub fn makes_up(&self) -> bool {
        match self {
            Self::Coordinator(_) => false,
            Self::Multiagent20261001(topology) => match &topology.subagents {
                SessionGroup::Enabled(group) => group.inline_agents == InlineAgents::Enabled,
                SessionGroup::Disabled => false,
            },
        }
    }

    /// The model that it may ask for advice.
    #[must_use]
    pub fn advisor(&self) -> Option<&str> {
        match self {
            Self::Coordinator(team) => team.agents.iter().find_map(|member| match member {
                TeamMember::Advisor(advisor) => Some(advisor.model.as_str()),
                TeamMember::Agent(_) => None,
            }),
            Self::Multiagent20261001(topology) => match &topology.advisor {
                Advisor::Enabled(advisor) => Some(&advisor.model),
                Advisor::Disabled => None,
            },
        }
    }
}

impl Multiagent {
    /// The team with a copy of each agent that it names. `own` stands for the agent itself and has the
    /// session's overrides; `find` gives the others as they are defined. Paths start inside `multiagent`.
    ///
    /// # Errors
    /// An agent, or the version of it, is not found.
    pub(super) fn cast(
        &self,
        own: &SessionThreadAgent,
        mut find: impl FnMut(AgentId, u32) -> Option<AgentDefinition>,
    ) -> Result<SessionTeam, Invalid> {
        let mut members = |field: &str, entries: &[AgentRef]| {
            let mut out = Vec::with_capacity(entries.len());
            for (index, entry) in entries.iter().enumerate() {
                let member = member(entry, own, &mut find);
                out.push(member.map_err(|bad| bad.under_index(index).under(field))?);
            }
            Ok::<_, Invalid>(out)
        };
        Ok(match self {
            Self::Coordinator(team) => SessionTeam::Coordinator(SessionCoordinator {
                agents: members("agents", &team.agents)?,
            }),
            Self::Multiagent20261001(topology) => {
                let mut group = |name: &str, team: &Team| match team {
                    Team::Disabled => Ok(SessionGroup::Disabled),
                    Team::Enabled(team) => {
                        let agents = members("predefined_agents", &team.predefined_agents);
                        Ok::<_, Invalid>(SessionGroup::Enabled(EnabledGroup {
                            inline_agents: team.inline_agents,
                            predefined_agents: agents.map_err(|bad| bad.under(name))?,
                        }))
                    }
                };
                SessionTeam::Multiagent20261001(SessionTopology {
                    advisor: topology.advisor.clone(),
                    subagents: group("subagents", &topology.subagents)?,
                    workflows: group("workflows", &topology.workflows)?,
                })
            }
        })
    }
}

fn member(
    entry: &AgentRef,
    own: &SessionThreadAgent,
    find: &mut impl FnMut(AgentId, u32) -> Option<AgentDefinition>,
) -> Result<TeamMember, Invalid> {
    match entry {
        AgentRef::Own => Ok(TeamMember::Agent(Box::new(own.clone()))),
        AgentRef::Advisor(advisor) => Ok(TeamMember::Advisor(advisor.clone())),
        AgentRef::Agent(PinnedAgent { id, version }) => {
            let found = version.and_then(|version| Some((version, find(*id, version)?)));
            let (version, definition) =
                found.ok_or_else(|| Invalid::body("no such agent, or no such version of it"))?;
            let agent = SessionThreadAgent::of(*id, version, definition);
            Ok(TeamMember::Agent(Box::new(agent)))
        }
    }
}
