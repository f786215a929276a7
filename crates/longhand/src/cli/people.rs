//! The commands for people who work with sessions: what they take. What they do stands elsewhere.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Output;

/// `sessions`
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// List sessions, newest first.
    List(ListSessions),
    /// Show one session.
    Show(Named),
    /// Start a session, and with --message its first turn.
    Create(CreateSession),
    /// See a session as it happens; on a terminal, answer what it asks, and talk to it.
    Watch(Watch),
    /// Send a message, an interrupt, or the answers that the session waits for.
    Send(Send),
    /// What it waits for, since when, and the one request that unblocks it.
    Why(Named),
    /// Where its time went: what each thread did, and who waited for whom.
    Timeline(Named),
    /// Close a session for good; nothing is deleted.
    Archive(Named),
}

/// One thing by its id.
#[derive(Debug, Args)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// A list.
#[derive(Debug, Args)]
pub struct Listed {
    /// How many at most.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    /// Archived ones too.
    #[arg(long)]
    pub archived: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `sessions list`
#[derive(Debug, Args)]
pub struct ListSessions {
    /// Only those that are so: running, idle, rescheduling, terminated.
    #[arg(long, value_name = "STATUS")]
    pub status: Vec<String>,
    /// Only those of this agent.
    #[arg(long, value_name = "ID")]
    pub agent: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub listed: Listed,
}

/// `sessions create`
#[derive(Debug, Args)]
pub struct CreateSession {
    /// The agent, agent_…
    #[arg(long, value_name = "ID")]
    pub agent: String,
    /// The environment, env_…
    #[arg(long, value_name = "ID")]
    pub environment: String,
    /// What it is about.
    #[arg(long)]
    pub title: Option<String>,
    /// Vaults whose credentials it may use.
    #[arg(long = "vault", value_name = "ID")]
    pub vaults: Vec<String>,
    /// The first message; `-` reads it from standard input.
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `sessions watch`
#[derive(Debug, Args)]
pub struct Watch {
    /// Its id, sesn_…
    pub id: String,
    /// How many events of the past are shown first.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub last: usize,
    /// End as soon as the session is idle, whatever it waits for.
    #[arg(long)]
    pub until_idle: bool,
    /// One JSON object an event (a pipe always gets that).
    #[arg(long)]
    pub json: bool,
    /// In JSON, previews of what the model is writing too.
    #[arg(long)]
    pub deltas: bool,
}

/// `sessions send`
#[derive(Debug, Args)]
pub struct Send {
    /// Its id, sesn_…
    pub id: String,
    /// The message; `-` reads it from standard input.
    pub text: Option<String>,
    /// End the turn that runs; a message comes behind it.
    #[arg(long)]
    pub interrupt: bool,
    /// Let a call run that the session asks about.
    #[arg(long, value_name = "CALL")]
    pub allow: Vec<String>,
    /// Forbid a call that the session asks about.
    #[arg(long, value_name = "CALL")]
    pub deny: Vec<String>,
    /// Why, for the agent.
    #[arg(long, requires = "deny")]
    pub reason: Option<String>,
    /// The result of a custom tool's call.
    #[arg(long, value_name = "CALL=TEXT")]
    pub result: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `agents`
#[derive(Debug, Subcommand)]
pub enum Agents {
    /// List agents, newest first.
    List(Listed),
    /// Show one agent.
    Show(Named),
    /// Make an agent.
    Create(CreateAgent),
}

/// `agents create`
#[derive(Debug, Args)]
pub struct CreateAgent {
    /// Its name.
    #[arg(required_unless_present = "file")]
    pub name: Option<String>,
    /// Its model.
    #[arg(long, required_unless_present = "file", value_name = "ID")]
    pub model: Option<String>,
    /// What it is told; `-` reads it from standard input.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Ask before each tool call instead of running it.
    #[arg(long)]
    pub ask: bool,
    /// The whole request as JSON instead; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "model", "system", "ask"])]
    pub file: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `environments`
#[derive(Debug, Subcommand)]
pub enum Environments {
    /// List environments, newest first.
    List(Listed),
    /// Show one environment.
    Show(Named),
    /// Make an environment: a sandbox on the server.
    Create {
        /// Its name.
        name: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `vaults`
#[derive(Debug, Subcommand)]
pub enum Vaults {
    /// List vaults, newest first.
    List(Listed),
    /// Show one vault and its credentials, never their secrets.
    Show(Named),
    /// Make a vault; with --token, its first credential.
    Create(CreateVault),
}

/// `vaults create`
#[derive(Debug, Args)]
pub struct CreateVault {
    /// Its name.
    pub name: String,
    /// An entry of its metadata, such as longhand.role=llm.
    #[arg(long, value_name = "KEY=VALUE")]
    pub metadata: Vec<String>,
    /// Read a bearer token from standard input and keep it in the vault.
    #[arg(long)]
    pub token: bool,
    /// The server that the token is for; a vault of a model needs none.
    #[arg(long, value_name = "URL", requires = "token")]
    pub mcp_server: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `usage`
#[derive(Debug, Args)]
pub struct Usage {
    /// Add up by these, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [By::Day, By::Workspace, By::Agent])]
    pub by: Vec<By>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What usage is added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Each day, in UTC.
    Day,
    /// Each workspace.
    Workspace,
    /// Each agent.
    Agent,
}

impl By {
    /// The field of a row.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Day => "date",
            Self::Workspace => "workspace_id",
            Self::Agent => "agent_id",
        }
    }
}
