//! The running claude: its input, its output line by line, what it waits for. It knows no session.

use std::collections::HashMap;

use sandbox::{Command, Process, Sandbox};
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
}

/// A process and its lines.
pub(crate) struct Foreign {
    process: Process,
    lines: Lines,
}

impl Foreign {
    /// Starts it.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`].
    pub(crate) async fn start(
        sandbox: &dyn Sandbox,
        command: Command,
    ) -> Result<Self, sandbox::Error> {
        let mut process = sandbox.spawn(command).await?;
        let stdout = process.stdout.take().ok_or(sandbox::Error::Gone)?;
        // It has nothing to complain about that its lines do not say; what is not read is discarded.
        drop(process.stderr.take());
        let lines = Lines {
            from: stdout,
            held: Vec::new(),
            seen: 0,
        };
        Ok(Self { process, lines })
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

/// Lines of a stream, each of a bounded length.
struct Lines {
    from: Box<dyn AsyncRead + Send + Sync + Unpin>,
    held: Vec<u8>,
    /// Bytes of `held` in which there is no end of a line.
    seen: usize,
}

impl Lines {
    /// Cancel safe: yes.
    async fn next(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(at) = self.held[self.seen..].iter().position(|b| *b == b'\n') {
                let rest = self.held.split_off(self.seen + at + 1);
                let line = std::mem::replace(&mut self.held, rest);
                self.seen = 0;
                return Ok(line);
            }
            self.seen = self.held.len();
            if self.held.len() > FOREIGN_LINE_BYTES {
                return Err(Broken::Garbage);
            }
            let mut chunk = [0_u8; 16 * 1024];
            match self.from.read(&mut chunk).await {
                Ok(0) => return Err(Broken::Ended),
                Ok(read) => self.held.extend_from_slice(&chunk[..read]),
                Err(error) => return Err(Broken::Deaf(error)),
            }
        }
    }
}
