//! Which tools a session has and what their policies say of a call. Decided here, outside the sandbox;
//! a harness only reports what the model asked for (law 7).

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use contract::event::{Evaluation, Judgement, Permission};
use contract::tools::{Policy, Tool, ToolName};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// The tool with which a coordinator sees its agents and threads.
pub const LIST_AGENTS: &str = "list_agents";
/// The tool with which it begins a thread of an agent of its roster, or speaks to a thread that is there.
pub const SEND_TO_AGENT: &str = "send_to_agent";
/// The tool with which it begins a thread of an agent that it makes up.
pub const SEND_TO_NEW_AGENT: &str = "send_to_new_agent";
/// The tool with which it asks another model.
pub const ASK_ADVISOR: &str = "ask_advisor";

/// What an agent may do with others: which of its own tools that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leads {
    /// It has agents to begin threads of.
    pub roster: bool,
    /// It may make up agents.
    pub inline: bool,
    /// It may ask an advisor.
    pub advisor: bool,
}

impl Leads {
    /// The tools it has for that.
    pub fn tools(self) -> impl Iterator<Item = (&'static str, ToolRule)> {
        let threads = self.roster || self.inline;
        let all = [
            (threads, LIST_AGENTS, ToolRule::Team),
            (threads, SEND_TO_AGENT, ToolRule::Team),
            (self.inline, SEND_TO_NEW_AGENT, ToolRule::Team),
            (self.advisor, ASK_ADVISOR, ToolRule::Advisor),
        ];
        let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
        wanted.map(|(_, name, rule)| (name, rule))
    }
}

/// The tools of a session by the name the model uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolRules(pub Named);

/// Rules by name. A session's state is copied and written with every input and its rules hardly ever change: copies
/// share them, and what they look like in JSON is written once.
#[derive(Debug, Clone, Default)]
pub struct Named(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    rules: BTreeMap<String, ToolRule>,
    written: OnceLock<Box<RawValue>>,
}

impl Clone for Known {
    /// A copy is made to be changed.
    fn clone(&self) -> Self {
        Self::from(self.rules.clone())
    }
}

impl From<BTreeMap<String, ToolRule>> for Known {
    fn from(rules: BTreeMap<String, ToolRule>) -> Self {
        let written = OnceLock::new();
        Self { rules, written }
    }
}

impl Deref for Named {
    type Target = BTreeMap<String, ToolRule>;

    fn deref(&self) -> &Self::Target {
        &self.0.rules
    }
}

impl DerefMut for Named {
    fn deref_mut(&mut self) -> &mut Self::Target {
        let known = Arc::make_mut(&mut self.0);
        known.written = OnceLock::new();
        &mut known.rules
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for Named {}

impl From<BTreeMap<String, ToolRule>> for Named {
    fn from(rules: BTreeMap<String, ToolRule>) -> Self {
        Self(Arc::new(Known::from(rules)))
    }
}

impl FromIterator<(String, ToolRule)> for Named {
    fn from_iter<I: IntoIterator<Item = (String, ToolRule)>>(rules: I) -> Self {
        Self::from(rules.into_iter().collect::<BTreeMap<_, _>>())
    }
}

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(written) = self.0.written.get() {
            return written.serialize(serializer);
        }
        let written = to_raw_value(&self.0.rules).map_err(serde::ser::Error::custom)?;
        self.0.written.get_or_init(|| written).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

/// What is true of one tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRule {
    /// Runs in the sandbox, `always_allow`.
    Allow,
    /// Runs in the sandbox once the client has confirmed it, `always_ask`.
    Ask,
    /// Runs in the sandbox if a judge lets it, `auto`.
    Auto,
    /// Answered by the client: no policy applies.
    Custom,
    /// A coordinator's tool for its threads: answered by the session.
    Team,
    /// Asks another model for advice. No event shows the call.
    Advisor,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A policy applies to it.
    Policy(Evaluation),
    /// The client answers it.
    Client,
    /// The session answers it: allowed.
    Team,
    /// Another model answers it.
    Advisor,
    /// The session has no such tool, or it is disabled: refused before any policy.
    Unknown,
}

/// What an evaluation permits.
#[must_use]
pub const fn permission(evaluation: Evaluation) -> Permission {
    match evaluation {
        Evaluation::AlwaysAllow {} => Permission::Allow,
        Evaluation::AlwaysAsk {} => Permission::Ask,
        Evaluation::Auto {
            evaluated_permission,
        } => evaluated_permission.permission(),
    }
}

impl ToolRules {
    /// The rules of an agent's tools. What this build does not run is left out, and so refused when a
    /// model asks for it all the same: web tools and MCP tools (session create has refused those that
    /// were asked for by name).
    #[must_use]
    pub fn of(tools: &[Tool]) -> Self {
        let mut rules = BTreeMap::new();
        for tool in tools {
            match tool {
                Tool::AgentToolset(toolset) => {
                    for name in ToolName::ALL.into_iter().filter(|name| !name.is_web()) {
                        let config = toolset.effective(name);
                        if config.enabled {
                            let rule = match config.permission_policy {
                                Policy::AlwaysAllow => ToolRule::Allow,
                                Policy::AlwaysAsk => ToolRule::Ask,
                                Policy::Auto => ToolRule::Auto,
                            };
                            rules.insert(name.name().to_owned(), rule);
                        }
                    }
                }
                Tool::Custom(custom) => {
                    rules.insert(custom.name.clone(), ToolRule::Custom);
                }
                Tool::McpToolset(_) => {}
            }
        }
        Self(rules.into())
    }

    /// The same rules for an agent that leads others.
    #[must_use]
    pub fn leading(mut self, leads: Leads) -> Self {
        let tools = leads.tools();
        self.0
            .extend(tools.map(|(name, rule)| (name.to_owned(), rule)));
        self
    }

    /// Whether calls of `name` are put before a judge.
    #[must_use]
    pub fn wants_judge(&self, name: &str) -> bool {
        self.0.get(name) == Some(&ToolRule::Auto)
    }

    /// What becomes of a call of `name`, given what a judge said of it. Constant in the length of the
    /// history. A judge's word counts only where the policy asks for it.
    #[must_use]
    pub fn judge(&self, name: &str, judgement: Option<Judgement>) -> Verdict {
        Verdict::Policy(match self.0.get(name) {
            Some(ToolRule::Team) => return Verdict::Team,
            Some(ToolRule::Advisor) => return Verdict::Advisor,
            Some(ToolRule::Allow) => Evaluation::AlwaysAllow {},
            Some(ToolRule::Ask) => Evaluation::AlwaysAsk {},
            Some(ToolRule::Auto) => Evaluation::Auto {
                evaluated_permission: judgement.unwrap_or(Judgement::UNKNOWN),
            },
            Some(ToolRule::Custom) => return Verdict::Client,
            None => return Verdict::Unknown,
        })
    }
}
