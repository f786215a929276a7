//! Rotation of the master key while the server runs: a new key, every data key wrapped under it, the old key
//! gone. It may be cut short anywhere; the next call, or the next start, goes on. Secrets are not opened.

use std::sync::atomic::Ordering;

use contract::ids::CredentialId;
use store::Store;
use store::master::{MasterState, ToWrap, Wrapped};
use store::replica::Seen;
use tokio::time::Instant;

use crate::crypt;
use crate::handle::{Source, Vault};
use crate::limits::{OTHERS_FOLLOW, OTHERS_LOOK, ROTATE_PAGE};
use crate::master::{MasterKey, MasterKeyError};
use crate::ring::{Ring, Wrap};
use crate::secret::place;
use crate::unlock::{PEPPER, if_there, next_path, promote};

/// A rotation that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The version of the key in force.
    pub version: u32,
    /// Secrets that this call wrapped; an earlier one that was cut short may have wrapped others.
    pub wrapped: u64,
}

/// Why a rotation did not end. What was wrapped stays; both keys stay.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Another call is at it.
    #[error("the master key is being rotated already")]
    Busy,
    /// The keys are given from outside, and there is no next one.
    #[error(
        "there is no key to go to: restart the server with LONGHAND_MASTER_KEY_NEXT or `vault.next_key_command`, then rotate again"
    )]
    NoNext,
    /// The next key is the current one.
    #[error("the next master key is the same as the current one; make another one")]
    Same,
    /// Some secrets do not open: they were damaged or moved before.
    #[error(
        "{} secrets cannot be read under the old key, the first of credential {}: archive or delete these credentials, then rotate again",
        credentials.len(),
        credentials.first().map_or_else(String::new, ToString::to_string)
    )]
    Damaged {
        /// Whose secrets.
        credentials: Vec<CredentialId>,
    },
    /// Other servers on the database have not taken up the next key: they could not open what is sealed under it.
    #[error(
        "no secret was wrapped: the servers {} have not taken up the next master key. Restart them with it (LONGHAND_MASTER_KEY_NEXT, `vault.next_key_command`, or the shared key file), or stop them; then rotate again",
        replicas.join(", ")
    )]
    Unheard {
        /// Their names.
        replicas: Vec<String>,
    },
    /// The key's file cannot be made or moved.
    #[error(transparent)]
    Key(#[from] MasterKeyError),
    /// The database does not do its part.
    #[error("rotate the master key in the store")]
    Store(#[from] store::Error),
}

impl Vault {
    /// Rotates the master key, or ends the rotation that was begun. Serving goes on meanwhile. Waits up to
    /// [`OTHERS_FOLLOW`] for the other servers on the database.
    ///
    /// Cancel safe: yes. It stops where it is, and the next call goes on.
    ///
    /// # Errors
    /// [`RotateError`].
    pub async fn rotate(&self, store: &Store) -> Result<Rotation, RotateError> {
        let _one = self.rotating.try_lock().map_err(|_| RotateError::Busy)?;
        if !self.is_rotating() {
            self.begin(store).await?;
        }
        self.until_others_follow(store).await?;
        let mut wrapped = 0;
        loop {
            wrapped += self.wrap_all(store).await?;
            let pepper =
                self.reading(|ring| crypt::seal(ring.newest(), &PEPPER, &*self.pepper_key));
            // A credential may have been sealed under the old key a moment before the new one was there.
            if store.finish_rotation(pepper).await? {
                break;
            }
        }
        self.changing(Ring::finish);
        if let Source::File(path) = &self.source {
            promote(path)?;
        }
        let version = self.key_version();
        tracing::info!(version, wrapped, "the master key was rotated");
        Ok(Rotation { version, wrapped })
    }

    /// Waits until every server that is there has said that it can open what is sealed under the newest key: what is
    /// wrapped before that, it could not use.
    async fn until_others_follow(&self, store: &Store) -> Result<(), RotateError> {
        let Some((me, _)) = store.replica() else {
            return Ok(());
        };
        let (newest, deadline) = (self.key_version(), Instant::now() + OTHERS_FOLLOW);
        loop {
            let lacks = |one: &Seen| one.is_live && one.key_version.is_none_or(|key| key < newest);
            let replicas = store.replicas().await?.into_iter();
            let others = replicas.filter(|one| one.name != me.as_str() && lacks(one));
            let others = others.map(|one| one.name).collect::<Vec<_>>();
            if others.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(RotateError::Unheard { replicas: others });
            }
            tokio::time::sleep(OTHERS_LOOK).await;
        }
    }

    /// Takes up what another server on the same database has done to the master key: the key that a rotation goes to,
    /// as soon as one is under way, and its end.
    ///
    /// # Errors
    /// [`RotateError::NoNext`]: this server has not got the key that the others have. [`RotateError::Store`].
    pub async fn follow(&self, store: &Store) -> Result<(), RotateError> {
        // Whoever rotates here knows better.
        let Ok(_one) = self.rotating.try_lock() else {
            return Ok(());
        };
        let state = store.master_state().await?;
        let (newest, leaving) = self.reading(|ring| (ring.newest().version, ring.leaving()));
        let (check, version) = match &state.next_check {
            Some(check) => (check, state.version + 1),
            None => match &state.check {
                Some(check) => (check, state.version),
                None => return Ok(()),
            },
        };
        if newest < version {
            let next = self.source.begun(check);
            let is_missing = matches!(next, Err(RotateError::NoNext));
            self.lacks_next.store(is_missing, Ordering::Relaxed);
            let wrap = Wrap::of(&next?, version);
            self.changing(|ring| ring.begin(wrap));
            store.opens_under(version);
        }
        if state.next_check.is_none() && (newest < version || leaving.is_some()) {
            self.changing(Ring::finish);
            tracing::info!(version, "another server rotated the master key");
        }
        Ok(())
    }

    /// Has the next key recognised by the database before anything is sealed under it.
    async fn begin(&self, store: &Store) -> Result<(), RotateError> {
        let state = store.master_state().await?;
        let next = match &state.next_check {
            // An earlier call was dropped between the database and here.
            Some(check) => self.source.begun(check)?,
            None => self.source.fresh(&state)?,
        };
        if state.check.as_ref() == Some(&next.check()) {
            return Err(RotateError::Same);
        }
        let state = store.begin_rotation(next.check()).await?;
        if state.next_check.as_ref() != Some(&next.check()) {
            return Err(RotateError::Busy);
        }
        let wrap = Wrap::of(&next, state.version + 1);
        store.opens_under(wrap.version);
        self.changing(|ring| ring.begin(wrap));
        Ok(())
    }

    async fn wrap_all(&self, store: &Store) -> Result<u64, RotateError> {
        let Some(leaving) = self.reading(|ring| ring.leaving()) else {
            return Ok(0);
        };
        let (mut after, mut done, mut damaged) = (None, 0, Vec::new());
        loop {
            let page = store.wrapped_under(leaving, after, ROTATE_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.credential);
            let mut wrapped = Vec::with_capacity(page.len());
            for row in page {
                match self.wrap(&row) {
                    Some(row) => wrapped.push(row),
                    None => damaged.push(row.credential),
                }
            }
            done += store.rewrap(wrapped).await?;
        }
        if damaged.is_empty() {
            return Ok(done);
        }
        let credentials = damaged;
        Err(RotateError::Damaged { credentials })
    }

    fn wrap(&self, row: &ToWrap) -> Option<Wrapped> {
        let record = row.credential.to_string();
        let place = place(row.workspace, &record);
        let after = self.reading(|ring| crypt::rewrap(ring, ring.newest(), &place, &row.sealed));
        Some(Wrapped {
            credential: row.credential,
            before: row.sealed.blob.clone(),
            after: after.ok()?,
        })
    }
}

impl Source {
    /// The next key of a rotation that is known to the database.
    fn begun(&self, check: &[u8]) -> Result<MasterKey, RotateError> {
        let key = match self {
            Self::None => None,
            Self::Given { next } => next.as_ref().map(MasterKey::copy),
            // Another server, with the same file, may have given it its name by now.
            Self::File(path) => match if_there(&next_path(path))? {
                Some(key) if key.check() == check => Some(key),
                _ => if_there(path)?,
            },
        };
        key.filter(|key| key.check() == check)
            .ok_or(RotateError::NoNext)
    }

    /// A next key of which the database knows nothing yet.
    fn fresh(&self, state: &MasterState) -> Result<MasterKey, RotateError> {
        let path = match self {
            Self::None => return Err(RotateError::NoNext),
            Self::Given { next } => {
                return next
                    .as_ref()
                    .map(MasterKey::copy)
                    .ok_or(RotateError::NoNext);
            }
            Self::File(path) => path,
        };
        let next = next_path(path);
        if let Some(left) = if_there(&next)? {
            if state.check.as_ref() == Some(&left.check()) {
                // The key in force, which could not be given its name when the last rotation ended.
                promote(path)?;
            } else {
                // Made by an attempt that the database never heard of: nothing is sealed under it.
                std::fs::remove_file(&next).map_err(|source| MasterKeyError::Io {
                    path: next.clone(),
                    source,
                })?;
            }
        }
        Ok(MasterKey::create(&next)?)
    }
}
