//! Owns the caller's side of workspaces that leave this host or come to it, as archives. It knows neither files nor what
//! an archive holds.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::JoinHandle;

use crate::error::{Doing, Error};
use crate::provider::SandboxId;
use crate::snapshot::SnapshotId;

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exported {
    /// The workspace of a sandbox as it is now. One that runs stands still while what it wrote last is copied.
    Sandbox(SandboxId),
    /// One as it was then.
    Snapshot(SnapshotId),
}

/// A workspace on its way out: a tar archive packed with zstd. Dropping it ends it.
pub struct Export {
    pieces: Receiver<io::Result<Bytes>>,
}

impl Export {
    pub(crate) fn new(pieces: Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces }
    }

    /// The next bytes; `None` after the last. Whoever does not take them for
    /// [`ARCHIVE_STALL`](crate::limits::ARCHIVE_STALL) gets no more.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read to its end; what came is no whole archive then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.pieces.recv().await;
        piece.transpose().doing(|| "export a workspace".to_owned())
    }
}

/// A workspace on its way in. Dropped before it is finished, it leaves no trace, unless all of it has come.
pub struct Import {
    pieces: Sender<Bytes>,
    done: JoinHandle<Result<(), Error>>,
}

impl Import {
    pub(crate) fn new(pieces: Sender<Bytes>, done: JoinHandle<Result<(), Error>>) -> Self {
        Self { pieces, done }
    }

    /// Adds bytes; false when no more are wanted: [`Import::finish`] says why. Waits while the disk is behind.
    ///
    /// Cancel safe: yes.
    pub async fn send(&mut self, bytes: Bytes) -> bool {
        self.pieces.send(bytes).await.is_ok()
    }

    /// Has the sandbox have these files.
    ///
    /// Cancel safe: the sandbox is there or not.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong with the archive, or that there is such a sandbox; [`Error::Busy`] when
    /// the host's disk is nearly full; [`Error::Io`]. Nothing of it is kept then.
    pub async fn finish(self) -> Result<(), Error> {
        drop(self.pieces);
        self.done.await.map_err(|_| Error::Gone)?
    }
}
