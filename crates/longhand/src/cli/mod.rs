//! The command line. Its help is the first documentation anyone reads.

mod people;
mod sandbox;
mod template;
mod volume;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use people::{
    Agents, By, CreateAgent, CreateSession, CreateVault, Environments, ListSessions, Listed, Named,
    Send, Sessions, Usage, Vaults, Watch,
};
pub use sandbox::{Made, Program, Run, Sandbox, Whole};
pub use template::{Build, Import, Recipe, Template};
pub use volume::Volume;

/// A self-hosted backend for managed agents: the official Anthropic SDK works with it by changing
/// `base_url`.
#[derive(Debug, Parser)]
#[command(name = "longhand", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Cli {
    /// Where everything is kept (default: /var/lib/longhand as root, else $XDG_DATA_HOME/longhand).
    #[arg(
        long,
        global = true,
        env = "LONGHAND_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub data_dir: Option<PathBuf>,
    /// Configuration file (default: DIR/longhand.toml if it exists).
    #[arg(
        long,
        global = true,
        env = "LONGHAND_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    /// Which server is meant.
    #[command(flatten)]
    pub reach: Reach,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which server a command speaks to, and in which workspace.
#[derive(Debug, Args)]
pub struct Reach {
    /// A server elsewhere (default: the one of the data directory, through its control socket).
    #[arg(long, global = true, value_name = "URL", help_heading = "Server")]
    pub url: Option<String>,
    /// A key of the server at --url. Other users of this machine can read a command line: prefer the
    /// variable.
    #[arg(
        long,
        global = true,
        env = "LONGHAND_API_KEY",
        hide_env_values = true,
        value_name = "KEY",
        help_heading = "Server"
    )]
    pub api_key: Option<String>,
    /// The workspace to work in (default: wrkspc_default, or the key's own).
    #[arg(long, global = true, value_name = "ID", help_heading = "Server")]
    pub workspace: Option<String>,
}

const FIRST_STEPS: &str = "\
First steps:
  longhand demo                  a whole session without any key: scripted model, real sandbox
  longhand doctor                can this machine run sandboxes? what is missing, and how to mend it
  longhand serve                 the server; the first start prints an API key
  ANTHROPIC_API_KEY=… longhand serve
                                 the same, with a real model behind it
  longhand sessions watch ID     a session as it happens; answer what it asks in place

Then, in a program written for the hosted API:
  client = anthropic.Anthropic(base_url=\"http://127.0.0.1:8787\", api_key=\"lh_…\")

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 this machine cannot do it.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server.
    Serve(Serve),
    /// Play a whole session on this machine: scripted model, real sandbox, no key, no network.
    ///
    /// It keeps nothing: everything lies in a temporary directory, whatever --data-dir says.
    Demo(Demo),
    /// Say what this machine can and cannot do, and how to mend it.
    Doctor(Output),
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Create, list and archive workspaces.
    #[command(subcommand)]
    Workspaces(Workspaces),
    /// List, create, watch and steer sessions.
    #[command(subcommand)]
    Sessions(Sessions),
    /// List, show and create agents.
    #[command(subcommand)]
    Agents(Agents),
    /// List, show and create environments.
    #[command(subcommand)]
    Environments(Environments),
    /// List, show and create vaults.
    #[command(subcommand)]
    Vaults(Vaults),
    /// Sandboxes: run programs, copy files, reach ports, pause and remove.
    #[command(subcommand)]
    Sandbox(Sandbox),
    /// Volumes: directories that outlive sandboxes, and that several of them may have at once.
    #[command(subcommand)]
    Volume(Volume),
    /// Templates: read-only roots that sandboxes are made on, instead of the host's /usr.
    #[command(subcommand)]
    Template(Template),
    /// Programs of others that run agents in their sandboxes.
    #[command(subcommand)]
    Harness(Harness),
    /// The servers on the same PostgreSQL database: which are there, and what they carry.
    Replicas(Output),
    /// What was used in the last 31 days, by workspace, agent and day.
    Usage(Usage),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi {
        /// The list of routes of docs/compatibility.md instead.
        #[arg(long, hide = true)]
        routes: bool,
    },
    /// Copy the database, whole and consistent, while the server runs (never the master key).
    Backup(Backup),
    /// Move the database from its file to a PostgreSQL server, whole and verified.
    ///
    /// No server may run on the data directory or the target meanwhile. If it is interrupted, the same command goes on
    /// where it stopped. The file stays as it is. Sealed secrets stay sealed: every server on the target needs the
    /// master key of this data directory.
    Move(Move),
    /// Show the settings in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// What sandboxes reached, and tests of policies.
    #[command(subcommand)]
    Egress(Egress),
    /// The audit: of what sandboxes reached, and of actions on keys, policies and credentials.
    #[command(subcommand)]
    Audit(Audit),
    /// The egress process of a server, which starts it.
    #[command(hide = true)]
    EgressHost {
        /// Its directory.
        dir: PathBuf,
        /// Roots as PEM, beside the system's.
        #[arg(long)]
        ca_file: Option<PathBuf>,
        /// Lists of revoked certificates as PEM.
        #[arg(long)]
        crl_file: Option<PathBuf>,
    },
}

/// `harness`
#[derive(Debug, Subcommand)]
pub enum Harness {
    /// Install one from the npm registry that npm is set to, its integrity checked; npm itself is not needed.
    Install {
        /// Which.
        name: HarnessName,
        /// Its version (default: the one that this build is tested with).
        #[arg(long)]
        version: Option<String>,
    },
    /// What is there to run agents.
    List(Output),
}

/// A harness that can be installed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum HarnessName {
    /// Claude Code.
    Claude,
}

/// `egress`
#[derive(Debug, Subcommand)]
pub enum Egress {
    /// What sandboxes reached and what was refused, oldest first.
    Log(EgressLog),
    /// What a sandbox would get for a URL, by the policy that is in force for it, and why.
    Explain {
        /// The sandbox; a session's has the session's id.
        sandbox: String,
        /// https://host/path, http://host/path or tcp://host:port.
        #[arg(value_name = "URL")]
        target: String,
        /// The method of the request.
        #[arg(long, value_name = "METHOD", default_value = "GET")]
        method: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// What a sandbox may reach by rules of its own, or other ones from now on.
    Rules {
        /// The sandbox; a session's has the session's id.
        sandbox: String,
        /// Replace them by those of this file: `[[rules]]` as in `[[egress.rules]]`; a file without any removes them.
        #[arg(long, value_name = "RULES.toml")]
        set: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Test a policy offline: every case of CASES.toml takes the steps that traffic takes.
    Test {
        /// The policy.
        policy: PathBuf,
        /// What is expected of it.
        cases: PathBuf,
    },
}

/// `egress log`
#[derive(Debug, Args)]
pub struct EgressLog {
    /// Go on with what is recorded from now on, until Ctrl-C.
    #[arg(long, short)]
    pub follow: bool,
    /// Only what stands behind this place.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub after: u64,
    /// Only of this sandbox.
    #[arg(long, value_name = "ID")]
    pub sandbox: Option<String>,
    /// Only of this session.
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only of this name or address.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only what was allowed, denied or observed.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Not before this instant, as 2026-10-01T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this instant.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `audit`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Prove that no record was changed, removed or put elsewhere, in both chains, and print their ends.
    Verify,
    /// Actions on keys, workspaces, environments and credentials, a JSON object a line, oldest first.
    Log {
        /// Only what stands behind this place.
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
    },
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Address and port to listen on; port 0 picks a free one and prints it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The database: sqlite:///path/to/longhand.db or postgres://USER@HOST/DATABASE. One with a password is better
    /// kept in LONGHAND_SERVER_DATABASE_URL, which other users of the machine cannot see.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The certificate chain as PEM: speak TLS. Read again when it changes and at SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond the loopback without TLS, because something in front speaks it.
    #[arg(long)]
    pub plain_http: bool,
    /// Do not run where sandboxes are kept apart less well than this: basic, ids, limits, disk or kernel.
    #[arg(long, value_name = "LEVEL")]
    pub require_isolation: Option<String>,
}

/// `backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// Where to put the copy (default: DIR/backups/longhand-TIME.db). It must not exist.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave the server running afterwards and print how to point an SDK at it.
    #[arg(long)]
    pub keep: bool,
    /// One JSON object an event instead of text.
    #[arg(long)]
    pub json: bool,
}

/// How results are printed.
#[derive(Debug, Args, Clone, Copy)]
pub struct Output {
    /// JSON even on a terminal (a pipe always gets JSON).
    #[arg(long)]
    pub json: bool,
}

/// `keys`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key of the workspace of --workspace; it is shown this once.
    Create {
        /// What it is for.
        #[arg(long, default_value = "key")]
        name: String,
        /// A key that sees all workspaces under /v1/x.
        #[arg(long)]
        operator: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List keys, never their secrets.
    List {
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// The key that all secrets are sealed under.
    #[command(subcommand)]
    Master(Master),
    /// Make a key useless from now on.
    Revoke {
        /// Its id, apikey_…
        id: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `keys master`
#[derive(Debug, Subcommand)]
pub enum Master {
    /// Say which version is in force, and whether a rotation is under way.
    Show {
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Take another master key, while the server runs. Cut short, it goes on with the next call or start.
    ///
    /// A key in a file is replaced by one that is made; a key that is given (LONGHAND_MASTER_KEY,
    /// vault.key_command) by the next one that is given. Keep a copy of the new file; backups made before need the
    /// old key.
    Rotate {
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `workspaces`
#[derive(Debug, Subcommand)]
pub enum Workspaces {
    /// Make a workspace.
    Create {
        /// Its name.
        name: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List workspaces.
    List {
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Close a workspace: its keys stop working, nothing is deleted.
    Archive {
        /// Its id, wrkspc_…
        id: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting and its value.
    Show {
        /// Say where each value came from.
        #[arg(long)]
        origin: bool,
    },
}

/// `longhand move`
#[derive(Debug, Args)]
pub struct Move {
    /// The file (default: DIR/longhand.db).
    #[arg(long, value_name = "sqlite://PATH")]
    pub from: Option<String>,
    /// The server and a new database on it.
    #[arg(long, value_name = "postgres://USER@HOST/DATABASE")]
    pub to: String,
}
