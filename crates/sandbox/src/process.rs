//! Owns the caller's side of a process in a sandbox. It knows no transport.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hand::wire::{Exec, Signal, Size};
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
    /// A name of at most [`KEY_CHARS`](hand::limits::KEY_CHARS) bytes that no other process of this sandbox ever has.
    /// With one, it goes on when this process has gone, and is asked about by [`Sandbox::exec`](crate::Sandbox::exec).
    pub key: Option<String>,
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
            key: None,
        }
    }
}

/// What a process that has a key printed, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// How it stands. What it had printed when that was looked at is not more than what follows.
    pub exec: Exec,
    /// Which byte of its standard output the first of `stdout` is: later than was asked for where earlier ones are
    /// not kept.
    pub stdout_from: u64,
    /// From there on.
    pub stdout: Vec<u8>,
    /// Which byte of its standard error the first of `stderr` is.
    pub stderr_from: u64,
    /// From there on.
    pub stderr: Vec<u8>,
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

/// A running process. Dropping it kills the process and what descends from it, unless it was left ([`Process::leave`]),
/// or is kept ([`crate::Sandbox::keep`]) and the sandbox is left to the next server.
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
    /// Whether it goes on without this value. Of one that is kept, that is whether its sandbox is left.
    pub(crate) left: Arc<AtomicBool>,
}

/// What a process is told beside its input.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Kill,
    Signal(Signal),
    Resize(Size),
    Mark { heard: u64, note: Vec<u8> },
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

    /// From now on it goes on whatever becomes of this value: for one that has a key, and that somebody will ask
    /// about. Its input ends when that is dropped.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Sends a signal to it and its group. Does not wait; a process that has ended is no error.
    pub fn signal(&self, signal: Signal) {
        (self.control)(Order::Signal(signal));
    }

    /// Of a process that is kept: what it was told, and the first `heard` bytes of what it has said to this handle, no
    /// later server needs; `note` is what that one is given beside the rest, at most
    /// [`KEPT_NOTE_BYTES`](hand::limits::KEPT_NOTE_BYTES). Does not wait.
    pub fn mark(&self, heard: u64, note: &str) {
        let note = note.as_bytes().to_vec();
        (self.control)(Order::Mark { heard, note });
    }

    /// Says that its terminal has another size; without a terminal nothing happens.
    pub fn resize(&self, size: Size) {
        (self.control)(Order::Resize(size));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.left.load(Ordering::Relaxed) {
            self.kill();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("exit", &*self.exit.borrow())
            .finish_non_exhaustive()
    }
}
