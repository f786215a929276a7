//! What a harness is told about the session it runs. Fixed for the length of a turn, and for the whole
//! session unless its tools are updated, so that the prefix sent to the model does not change.

use std::collections::BTreeSet;

use model::{Effort, ToolSpec};

/// The session as a harness needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Brief {
    /// The agent's model id.
    pub model: String,
    /// How hard the model should try.
    pub effort: Option<Effort>,
    /// Most tokens of one reply.
    pub max_tokens: u32,
    /// The model's window: input and output of one request together, in tokens.
    pub max_input_tokens: u32,
    /// The agent's own system prompt.
    pub system: Option<String>,
    /// What the operator adds to every session's prompt.
    pub operator_prompt: Option<String>,
    /// Enabled tools that run in the sandbox.
    pub builtin: Vec<BuiltinTool>,
    /// Tools that the client answers.
    pub custom: Vec<ToolSpec>,
    /// The tools whose calls are put before a judge (policy `auto`).
    pub judged: BTreeSet<String>,
    /// Whom it leads, if it is a coordinator.
    pub team: Option<Team>,
    /// The environment's network policy.
    pub networking: Networking,
    /// The day the session was created, `YYYY-MM-DD`: a prompt that named today would lose its cache at
    /// midnight.
    pub date: String,
}

/// Whom a coordinator may put to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// The agents that it may begin threads of, each under a name of its own.
    pub roster: Vec<Member>,
    /// Whether it may make up agents.
    pub inline: bool,
    /// The model that it may ask for advice.
    pub advisor: Option<String>,
}

/// An agent of a roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What the coordinator calls it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
}

/// A tool of `agent_toolset_20260401` that runs in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltinTool {
    /// A persistent shell.
    Bash,
    /// Replaces text in a file.
    Edit,
    /// Finds files by name.
    Glob,
    /// Finds files by content.
    Grep,
    /// Reads a file.
    Read,
    /// Writes a file.
    Write,
}

impl BuiltinTool {
    /// All of them, in the order they are offered.
    pub const ALL: [Self; 6] = [
        Self::Bash,
        Self::Edit,
        Self::Glob,
        Self::Grep,
        Self::Read,
        Self::Write,
    ];

    /// The name the model uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Edit => "edit",
            Self::Glob => "glob",
            Self::Grep => "grep",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// The tool of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
}

/// What the environment says about the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Networking {
    /// There is no network on this server.
    Off,
    /// Everything but the always-denied set.
    Unrestricted,
    /// Only listed hosts.
    Limited,
}
