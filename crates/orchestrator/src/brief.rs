//! From a session's snapshot to what a harness is told. It must be a pure function of what is stored.

use contract::agent::{SessionTeam, SessionThreadAgent};
use contract::model::ModelConfig;
use contract::time::Micros;
use contract::tools::{Tool, ToolName};
use harness::{Brief, BuiltinTool, Member, Networking, Team};
use model::{Catalog, Effort, ToolSpec};
use session::policy::ToolRules;

/// Who works in a thread: what its snapshot says of it.
pub(crate) struct Who<'a> {
    pub(crate) model: &'a ModelConfig,
    pub(crate) system: Option<&'a str>,
    pub(crate) tools: &'a [Tool],
}

/// The brief of a thread: a pure function of what was fixed when it was created or its tools were updated
/// last, so that the prefix sent to the model survives restarts. Every enabled tool is offered, whatever its
/// policy; what becomes of a call is the core's to say.
pub(crate) fn brief(
    agent: &Who<'_>,
    rules: &ToolRules,
    created: Micros,
    networking: Networking,
    catalog: &Catalog,
    operator_prompt: Option<String>,
) -> Brief {
    let mut builtin = Vec::new();
    let mut custom = Vec::new();
    for tool in agent.tools {
        match tool {
            Tool::AgentToolset(toolset) => {
                builtin.extend(BuiltinTool::ALL.into_iter().filter(|tool| {
                    let config = ToolName::named(tool.name()).map(|n| toolset.effective(n));
                    config.is_some_and(|c| c.enabled)
                }));
            }
            Tool::Custom(tool) => custom.push(ToolSpec {
                name: tool.name.clone(),
                description: tool.description.clone(),
                input_schema: tool.input_schema.clone(),
            }),
            Tool::McpToolset(_) => {}
        }
    }
    let limits = catalog.limits(&agent.model.id);
    let judged = rules.0.keys().filter(|name| rules.wants_judge(name));
    Brief {
        model: agent.model.id.clone(),
        effort: agent.model.effort.and_then(|e| Effort::from_name(e.name())),
        max_tokens: limits.max_tokens,
        max_input_tokens: limits.max_input_tokens,
        system: agent.system.map(str::to_owned),
        operator_prompt,
        builtin,
        custom,
        judged: judged.cloned().collect(),
        team: None,
        networking,
        date: created.date(),
    }
}

/// What a coordinator is told of its team. Two agents of one name are told apart by their ids.
pub(crate) fn team(team: &SessionTeam) -> Team {
    let roster = members(team).into_iter().map(|(name, agent)| Member {
        name,
        description: agent.description.clone(),
    });
    Team {
        roster: roster.collect(),
        inline: team.makes_up(),
        advisor: team.advisor().map(str::to_owned),
    }
}

/// The agents of a team under the names that its coordinator uses.
pub(crate) fn members(team: &SessionTeam) -> Vec<(String, &SessionThreadAgent)> {
    let members = team.members();
    let named = |name: &str| members.iter().filter(|other| other.name == name).count();
    let name = |agent: &SessionThreadAgent| match named(&agent.name) {
        1 => agent.name.clone(),
        _ => format!("{} ({})", agent.name, agent.id),
    };
    members.iter().map(|agent| (name(agent), *agent)).collect()
}
