//! Owns the words for a stream that is no process. Data only.

use serde::{Deserialize, Serialize};

/// A stream that is no process. Paths are absolute or start in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "open", rename_all = "snake_case")]
pub enum Open {
    /// A file's bytes come on standard output.
    Read {
        /// Of a regular file; symlinks are followed, inside the sandbox.
        path: String,
        /// The first byte that is wanted.
        from: u64,
    },
    /// Standard input becomes a file, which takes its place when the input ends, whole or not at all.
    Write {
        /// Of a regular file, there or not. A symlink of that name is replaced, not followed.
        path: String,
        /// Its permissions; absent: as they were, or 0644.
        mode: Option<u32>,
    },
    /// What changes comes on standard output, a [`Changes`](super::Changes) as JSON a line; the first, with none, when it is
    /// looked at. It ends when it is killed.
    Watch {
        /// A directory, or a file, there or not yet.
        path: String,
        /// Also what is below the directories in it, on the same volume.
        deep: bool,
    },
    /// A connection to a port on the sandbox's own loopback.
    Connect {
        /// Which.
        port: u16,
    },
}
