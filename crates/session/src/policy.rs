//! Which tools a session has and what their policies say of a call. Decided here, outside the sandbox;
//! a harness only reports what the model asked for (law 7).

use std::collections::BTreeMap;

use contract::event::{Evaluation, Permission};
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
