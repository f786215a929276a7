//! Owns the words in which everybody else speaks about templates. It knows no file system.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::name::{TemplateId, TemplateRef};
use crate::error::Error;
use crate::provider::SandboxId;

/// A template that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The digest of what is in it.
    pub id: TemplateId,
    /// The names it has now, in order.
    #[serde(skip)]
    pub names: Vec<String>,
    /// What it was made from: a path or a digest, for people.
    pub source: String,
    /// When it was imported, in microseconds since 1970.
    pub at: i64,
    /// The processor it is for, as images name it (`amd64`, `arm64`).
    pub architecture: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files and directories.
    pub files: u64,
    /// What its image adds to the environment of programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// The digest of it as it lies there, with what sandboxes need.
    pub(super) sum: TemplateId,
}

/// What a provider can do with templates. Importing one takes no running provider:
/// [`TemplateHome::import`](super::TemplateHome::import).
#[async_trait]
pub trait Templates: Send + Sync {
    /// All that are here, in the order of their import.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn templates(&self) -> Result<Vec<Template>, Error>;

    /// Removes one with all of its names; by a name, just that template which has it.
    ///
    /// Cancel safe: yes; what was begun goes on.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Busy`] while sandboxes or snapshots lie on it, which are named, or while workspaces
    /// are made, so that nobody knows; [`Error::Invalid`] for the host's; [`Error::Io`].
    async fn remove_template(&self, which: &TemplateRef) -> Result<Template, Error>;

    /// The template that the workspace of that name lies on; none for the host's, and where there is no such workspace.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn template_of(&self, id: &SandboxId) -> Result<Option<TemplateId>, Error>;
}
