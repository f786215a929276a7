//! What a database knows of its master key: which version it is at, how to recognise it, and which secrets
//! a rotation still has to wrap. It never sees a key, and opens nothing.

use contract::ids::{CredentialId, WorkspaceId};

use crate::error::Error;
use crate::store::{Store, on_back};
use crate::vaults::Sealed;

/// The version of a database's first master key.
pub const FIRST_VERSION: u32 = 1;

/// What a database knows of its master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterState {
    /// The version of the current key.
    pub version: u32,
    /// What recognises the current key; none before the first start.
    pub check: Option<Vec<u8>>,
    /// What recognises the next key, while a rotation is under way.
    pub next_check: Option<Vec<u8>>,
    /// What API keys are hashed with, sealed; none before it was stored.
    pub pepper: Option<Sealed>,
}

/// A secret that a rotation has to wrap.
#[derive(Debug, Clone)]
pub struct ToWrap {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its credential.
    pub credential: CredentialId,
    /// The secret.
    pub sealed: Sealed,
}

/// A secret under the next key.
#[derive(Debug, Clone)]
pub struct Wrapped {
    /// Its credential.
    pub credential: CredentialId,
    /// What it was.
    pub before: Vec<u8>,
    /// What it is now.
    pub after: Sealed,
}

impl Store {
    /// What is known of the master key.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn master_state(&self) -> Result<MasterState, Error> {
        on_back!(self, read, |c| master::state(c))
    }

    /// Stores what recognises the first key, and the pepper, unless they are there; returns what is there
    /// afterwards.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn init_master(&self, check: Vec<u8>, pepper: Sealed) -> Result<MasterState, Error> {
        on_back!(self, write, |cx| master::init(cx, &check, &pepper))
    }

    /// Begins a rotation to the key that `next_check` recognises, unless one is under way; returns what is
    /// known afterwards.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn begin_rotation(&self, next_check: Vec<u8>) -> Result<MasterState, Error> {
        on_back!(self, write, |cx| master::begin(cx, &next_check))
    }

    /// Secrets wrapped under `version`, by the ids of their credentials, behind `after`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn wrapped_under(
        &self,
        version: u32,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<ToWrap>, Error> {
        on_back!(self, read, |c| master::wrapped_under(
            c, version, after, limit
        ))
    }

    /// Stores secrets under their new key, each only if it is still what it was; returns how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn rewrap(&self, wrapped: Vec<Wrapped>) -> Result<u64, Error> {
        on_back!(self, write, |cx| master::rewrap(cx, &wrapped))
    }

    /// Ends a rotation: the next key becomes the current one. False, and nothing done, while a secret is
    /// left under another key.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Bug`] if none is under way.
    pub async fn finish_rotation(&self, pepper: Sealed) -> Result<bool, Error> {
        on_back!(self, write, |cx| master::finish(cx, &pepper))
    }
}
