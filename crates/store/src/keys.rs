//! Workspaces and API keys: who may call. A key's secret is never here, only its keyed hash.

use contract::ids::{ApiKeyId, WorkspaceId};
use contract::time::Micros;

use crate::error::Error;
use crate::store::{Store, on_back};

/// The keyed hash of an API key's secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Everything in its workspace.
    Workspace,
    /// Also all workspaces under `/v1/x`.
    Operator,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Since when.
    pub created_at: Micros,
    /// Archived since: its keys no longer authenticate.
    pub archived_at: Option<Micros>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// The workspace it opens.
    pub workspace: WorkspaceId,
    /// The keyed hash of its secret.
    pub hash: KeyHash,
    /// The first characters, for recognition.
    pub prefix: String,
    /// The last four characters.
    pub last4: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// Since when.
    pub created_at: Micros,
    /// Revoked since.
    pub revoked_at: Option<Micros>,
}

impl Store {
    /// Makes a workspace. The default one exists from the first opening.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the id exists.
    pub async fn create_workspace(
        &self,
        id: WorkspaceId,
        name: String,
        now: Micros,
    ) -> Result<WorkspaceRow, Error> {
        on_back!(self, write, |cx| keys::create_workspace(cx, id, name, now))
    }

    /// All workspaces, oldest first, archived ones included.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceRow>, Error> {
        on_back!(self, read, |c| keys::workspaces(c))
    }

    /// One workspace.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn workspace(&self, id: WorkspaceId) -> Result<WorkspaceRow, Error> {
        on_back!(self, read, |c| keys::workspace(c, id))
    }

    /// Archives a workspace: its keys stop working at once. Archiving again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn archive_workspace(
        &self,
        id: WorkspaceId,
        now: Micros,
    ) -> Result<WorkspaceRow, Error> {
        on_back!(self, write, |cx| keys::archive_workspace(cx, id, now))
    }

    /// Stores a key. A key whose hash exists is left as it is and returned, so that seeding a key is
    /// idempotent; compare the ids to tell.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Archived`] for its workspace.
    pub async fn create_api_key(&self, key: ApiKeyRow) -> Result<ApiKeyRow, Error> {
        on_back!(self, write, |cx| keys::create(cx, key))
    }

    /// All keys (of one workspace, if given), oldest first, revoked ones included.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn api_keys(&self, workspace: Option<WorkspaceId>) -> Result<Vec<ApiKeyRow>, Error> {
        on_back!(self, read, |c| keys::list(c, workspace))
    }

    /// Revokes a key at once. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_api_key(&self, id: ApiKeyId, now: Micros) -> Result<ApiKeyRow, Error> {
        on_back!(self, write, |cx| keys::revoke(cx, id, now))
    }

    /// The key with this hash, if it is neither revoked nor of an archived workspace. Remembered in
    /// memory until any key or workspace changes.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn authenticate(&self, hash: KeyHash) -> Result<Option<ApiKeyRow>, Error> {
        let epoch = match self.known_keys().get(&hash) {
            Ok(known) if !self.is_stale() => return Ok(Some(known)),
            Ok(_) => None,
            Err(epoch) => Some(epoch),
        };
        let found = on_back!(self, read, |c| keys::by_hash(c, hash))?;
        if let (Some(key), Some(epoch)) = (&found, epoch) {
            self.known_keys().put(epoch, hash, key.clone(), 1);
        }
        Ok(found)
    }
}
