//! Owns the caller's side of files and connections of a sandbox: streams that end well or say why not. It
//! knows no transport.

use std::fmt;

use bytes::{Bytes, BytesMut};
use hand::limits::{CHANGES, CHANGES_BYTES};
use hand::wire::{Changes, Entry};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::Error;
use crate::process::Process;

/// Bytes that one step of a download gives at most.
const PIECE: usize = 64 * 1024;
/// Bytes of the sandbox's word about what went wrong.
const PROBLEM: u64 = 4096;

/// Bytes of one word about changes: each byte of a path takes at most six, and what is said of each name some.
const CHANGES_LINE: usize = CHANGES_BYTES * 6 + CHANGES * 100 + 100;

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// By name.
    pub entries: Vec<Entry>,
    /// Whether there is more than is listed.
    pub more: bool,
}

/// A file on its way out of a sandbox. Dropping it ends it.
pub struct Download {
    /// The file, as it was when it was opened.
    pub entry: Entry,
    process: Process,
}

impl Download {
    pub(crate) fn new(entry: Entry, process: Process) -> Self {
        Self { entry, process }
    }

    /// The next bytes; `None` after the last of a file that was read to its end.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Failed`] when reading failed on the way; [`Error::Lost`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut piece = BytesMut::with_capacity(PIECE);
        if let Some(from) = &mut self.process.stdout {
            // A pipe in memory: at its end it gives nothing.
            let read = from.read_buf(&mut piece).await.unwrap_or(0);
            if read > 0 {
                return Ok(Some(piece.freeze()));
            }
            self.process.stdout = None;
        }
        outcome(&mut self.process).await.map(|()| None)
    }
}

/// A file on its way into a sandbox. Dropped before it is finished, it leaves no trace.
pub struct Upload {
    process: Process,
}

impl Upload {
    pub(crate) fn new(process: Process) -> Self {
        Self { process }
    }

    /// Adds bytes. Waits while the sandbox is behind. Not cancel safe: drop the upload then.
    ///
    /// # Errors
    /// [`Error::Failed`] when the disk is full or the like; [`Error::Lost`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let sent = match &mut self.process.stdin {
            Some(into) => into.write_all(bytes).await.is_ok(),
            None => false,
        };
        if sent {
            return Ok(());
        }
        outcome(&mut self.process).await?;
        Err(Error::Failed {
            problem: "the sandbox took no more of the file".to_owned(),
        })
    }

    /// Puts the file in its place. Dropped meanwhile, the file is there or not.
    ///
    /// # Errors
    /// As [`Upload::send`].
    pub async fn finish(mut self) -> Result<(), Error> {
        drop(self.process.stdin.take());
        outcome(&mut self.process).await
    }
}

/// A look at what changes in a sandbox. Dropping it ends it.
pub struct FileWatch {
    process: Process,
    /// What has come of the next word.
    line: BytesMut,
}

impl FileWatch {
    pub(crate) fn new(process: Process) -> Self {
        Self {
            process,
            line: BytesMut::new(),
        }
    }

    /// What has changed since this was asked last, each name once; the first time nothing has, and it is being
    /// looked at from now on. Waits for it; `None` when nobody looks any more. Whoever takes too long hears only
    /// that there was more.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Failed`] when looking failed on the way; [`Error::Lost`].
    pub async fn next(&mut self) -> Result<Option<Changes>, Error> {
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line = self.line.split_to(end + 1);
                // What no honest hand says ends the look, as its end would.
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|_| Error::Lost);
            }
            if self.line.len() > CHANGES_LINE {
                return Err(Error::Lost);
            }
            let Some(from) = &mut self.process.stdout else {
                return Ok(None);
            };
            if from.read_buf(&mut self.line).await.unwrap_or(0) == 0 {
                self.process.stdout = None;
                outcome(&mut self.process).await?;
            }
        }
    }
}

impl fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

/// How a stream ended that is no process.
async fn outcome(process: &mut Process) -> Result<(), Error> {
    if process.wait().await?.success() {
        return Ok(());
    }
    let mut problem = Vec::new();
    if let Some(from) = &mut process.stderr {
        // A pipe in memory does not fail.
        let _ = from.take(PROBLEM).read_to_end(&mut problem).await;
    }
    let problem = String::from_utf8_lossy(&problem).into_owned();
    Err(Error::Failed { problem })
}

/// A connection to a port in a sandbox. Dropping it closes it.
pub struct Connection {
    /// What the other side says.
    pub read: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// What it hears; dropping it says that nothing more comes.
    pub write: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    /// Dropping it closes both ways.
    pub held: Held,
}

/// What a connection lasts as long as.
#[derive(Debug)]
pub struct Held {
    _process: Process,
}

impl Connection {
    pub(crate) fn new(mut process: Process) -> Result<Self, Error> {
        match (process.stdout.take(), process.stdin.take()) {
            (Some(read), Some(write)) => Ok(Self {
                read,
                write,
                held: Held { _process: process },
            }),
            _ => Err(Error::Lost),
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
