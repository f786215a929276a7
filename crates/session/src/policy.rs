//! Which tools a session has and what their policies say of a call. Decided here, outside the sandbox;
//! a harness only reports what the model asked for (law 7).

use std::collections::BTreeMap;

use contract::event::{Evaluation, Permission};
use contract::tools::{Policy, Tool, ToolName};
use serde::{Deserialize, Serialize};

use crate::state::CallKind;

/// The tools of a session by the name the model uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolRules(pub BTreeMap<String, ToolRule>);

/// What is true of one tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRule {
    /// Runs in the sandbox, `always_allow`.
    Allow,
    /// Answered by the client: no policy applies.
    Custom,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Run(CallKind, Permission, Evaluation),
    /// The client answers it.
    Client,
    /// The session has no such tool, or it is disabled: refused before any policy.
    Unknown,
}

impl ToolRules {
    /// The rules of an agent's tools. What this build does not run is left out, and so refused when a
    /// model asks for it all the same: web tools, MCP tools, and policies other than `always_allow`
    /// (session create has refused those that were asked for by name).
    #[must_use]
    pub fn of(tools: &[Tool]) -> Self {
        let mut rules = BTreeMap::new();
        for tool in tools {
            match tool {
                Tool::AgentToolset(toolset) => {
                    for name in ToolName::ALL.into_iter().filter(|name| !name.is_web()) {
                        let config = toolset.effective(name);
                        if config.enabled && config.permission_policy == Policy::AlwaysAllow {
                            rules.insert(name.name().to_owned(), ToolRule::Allow);
                        }
                    }
                }
                Tool::Custom(custom) => {
                    rules.insert(custom.name.clone(), ToolRule::Custom);
                }
                Tool::McpToolset(_) => {}
            }
        }
        Self(rules)
    }

    /// What becomes of a call of `name`. Constant in the length of the history.
    #[must_use]
    pub fn judge(&self, name: &str) -> Verdict {
        match self.0.get(name) {
            Some(ToolRule::Allow) => Verdict::Run(
                CallKind::Sandbox,
                Permission::Allow,
                Evaluation::AlwaysAllow {},
            ),
            Some(ToolRule::Custom) => Verdict::Client,
            None => Verdict::Unknown,
        }
    }
}
