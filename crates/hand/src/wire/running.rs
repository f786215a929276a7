//! Owns the words for what runs in a sandbox, or ran. Data only.

use serde::{Deserialize, Serialize};

/// A process that outlives the server it was started by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Its name.
    pub key: String,
    /// Program and arguments, cut after [`COMMAND_CHARS`](crate::limits::COMMAND_CHARS).
    pub command: String,
    /// Whether it has ended.
    pub ended: bool,
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether it was ended because it ran too long.
    pub timed_out: bool,
    /// Bytes of standard output that there were in all.
    pub stdout_bytes: u64,
    /// Bytes of standard error that there were in all.
    pub stderr_bytes: u64,
}

/// What such a process printed, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// The process, as it was when its output was looked at.
    pub exec: Exec,
    /// Which byte the first of `stdout` is: later than was asked for where earlier ones are not kept.
    pub stdout_from: u64,
    /// In base64.
    pub stdout: String,
    /// Which byte the first of `stderr` is.
    pub stderr_from: u64,
    /// In base64.
    pub stderr: String,
}

/// A process in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its number inside.
    pub pid: i32,
    /// That of its parent.
    pub parent: i32,
    /// The kernel's letter for what it does: `R` runs, `S` and `D` wait, `T` is stopped, `Z` has ended.
    pub state: char,
    /// Its program and arguments, cut after [`COMMAND_CHARS`](crate::limits::COMMAND_CHARS).
    pub command: String,
    /// Processor time it has had, in milliseconds.
    pub cpu_ms: u64,
    /// Memory it holds, in bytes.
    pub memory_bytes: u64,
}
