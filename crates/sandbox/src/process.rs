//! Owns the caller's side of a process in a sandbox. It knows no transport.

use std::fmt;
use std::time::Duration;

use hand::wire::{Signal, Size};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::error::Error;

/// A process to start in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program (searched in the sandbox's PATH) and its arguments; at least one.
    pub argv: Vec<String>,
    /// Added to the sandbox's environment.
    pub env: Vec<(String, String)>,
    /// Where it starts: absolute, in the sandbox.
    pub cwd: String,
    /// The size of the terminal that it gets; without one it gets three pipes. On a terminal all it prints is
    /// standard output.
    pub terminal: Option<Size>,
    /// How long it may run, pauses left out; then it is killed and [`ExitStatus::timed_out`] says so.
    pub time_limit: Option<Duration>,
}

impl Command {
    /// A program with its arguments, started in the workspace.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self {
            argv,
            env: Vec::new(),
            cwd: "/workspace".to_owned(),
            terminal: None,
            time_limit: None,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its exit code, when it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether that was because it had run too long.
    pub timed_out: bool,
}

impl ExitStatus {
    /// Whether it ended with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// A running process. Dropping it kills the process and what descends from it.
///
/// Its streams are independent: one that is not read holds up the process when about 1 MiB is
/// waiting, and nothing else. Dropping a stream's reader discards what comes; dropping `stdin`
/// closes it.
pub struct Process {
    /// What it reads; take and drop it to signal the end.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Sync + Unpin>>,
    /// What it prints.
    pub stdout: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>,
    /// What it complains.
    pub stderr: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>,
    pub(crate) exit: watch::Receiver<Option<ExitStatus>>,
    pub(crate) control: Box<dyn Fn(Order) + Send + Sync>,
}

/// What a process is told beside its input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Kill,
    Signal(Signal),
    Resize(Size),
}

impl Process {
    /// Waits until the process has ended; its streams may still hold output.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Lost`] when the sandbox ended first.
    pub async fn wait(&self) -> Result<ExitStatus, Error> {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await;
        exit.ok().and_then(|exit| *exit).ok_or(Error::Lost)
    }

    /// Kills it and what descends from it. Does not wait; a process that has ended is no error.
    pub fn kill(&self) {
        (self.control)(Order::Kill);
    }

    /// Sends a signal to it and its group. Does not wait; a process that has ended is no error.
    pub fn signal(&self, signal: Signal) {
        (self.control)(Order::Signal(signal));
    }

    /// Says that its terminal has another size; without a terminal nothing happens.
    pub fn resize(&self, size: Size) {
        (self.control)(Order::Resize(size));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("exit", &*self.exit.borrow())
            .finish_non_exhaustive()
    }
}
