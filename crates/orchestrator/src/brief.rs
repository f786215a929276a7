//! From a session's snapshot to what a harness is told.

use contract::agent::SessionAgent;
use contract::time::Micros;
use contract::tools::{Policy, Tool, ToolName};
use harness::{Brief, BuiltinTool, Networking};
use model::{Catalog, Effort, ToolSpec};

/// The brief of a session: a pure function of what was fixed when it was created, so that the prefix
/// sent to the model survives restarts.
pub(crate) fn brief(
    agent: &SessionAgent,
    created: Micros,
    networking: Networking,
    catalog: &Catalog,
    operator_prompt: Option<String>,
) -> Brief {
    let mut builtin = Vec::new();
    let mut custom = Vec::new();
    for tool in &agent.tools {
        match tool {
            Tool::AgentToolset(toolset) => {
                builtin.extend(BuiltinTool::ALL.into_iter().filter(|tool| {
                    let config = ToolName::named(tool.name()).map(|n| toolset.effective(n));
                    config.is_some_and(|c| c.enabled && c.permission_policy == Policy::AlwaysAllow)
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
    Brief {
        model: agent.model.id.clone(),
        effort: agent.model.effort.and_then(|e| Effort::from_name(e.name())),
        max_tokens: catalog.limits(&agent.model.id).max_tokens,
        system: agent.system.clone(),
        operator_prompt,
        builtin,
        custom,
        networking,
        date: created.date(),
    }
}
