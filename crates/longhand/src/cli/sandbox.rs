//! `sandbox`: what it takes. What it does stands elsewhere.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Named, Output};

/// `sandbox`
#[derive(Debug, Subcommand)]
pub enum Sandbox {
    /// List sandboxes, or with an id what runs in one.
    Ps {
        /// A sandbox; a session's has the session's id.
        id: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Show one: how it stands and what it uses.
    Show(Named),
    /// What became of it: when it was made, paused, stopped or lost, and why.
    Logs {
        /// Its id.
        id: String,
        /// Instead, what processes in the background have printed after their command was answered; starts it if it
        /// does not run.
        #[arg(long)]
        printed: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Make a sandbox of your own, beside those of sessions.
    Create(Create),
    /// Run a program in a fresh sandbox and remove that afterwards.
    Run(Run),
    /// Run a program in a sandbox; its exit code becomes this command's.
    Exec {
        /// The sandbox.
        id: String,
        /// How to run it.
        #[command(flatten)]
        program: Program,
    },
    /// Take up a program that an `exec` has lost because the server ended, or one that was started detached: what it
    /// printed, what it prints, its exit code. Without a program, list those that are known.
    Follow {
        /// The sandbox.
        id: String,
        /// The program, as `exec_…`.
        exec: Option<String>,
        /// How to print the list.
        #[command(flatten)]
        output: Output,
    },
    /// A shell in a sandbox, on this terminal.
    Shell {
        /// The sandbox.
        id: String,
    },
    /// Copy files in or out: one of the two is ID:PATH. A directory is copied with what is in it.
    Cp {
        /// From where.
        #[arg(value_name = "FILE|ID:PATH")]
        from: String,
        /// To where.
        #[arg(value_name = "FILE|ID:PATH")]
        to: String,
    },
    /// Have a sandbox stand still: no processor, memory stays. Its next use has it go on.
    Pause(Named),
    /// Have it go on, or start it.
    Resume(Named),
    /// Stop it: no process is left; its files, and where its shell was, stay.
    Stop(Named),
    /// What is done with its files as a whole.
    #[command(flatten)]
    Whole(Whole),
    /// Reach a port inside: connections to the one here go there.
    Forward {
        /// The sandbox.
        id: String,
        /// The port inside, or HERE:INSIDE.
        #[arg(value_name = "PORT|HERE:INSIDE")]
        ports: String,
    },
    /// Remove sandboxes with their files.
    Rm {
        /// Which.
        #[arg(required = true)]
        ids: Vec<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Remove those that are no session's and do not run.
    Gc {
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// What a sandbox is made of.
#[derive(Debug, Args)]
pub struct Made {
    /// What it is made on: a template, or `host` (default: `sandbox.template`).
    #[arg(long)]
    pub template: Option<String>,
    /// Who makes it: `local`, with the host's kernel, or `gvisor`, with one of its own (default: `sandbox.provider`).
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// A volume that it has; `:ro` behind it: only to read.
    #[arg(long = "volume", value_name = "NAME[:ro]")]
    pub volumes: Vec<String>,
}

/// `sandbox create`
#[derive(Debug, Args)]
pub struct Create {
    /// Its name (default: a fresh one).
    pub id: Option<String>,
    /// What it is made of.
    #[command(flatten)]
    pub made: Made,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `sandbox run`
#[derive(Debug, Args)]
pub struct Run {
    /// Keep the sandbox; its id is printed on standard error.
    #[arg(long)]
    pub keep: bool,
    /// What it is made of.
    #[command(flatten)]
    pub made: Made,
    /// How to run it.
    #[command(flatten)]
    pub program: Program,
}

/// What is done with the files of a sandbox as a whole.
#[derive(Debug, Subcommand)]
pub enum Whole {
    /// Keep its files as they are now. One that runs stands still for as long as they are copied; of one that does not,
    /// nothing is.
    Snapshot {
        /// The sandbox.
        id: String,
        /// What is to be said of it, for people.
        #[arg(long)]
        note: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List the snapshots of one sandbox, or of all.
    Snapshots {
        /// The sandbox, which may be gone.
        id: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Remove snapshots. What was made from one stays.
    RmSnapshot {
        /// Which.
        #[arg(required = true)]
        ids: Vec<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Make another sandbox with the files that this one has now. What either writes later the other never sees.
    Fork {
        /// The sandbox.
        id: String,
        /// The new one: a name, or a session that has no sandbox yet (default: a fresh name).
        to: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Give a sandbox the files of a snapshot instead of its own. It is stopped if it runs, and made if there is none.
    Restore {
        /// The sandbox.
        id: String,
        /// The snapshot.
        snapshot: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Write the files of a sandbox, or of a snapshot, as an archive (tar, zstd), for this server or another.
    Export {
        /// The sandbox.
        id: String,
        /// The id is a snapshot's.
        #[arg(long)]
        snapshot: bool,
        /// The file (default: standard output).
        #[arg(long = "output", short = 'o', value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Make a sandbox from such an archive.
    Import {
        /// The new one: a name, or a session that has no sandbox yet.
        id: String,
        /// The archive (default: standard input).
        #[arg(value_name = "FILE")]
        from: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// A program in a sandbox.
#[derive(Debug, Args)]
pub struct Program {
    /// Pass standard input on.
    #[arg(long, short)]
    pub interactive: bool,
    /// Give it a terminal.
    #[arg(long, short)]
    pub tty: bool,
    /// Where it starts (default: the workspace).
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// A variable of its environment.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// End it after so many seconds; the exit code is 124 then.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub command: Vec<String>,
}
