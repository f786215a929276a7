//! The running claude: its input, its output line by line, what it waits for. It knows no session.

use std::collections::HashMap;

use futures_util::FutureExt as _;
use sandbox::{Command, Kept, Process, Sandbox};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::claude::wire::{self, Heard};
use crate::limits::FOREIGN_LINE_BYTES;

/// Why it is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("it ended")]
    Ended,
    #[error("it cannot be spoken to")]
    Deaf(#[source] std::io::Error),
    #[error("it said what is no line of its protocol")]
    Garbage,
    #[error("it ran a tool that it was not allowed to run")]
    Disobedient,
    #[error("it asked its model for nothing")]
    Silent,
    #[error("the turn ended badly, as it sees it")]
    Upset,
    #[error("it is not where the session is")]
    Elsewhere,
}

/// What it is kept under in its sandbox.
const KEY: &str = "claude";

/// A process and its lines.
pub(crate) struct Foreign {
    process: Process,
    lines: Lines,
}

impl Foreign {
    /// Starts it, in place of whatever was kept before.
    ///
    /// # Errors
    /// Those of [`Sandbox::keep`].
    pub(crate) async fn start(
        sandbox: &dyn Sandbox,
        command: Command,
    ) -> Result<Self, sandbox::Error> {
        Self::over(sandbox.keep(KEY, command).await?)
    }

    /// The one that an earlier server drove, and what is known of it.
    ///
    /// # Errors
    /// Those of [`Sandbox::kept`].
    pub(crate) async fn kept(
        sandbox: &dyn Sandbox,
    ) -> Result<Option<(Self, Kept)>, sandbox::Error> {
        match sandbox.kept(KEY).await? {
            Some((process, kept)) => Ok(Some((Self::over(process)?, kept))),
            None => Ok(None),
        }
    }

    fn over(mut process: Process) -> Result<Self, sandbox::Error> {
        let stdout = process.stdout.take().ok_or(sandbox::Error::Gone)?;
        // It has nothing to complain about that its lines do not say.
        drop(process.stderr.take());
        let lines = Lines {
            from: stdout,
            held: Vec::new(),
            seen: 0,
            taken: 0,
        };
        Ok(Self { process, lines })
    }

    /// What it was told, and what has been heard of it, is safe; a later server goes on from `note`. Never waits.
    pub(crate) fn mark(&self, note: &str) {
        self.process.mark(self.lines.taken, note);
    }

    /// Whether it is known to have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.wait().now_or_never().is_some()
    }

    /// Ends it. Does not wait.
    pub(crate) fn end(&self) {
        self.process.kill();
    }

    /// Waits until it has ended, or its sandbox has. Cancel safe: yes.
    pub(crate) async fn gone(&self) {
        // A sandbox that was lost has taken it along.
        let _ = self.process.wait().await;
    }

    /// Says one line. Cancel safe: no; half a line may have been said.
    ///
    /// # Errors
    /// [`Broken::Deaf`].
    pub(crate) async fn say(&mut self, line: &Value) -> Result<(), Broken> {
        let stdin = self.process.stdin.as_mut().ok_or(Broken::Ended)?;
        let line = format!("{line}\n");
        stdin
            .write_all(line.as_bytes())
            .await
            .map_err(Broken::Deaf)?;
        stdin.flush().await.map_err(Broken::Deaf)
    }

    /// The next line that can be read. Cancel safe: yes.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn hear(&mut self) -> Result<Heard, Broken> {
        let line = self.lines.next().await?;
        wire::heard(&line).ok_or(Broken::Garbage)
    }
}

/// What it waits for.
#[derive(Debug, Clone)]
pub(crate) enum Waits {
    /// Whether it may run a tool of its own.
    Permission { request: String, input: Value },
    /// What a tool of the client's says.
    Custom { request: String, rpc: Value },
}

/// By the model's id of the call.
pub(crate) type Asks = HashMap<String, Waits>;

/// Room for what one read of the stream may bring.
const READ_BYTES: usize = 16 * 1024;

/// Lines of a stream, each of a bounded length.
struct Lines {
    from: Box<dyn AsyncRead + Send + Sync + Unpin>,
    held: Vec<u8>,
    /// Bytes of `held` in which there is no end of a line.
    seen: usize,
    /// Bytes of all lines that were read.
    taken: u64,
}

impl Lines {
    /// Cancel safe: yes.
    async fn next(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(at) = self.held[self.seen..].iter().position(|b| *b == b'\n') {
                let rest = self.held.split_off(self.seen + at + 1);
                let line = std::mem::replace(&mut self.held, rest);
                self.seen = 0;
                self.taken += line.len() as u64;
                return Ok(line);
            }
            self.seen = self.held.len();
            if self.held.len() > FOREIGN_LINE_BYTES {
                return Err(Broken::Garbage);
            }
            self.held.reserve(READ_BYTES);
            match self.from.read_buf(&mut self.held).await {
                Ok(0) => return Err(Broken::Ended),
                Ok(_) => {}
                Err(error) => return Err(Broken::Deaf(error)),
            }
        }
    }
}
