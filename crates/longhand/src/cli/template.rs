//! `template`: what it takes. What it does stands elsewhere.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Output;

/// `template`
#[derive(Debug, Subcommand)]
pub enum Template {
    /// Import one from a tar archive of a whole root (plain, .gz or .zst), from the directory of an OCI image layout, or
    /// from a registry. It lies in the data directory from then on; a server that runs need not be restarted.
    Import(Import),
    /// Make one from packages of Debian, by mmdebstrap (package `mmdebstrap`), and import it.
    Build(Build),
    /// List those that are here.
    List(Output),
    /// Remove templates that no sandbox and no snapshot lies on.
    Remove {
        /// Names or digests.
        #[arg(required = true, value_name = "NAME|sha256:DIGEST")]
        templates: Vec<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Read all of one and say whether it still is what was imported.
    Verify {
        /// Its name or digest.
        #[arg(value_name = "NAME|sha256:DIGEST")]
        template: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `template import`
#[derive(Debug, Args)]
pub struct Import {
    /// The archive, the layout's directory, `-` for an archive from standard input, or an image in a registry:
    /// docker://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST], such as docker://docker.io/library/debian:12.
    #[arg(value_name = "FILE|DIR|docker://IMAGE")]
    pub from: PathBuf,
    /// What it is called from now on; without a name its digest is.
    #[arg(long)]
    pub name: Option<String>,
    /// Which image of the layout, by its `org.opencontainers.image.ref.name`.
    #[arg(long)]
    pub image: Option<String>,
    /// Who asks the registry; the password, or a token that stands for it, is read from standard input.
    #[arg(long)]
    pub user: Option<String>,
    /// Ask a registry that has no TLS, though it is on another machine. Passwords are sent in the clear.
    #[arg(long)]
    pub plain_http: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `template build`
#[derive(Debug, Args)]
pub struct Build {
    /// What is in it.
    #[arg(value_enum)]
    pub recipe: Recipe,
    /// What it is called from now on (default: as the recipe).
    #[arg(long)]
    pub name: Option<String>,
    /// Debian's release.
    #[arg(long, default_value = "bookworm")]
    pub suite: String,
    /// Where packages come from (default: `sandbox.debian_mirror`).
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Further packages.
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    pub include: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What a template that is built has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// Debian's essential packages, apt and certificates.
    Minimal,
    /// Those, and Python, Node, git, compilers, ripgrep, curl, jq, SQLite.
    Base,
    /// Those, and what the hosted sandbox has, as far as Debian 12 has it: Go, Rust, Java, Ruby, PHP, databases, a browser,
    /// documents (several GB; docs/sandbox.md).
    Standard,
}
