//! Owns the words in which everybody else speaks about whole workspaces: their snapshots, and what is made of them. It
//! knows no file system.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::carried::{Export, Exported, Import};
use crate::error::Error;
use crate::limits::NOTE_CHARS;
use crate::provider::SandboxId;

/// The name of a snapshot, chosen by whoever asks for it; of the same form as a sandbox's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(SandboxId);

impl SnapshotId {
    /// As [`SandboxId::new`].
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let id = SandboxId::new(name.clone());
        id.map(Self)
            .map_err(|_| Error::invalid(format!("{name:?} is no name of a snapshot")))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.as_str().to_owned()
    }
}

/// What is to be known of a snapshot that is made.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// What it will be called.
    pub id: SnapshotId,
    /// The time, in microseconds since 1970.
    pub at: i64,
    /// Whose it is; none: the operator's.
    pub workspace: Option<String>,
    /// For people, at most [`NOTE_CHARS`] bytes.
    pub note: Option<String>,
}

impl NewSnapshot {
    /// The plainest one.
    #[must_use]
    pub fn new(id: SnapshotId, at: i64) -> Self {
        Self {
            id,
            at,
            workspace: None,
            note: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.note {
            Some(note) if note.len() > NOTE_CHARS => Err(Error::invalid(format!(
                "note: longer than {NOTE_CHARS} bytes"
            ))),
            _ => Ok(()),
        }
    }
}

/// A workspace as it was at one moment. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// The sandbox it was taken of, which may be gone.
    pub sandbox: String,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Whose it is; none: the operator's.
    pub workspace: Option<String>,
    /// For people.
    pub note: Option<String>,
    /// Whether the sandbox ran then: files are as they were at one moment, but a program may have been about to
    /// write more.
    pub live: bool,
}

/// What a provider can do with whole workspaces: everything that the sandbox can write to, but what lies in memory
/// (`/tmp`, `/run`, `/dev/shm`). What its session has given it (`/mnt/session/uploads`) and what a loop inside remembers
/// ([`STATE`](crate::STATE)) belong to the session and are no part of it.
///
/// Each of these is done whole or not at all, whoever is killed meanwhile. Cancel safe: yes; what was begun goes on.
#[async_trait]
pub trait Workspaces: Send + Sync {
    /// Keeps the workspace of `of` as it is now. One that runs stands still meanwhile and goes on.
    ///
    /// # Errors
    /// [`Error::Missing`] for a sandbox without a workspace; [`Error::Busy`] while it is changed otherwise, when
    /// there are as many snapshots as may be, or when so much was written in a sandbox that runs that it would have
    /// to stand still for too long; [`Error::Invalid`] for a name that is taken; [`Error::Unsupported`] for one
    /// with a disk of its own; [`Error::Io`].
    async fn snapshot(&self, of: &SandboxId, new: NewSnapshot) -> Result<Snapshot, Error>;

    /// All there are, the oldest first.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn snapshots(&self) -> Result<Vec<Snapshot>, Error>;

    /// Removes one. What was made from it stays.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Io`].
    async fn remove_snapshot(&self, id: &SnapshotId) -> Result<(), Error>;

    /// Makes the sandbox `to`, which there is none of, with the files that `from` has now. It does not run yet.
    /// What either writes later the other never sees.
    ///
    /// # Errors
    /// As [`Workspaces::snapshot`]; [`Error::Invalid`] when there is a sandbox `to`.
    async fn fork(&self, from: &SandboxId, to: &SandboxId) -> Result<(), Error>;

    /// Has the sandbox `to` have the files of a snapshot, instead of those it has. It is stopped if it runs, and
    /// made if there is none.
    ///
    /// # Errors
    /// [`Error::Missing`] for the snapshot; [`Error::Busy`] while the sandbox is changed otherwise; [`Error::Io`].
    async fn restore(&self, from: &SnapshotId, to: &SandboxId) -> Result<(), Error>;

    /// Begins to write a workspace as an archive, which any host can import. Sockets are left out.
    ///
    /// # Errors
    /// As [`Workspaces::snapshot`]; [`Error::Missing`] for a snapshot; [`Error::Busy`] while as many archives as may
    /// be are under way.
    async fn export(&self, from: &Exported) -> Result<Export, Error>;

    /// Begins to make the sandbox `to`, which there is none of, from an archive. It does not run yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is a sandbox `to`; [`Error::Busy`] as with [`Workspaces::export`], or when the
    /// host's disk is nearly full.
    async fn import(&self, to: &SandboxId) -> Result<Import, Error>;
}
