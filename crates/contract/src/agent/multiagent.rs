//! Teams of agents (api.md §3.7): structure only. Whether a referenced agent exists is the caller's to
//! look up ([`AgentDefinition::referenced`]) and to fill in ([`AgentDefinition::fill_roster`]).

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AgentDefinition;
use crate::check;
use crate::ids::AgentId;
use crate::limits::{MODEL_ID, ROSTER};
use crate::parse::{Invalid, StringOr, tagged};
use crate::patch::{Patch, present};

/// A team in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MultiagentParams {
    /// The older topology: one list.
    Coordinator(CoordinatorParams),
    /// Advisor, subagents and workflows.
    Multiagent20261001(TopologyParams),
}

tagged!(MultiagentParams {
    "coordinator" => Coordinator(CoordinatorParams),
    "multiagent_20261001" => Multiagent20261001(TopologyParams),
});

/// The older topology in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorParams {
    /// 1 to 20 distinct entries.
    pub agents: Vec<RosterEntry>,
}

/// An agent id, or an object.
pub type RosterEntry = StringOr<RosterObject>;

/// An entry of a roster in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterObject {
    /// Another agent.
    Agent(AgentParams),
    /// The agent itself.
    Own,
    /// A model to ask for advice.
    Advisor(AdvisorParams),
}

tagged!(RosterObject { "agent" => Agent(AgentParams), "self" => Own, "advisor" => Advisor(AdvisorParams) });

/// Another agent in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentParams {
    /// Which.
    pub id: AgentId,
    /// Absent: the latest.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "NonZeroU32")]
    pub version: Option<NonZeroU32>,
}

/// A model to ask for advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdvisorParams {
    /// Its id.
    pub model: String,
}

/// Topology 2026-10-01 in a request; null means the default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyParams {
    /// Default: disabled.
    #[serde(default)]
    pub advisor: Patch<Advisor>,
    /// Default: enabled.
    #[serde(default)]
    pub subagents: Patch<TeamParams>,
    /// Default: enabled.
    #[serde(default)]
    pub workflows: Patch<TeamParams>,
}

/// Whether another model may be asked in the middle of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Advisor {
    /// It may.
    Enabled(AdvisorParams),
    /// It may not.
    #[default]
    Disabled,
}

tagged!(Advisor { "enabled" => Enabled(AdvisorParams), "disabled" => Disabled });

/// Subagents or workflows in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeamParams {
    /// Allowed.
    Enabled(EnabledTeamParams),
    /// Not allowed.
    Disabled,
}

tagged!(TeamParams { "enabled" => Enabled(EnabledTeamParams), "disabled" => Disabled });

/// Whom subagents or workflows may run, in a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnabledTeamParams {
    /// Default: enabled.
    #[serde(default)]
    pub inline_agents: Patch<InlineAgents>,
    /// Default: none.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::predefined_patch::<RosterEntry>")]
    pub predefined_agents: Patch<Vec<RosterEntry>>,
}

/// Whether agents may be made up on the spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InlineAgents {
    /// They may.
    #[default]
    Enabled,
    /// They may not.
    Disabled,
}

tagged!(InlineAgents { "enabled" => Enabled, "disabled" => Disabled });

/// A team as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Multiagent {
    /// The older topology.
    Coordinator(Coordinator),
    /// Advisor, subagents and workflows.
    #[serde(rename = "multiagent_20261001")]
    Multiagent20261001(Topology),
}

tagged!(Multiagent {
    "coordinator" => Coordinator(Coordinator),
    "multiagent_20261001" => Multiagent20261001(Topology),
});

/// The older topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coordinator {
    /// Its entries.
    #[schemars(schema_with = "crate::schema::roster::<AgentRef>")]
    pub agents: Vec<AgentRef>,
}

/// Topology 2026-10-01.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Topology {
    pub advisor: Advisor,
    pub subagents: Team,
    pub workflows: Team,
}

/// Subagents or workflows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Team {
    /// Allowed.
    Enabled(EnabledTeam),
    /// Not allowed.
    Disabled,
}

tagged!(Team { "enabled" => Enabled(EnabledTeam), "disabled" => Disabled });

/// Whom subagents or workflows may run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct EnabledTeam {
    pub inline_agents: InlineAgents,
    #[schemars(schema_with = "crate::schema::predefined::<AgentRef>")]
    pub predefined_agents: Vec<AgentRef>,
}

/// An entry of a roster as stored. `Own` is served as the agent's own id and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub enum AgentRef {
    /// The agent itself, whatever its version.
    #[serde(rename = "self")]
    Own,
    /// Another agent; its version is filled in by [`AgentDefinition::fill_roster`].
    #[serde(rename = "agent")]
    Agent(PinnedAgent),
    /// A model to ask for advice (coordinator only).
    #[serde(rename = "advisor")]
    Advisor(AdvisorParams),
}

tagged!(AgentRef { "self" => Own, "agent" => Agent(PinnedAgent), "advisor" => Advisor(AdvisorParams) });

/// Another agent at a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinnedAgent {
    /// Which.
    pub id: AgentId,
    /// Which version; `None` only between resolving and filling in, never in what is served.
    #[serde(default)]
    #[schemars(with = "u32")]
    pub version: Option<u32>,
}

/// An agent that a definition names and the caller has to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referenced {
    /// Where it is named.
    pub path: String,
    /// Which.
    pub id: AgentId,
    /// Which version; `None`: the latest.
    pub version: Option<u32>,
}

/// What the caller found for a [`Referenced`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The version asked for, or the latest.
    pub version: u32,
    /// Whether the agent is archived.
    pub archived: bool,
    /// Whether that version has a team of its own.
    pub multiagent: bool,
}

impl Multiagent {
    /// Checks the structure and merges with what is stored (api.md §3.7). Paths start inside it.
    pub(super) fn resolve(
        params: MultiagentParams,
        stored: Option<&Self>,
    ) -> Result<Self, Invalid> {
        match params {
            MultiagentParams::Coordinator(params) => {
                if params.agents.is_empty() {
                    return Err(Invalid::at("agents", "must not be empty"));
                }
                let agents = roster("agents", params.agents, true)?;
                Ok(Self::Coordinator(Coordinator { agents }))
            }
            MultiagentParams::Multiagent20261001(params) => {
                let stored = match stored {
                    Some(Self::Multiagent20261001(stored)) => Some(stored),
                    Some(Self::Coordinator(_)) | None => None,
                };
                let advisor = match params.advisor {
                    Patch::Absent => stored
                        .map(|stored| stored.advisor.clone())
                        .unwrap_or_default(),
                    Patch::Null => Advisor::default(),
                    Patch::Value(advisor) => advisor,
                };
                if let Advisor::Enabled(advisor) = &advisor {
                    check::length("advisor.model", &advisor.model, 1, MODEL_ID)?;
                }
                let team = |name: &str, params, stored| {
                    Team::resolve(params, stored).map_err(|bad: Invalid| bad.under(name))
                };
                Ok(Self::Multiagent20261001(Topology {
                    advisor,
                    subagents: team("subagents", params.subagents, stored.map(|s| &s.subagents))?,
                    workflows: team("workflows", params.workflows, stored.map(|s| &s.workflows))?,
                }))
            }
        }
    }

    /// As it is served: entries that mean the agent itself carry its id and version.
    #[must_use]
    pub fn pinned(mut self, id: AgentId, version: u32) -> Self {
        for entry in self.entries_mut() {
            if *entry == AgentRef::Own {
                *entry = AgentRef::Agent(PinnedAgent {
                    id,
                    version: Some(version),
                });
            }
        }
        self
    }

    fn lists(&self) -> Vec<(&'static str, &[AgentRef])> {
        match self {
            Self::Coordinator(team) => vec![("agents", &team.agents)],
            Self::Multiagent20261001(topology) => vec![
                (
                    "subagents.predefined_agents",
                    topology.subagents.predefined(),
                ),
                (
                    "workflows.predefined_agents",
                    topology.workflows.predefined(),
                ),
            ],
        }
    }

    fn entries_mut(&mut self) -> Vec<&mut AgentRef> {
        match self {
            Self::Coordinator(team) => team.agents.iter_mut().collect(),
            Self::Multiagent20261001(topology) => {
                [&mut topology.subagents, &mut topology.workflows]
                    .into_iter()
                    .flat_map(|team| match team {
                        Team::Enabled(team) => team.predefined_agents.iter_mut().collect(),
                        Team::Disabled => Vec::new(),
                    })
                    .collect()
            }
        }
    }
}

impl Team {
    fn predefined(&self) -> &[AgentRef] {
        match self {
            Self::Enabled(team) => &team.predefined_agents,
            Self::Disabled => &[],
        }
    }

    fn resolve(params: Patch<TeamParams>, stored: Option<&Self>) -> Result<Self, Invalid> {
        let team = match params {
            Patch::Absent => stored
                .cloned()
                .unwrap_or(Self::Enabled(EnabledTeam::default())),
            Patch::Null => Self::Enabled(EnabledTeam::default()),
            Patch::Value(TeamParams::Disabled) => Self::Disabled,
            Patch::Value(TeamParams::Enabled(params)) => {
                let kept = match stored {
                    Some(Self::Enabled(kept)) => kept.clone(),
                    Some(Self::Disabled) | None => EnabledTeam::default(),
                };
                Self::Enabled(EnabledTeam {
                    inline_agents: match params.inline_agents {
                        Patch::Absent => kept.inline_agents,
                        Patch::Null => InlineAgents::default(),
                        Patch::Value(inline) => inline,
                    },
                    predefined_agents: match params.predefined_agents {
                        Patch::Absent => kept.predefined_agents,
                        Patch::Null => Vec::new(),
                        Patch::Value(agents) => roster("predefined_agents", agents, false)?,
                    },
                })
            }
        };
        if let Self::Enabled(team) = &team
            && team.inline_agents == InlineAgents::Disabled
            && team.predefined_agents.is_empty()
        {
            return Err(Invalid::at(
                "predefined_agents",
                "must not be empty while `inline_agents` is disabled",
            ));
        }
        Ok(team)
    }
}

fn roster(
    field: &str,
    entries: Vec<RosterEntry>,
    coordinator: bool,
) -> Result<Vec<AgentRef>, Invalid> {
    check::count(field, entries.len(), ROSTER)?;
    let mut seen = BTreeSet::new();
    let mut out = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let path = format!("{field}[{index}]");
        let (key, entry) = match entry {
            StringOr::String(text) => {
                let id: AgentId = text
                    .parse()
                    .map_err(|bad: crate::ids::BadId| Invalid::at(&path, bad.to_string()))?;
                (
                    id.to_string(),
                    AgentRef::Agent(PinnedAgent { id, version: None }),
                )
            }
            StringOr::Object(RosterObject::Agent(agent)) => {
                let version = agent.version.map(NonZeroU32::get);
                (
                    agent.id.to_string(),
                    AgentRef::Agent(PinnedAgent {
                        id: agent.id,
                        version,
                    }),
                )
            }
            StringOr::Object(RosterObject::Own) => ("self".to_owned(), AgentRef::Own),
            StringOr::Object(RosterObject::Advisor(advisor)) if coordinator => {
                check::length(&format!("{path}.model"), &advisor.model, 1, MODEL_ID)?;
                ("advisor".to_owned(), AgentRef::Advisor(advisor))
            }
            StringOr::Object(RosterObject::Advisor(_)) => {
                return Err(Invalid::at(
                    format!("{path}.type"),
                    "unknown value; allowed: `agent`, `self`",
                ));
            }
        };
        if !seen.insert(key) {
            return Err(Invalid::at(path, "repeats an earlier entry"));
        }
        out.push(entry);
    }
    Ok(out)
}

impl AgentDefinition {
    /// The agents that the team names and that have to be looked up, in order.
    #[must_use]
    pub fn referenced(&self) -> Vec<Referenced> {
        let lists = self
            .multiagent
            .as_ref()
            .map(Multiagent::lists)
            .unwrap_or_default();
        lists
            .into_iter()
            .flat_map(|(field, entries)| {
                entries
                    .iter()
                    .enumerate()
                    .filter_map(move |(index, entry)| match entry {
                        AgentRef::Agent(agent) => Some(Referenced {
                            path: format!("multiagent.{field}[{index}]"),
                            id: agent.id,
                            version: agent.version,
                        }),
                        AgentRef::Own | AgentRef::Advisor(_) => None,
                    })
            })
            .collect()
    }

    /// Pins every referenced agent to what was found. `own` is the agent itself, if it exists already;
    /// `find` is asked once for each of [`Self::referenced`], in that order. After an update call it only
    /// if the update names `multiagent`: pins that stand are not looked up again.
    ///
    /// # Errors
    /// A referenced agent does not exist, is archived, is the agent itself or has a team of its own.
    pub fn fill_roster(
        &mut self,
        own: Option<AgentId>,
        mut find: impl FnMut(&Referenced) -> Option<Found>,
    ) -> Result<(), Invalid> {
        let referenced = self.referenced();
        let Some(multiagent) = &mut self.multiagent else {
            return Ok(());
        };
        let agents = multiagent
            .entries_mut()
            .into_iter()
            .filter_map(|entry| match entry {
                AgentRef::Agent(agent) => Some(agent),
                AgentRef::Own | AgentRef::Advisor(_) => None,
            });
        for (agent, named) in agents.zip(&referenced) {
            let bad = |problem: &str| Err(Invalid::at(named.path.as_str(), problem));
            if own == Some(named.id) {
                return bad("is this agent itself; use {\"type\":\"self\"}");
            }
            let Some(found) = find(named) else {
                return bad("no such agent, or no such version of it");
            };
            if found.archived {
                return bad("this agent is archived");
            }
            if found.multiagent {
                return bad("this agent has a team of its own; teams are one level deep");
            }
            agent.version = Some(found.version);
        }
        Ok(())
    }
}
