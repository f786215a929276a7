//! `volume`: what it takes. What it does stands elsewhere.

use clap::Subcommand;

use super::{Named, Output};

/// `volume`
#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Make an empty one, which sandboxes see as /mnt/volumes/NAME.
    ///
    /// The sandboxes of a session have it when the metadata of the session or of its environment says
    /// `longhand.volumes`: names with commas between them, `NAME:ro` for one that is only read.
    Create {
        /// Its name: small letters, digits, `_` and `-`.
        name: String,
        /// MiB that may lie in it (default: what `sandbox.volume_mib` lets any have).
        #[arg(long, value_name = "MIB")]
        size_mib: Option<u64>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List volumes, and which sandboxes have them.
    List {
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Show one, by its name or id, and how much lies in it.
    Show(Named),
    /// Remove volumes with what is in them.
    Remove {
        /// Which, by name or id.
        #[arg(required = true)]
        names: Vec<String>,
        /// Also those that sandboxes have that do not run: these do not start again while they ask for them.
        #[arg(long)]
        force: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}
