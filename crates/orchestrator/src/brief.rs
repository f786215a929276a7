//! From a session's snapshot to what a harness is told. It must be a pure function of what is stored.

use contract::agent::SessionAgent;
use contract::time::Micros;
use contract::tools::{Tool, ToolName};
use harness::{Brief, BuiltinTool, Networking};
use model::{Catalog, Effort, ToolSpec};
use session::policy::ToolRules;

/// The brief of a session: a pure function of what was fixed when it was created or its tools were updated
/// last, so that the prefix sent to the model survives restarts. Every enabled tool is offered, whatever its
/// policy; what becomes of a call is the core's to say.
pub(crate) fn brief(
    agent: &SessionAgent,
    rules: &ToolRules,
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
        system: agent.system.clone(),
        operator_prompt,
        builtin,
        custom,
        judged: judged.cloned().collect(),
        networking,
        date: created.date(),
    }
}
