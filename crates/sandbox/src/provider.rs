//! Owns the words in which everybody else speaks about sandboxes. It knows no operating system.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::limits::ID_CHARS;
use crate::process::{Command, Process};
use hand::wire::{Output, Tool};

/// The name of a sandbox and of its workspace, chosen by the caller. It is visible inside the
/// sandbox and in the host's file names: it must carry neither a secret nor a tenant's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxId(String);

impl SandboxId {
    /// 1 to [`ID_CHARS`] characters of `a-z A-Z 0-9 _ -`, the first a letter or digit.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let starts = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if starts && name.len() <= ID_CHARS && name.bytes().all(plain) {
            return Ok(Self(name));
        }
        Err(Error::invalid(format!(
            "a sandbox's name is 1 to {ID_CHARS} letters, digits, `_` or `-`, not {name:?}"
        )))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which sandbox to attach, and how it is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Spec {
    /// Its name; the workspace of that name is reused when there is one.
    pub id: SandboxId,
    /// Added to the environment of everything that runs in it. Not for secrets.
    pub env: Vec<(String, String)>,
}

impl Spec {
    /// The plainest sandbox of that name.
    #[must_use]
    pub fn new(id: SandboxId) -> Self {
        Self {
            id,
            env: Vec::new(),
        }
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Makes sandboxes.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Opens the sandbox's workspace (creating it when absent) and starts it. When it already runs
    /// in this process, that one is returned and the rest of `spec` has no effect.
    ///
    /// The sandbox ends when the last handle is dropped; its workspace stays.
    /// Cancel safe: yes; a half-made sandbox is killed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names what this host cannot do; [`Error::Busy`] when another process
    /// owns the sandbox; [`Error::Invalid`] for a bad environment; [`Error::Io`].
    async fn attach(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error>;

    /// Stops the sandbox if it runs and removes its workspace; a name that is not there is success.
    /// The workspace is out of sight at once; its bytes are removed in the background.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process owns it; [`Error::Io`].
    async fn delete(&self, id: &SandboxId) -> Result<(), Error>;

    /// The sandboxes that have a workspace, running or not, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn list(&self) -> Result<Vec<SandboxId>, Error>;

    /// What this host can and cannot do, found by trying.
    async fn probe(&self) -> Report;
}

/// A running sandbox.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Runs one tool. A tool that fails is an output with `is_error`, not an `Err`.
    ///
    /// Cancel safe: yes; a dropped call is cancelled. After `cancel` a call that ended all the same
    /// still gives its output.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Gone`], [`Error::Cancelled`], [`Error::Busy`], [`Error::Invalid`].
    async fn tool(&self, call: ToolCall, cancel: CancellationToken) -> Result<Output, Error>;

    /// Starts a process that the caller drives over pipes. Dropping the [`Process`] kills it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such program or directory; [`Error::Lost`],
    /// [`Error::Gone`], [`Error::Busy`].
    async fn spawn(&self, command: Command) -> Result<Process, Error>;

    /// Asks whether it lives and answers.
    ///
    /// # Errors
    /// [`Error::Lost`] or [`Error::Gone`].
    async fn ping(&self) -> Result<(), Error>;

    /// Kills everything in it and returns when the last process is gone. The workspace stays.
    ///
    /// # Errors
    /// [`Error::Busy`] when it did not die in time; it is still being killed then.
    async fn stop(&self) -> Result<(), Error>;

    /// Whether it still ran a moment ago.
    fn is_alive(&self) -> bool;
}

/// One use of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Which tool.
    pub name: Tool,
    /// Its input as the model wrote it; a mistake in it is answered by the tool.
    pub input: serde_json::Value,
}

/// What a host can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// One line for each thing that was tried.
    pub findings: Vec<Finding>,
}

/// One thing that was tried on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried, e.g. `make the user namespace`.
    pub what: String,
    /// Whether it works.
    pub ok: bool,
    /// Whether a sandbox cannot run without it.
    pub required: bool,
    /// What was found, or why it failed.
    pub detail: String,
    /// What mends it; empty when nothing is to be mended.
    pub mend: String,
}

impl Report {
    /// Whether sandboxes can run here.
    #[must_use]
    pub fn can_run(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.ok || !finding.required)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "-x",
            "_x",
            "a b",
            "a\0",
            "é",
            &"a".repeat(65),
        ] {
            assert!(SandboxId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(SandboxId::new("sesn_1-B").unwrap().as_str(), "sesn_1-B");
    }
}
