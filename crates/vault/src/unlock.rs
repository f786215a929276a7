//! Unlocking: the master key is the one this database was made with, or the server does not start. A rotation
//! that was cut short needs both keys, wherever it was cut.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use contract::ids::WorkspaceId;
use store::Store;
use store::master::{FIRST_VERSION, MasterState};
use zeroize::Zeroizing;

use crate::crypt::{self, OpenError, Place};
use crate::handle::{Source, Vault};
use crate::master::{LEN, MasterKey, MasterKeyError, sync_folder};
use crate::ring::{Ring, Wrap};

/// Where the master key comes from.
#[derive(Debug)]
pub enum KeySource {
    /// A file; made at the first start. During a rotation the next key lies beside it.
    File(PathBuf),
    /// Given, by environment or command.
    Given {
        /// The key.
        key: MasterKey,
        /// The key that a rotation goes to, if there is to be one.
        next: Option<MasterKey>,
    },
}

/// Why the vault stays locked.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// There is no usable key.
    #[error(transparent)]
    Key(#[from] MasterKeyError),
    /// The database has a key, and its file is gone.
    #[error(
        "master key {path} is missing, and the database has secrets sealed under it: restore the file from your backup"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key is another one.
    #[error(
        "the master key is not the one this database was made with: restore the right key, or point the server at the right database"
    )]
    Wrong,
    /// A rotation is under way, and the key it goes to is missing.
    #[error(
        "a rotation of the master key was cut short, and the key it goes to is missing: {wanted}"
    )]
    NextMissing {
        /// What to do.
        wanted: String,
    },
    /// What API keys are hashed with does not open.
    #[error("what API keys are recognised by is damaged in the database; restore a backup")]
    Pepper(#[source] OpenError),
    /// The database cannot be asked.
    #[error("read the key check from the store")]
    Store(#[source] store::Error),
}

/// Where the next key of a rotation lies.
pub(crate) fn next_path(path: &Path) -> PathBuf {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    next.into()
}

/// Where the pepper is sealed.
pub(crate) const PEPPER: Place<'static> = Place {
    workspace: WorkspaceId::Default,
    record: "api_key_pepper",
    column: "meta.value",
};

/// The keys at hand: at most two, in the order in which they were found.
struct Keys(Vec<MasterKey>);

impl Keys {
    /// Takes out the one that `check` recognises.
    fn take(&mut self, check: &[u8]) -> Option<MasterKey> {
        let is = |key: &MasterKey| verify_slices_are_equal(&key.check(), check).is_ok();
        let at = self.0.iter().position(is)?;
        Some(self.0.remove(at))
    }
}

impl Vault {
    /// Takes the key from its source, makes it at the first start, and checks it against the database. Opens
    /// no secret of a credential, however many there are.
    ///
    /// # Errors
    /// [`UnlockError`], which says what to do. Nothing was changed then.
    pub async fn unlock(store: &Store, source: KeySource) -> Result<Self, UnlockError> {
        let state = store.master_state().await.map_err(UnlockError::Store)?;
        let (mut keys, source) = at_hand(source, &state)?;
        let Some(check) = &state.check else {
            // The first start: whatever else lies there belongs to no database.
            let key = keys.0.swap_remove(0);
            return first(store, &key, source).await;
        };
        let current = keys.take(check).ok_or(UnlockError::Wrong)?;
        let mut ring = Ring::new(Wrap::of(&current, state.version));
        let pepper = match &state.pepper {
            Some(sealed) => open_pepper(&ring, sealed)?,
            None => {
                let pepper = current.derive("api key pepper v1");
                let sealed = crypt::seal(ring.newest(), &PEPPER, &*pepper);
                let kept = store.init_master(check.clone(), sealed).await;
                kept.map_err(UnlockError::Store)?;
                pepper
            }
        };
        if let Some(check) = &state.next_check {
            let next = keys.take(check).ok_or_else(|| source.wants_next())?;
            ring.begin(Wrap::of(&next, state.version + 1));
        } else {
            source.settle(&current)?;
        }
        store.opens_under(ring.newest().version);
        Ok(Self::new(ring, &pepper, source))
    }

    /// A vault under this key, unchecked: for tests and tools that have no database.
    #[must_use]
    pub fn with(key: &MasterKey) -> Self {
        let ring = Ring::new(Wrap::of(key, FIRST_VERSION));
        Self::new(ring, &key.derive("api key pepper v1"), Source::None)
    }
}

async fn first(store: &Store, key: &MasterKey, source: Source) -> Result<Vault, UnlockError> {
    let ring = Ring::new(Wrap::of(key, FIRST_VERSION));
    let pepper = key.derive("api key pepper v1");
    let sealed = crypt::seal(ring.newest(), &PEPPER, &*pepper);
    let kept = store.init_master(key.check(), sealed).await;
    let kept = kept.map_err(UnlockError::Store)?.check.unwrap_or_default();
    verify_slices_are_equal(&kept, &key.check()).map_err(|_| UnlockError::Wrong)?;
    store.opens_under(FIRST_VERSION);
    Ok(Vault::new(ring, &pepper, source))
}

fn open_pepper(
    ring: &Ring,
    sealed: &store::vaults::Sealed,
) -> Result<Zeroizing<[u8; LEN]>, UnlockError> {
    let opened = crypt::open(ring, &PEPPER, sealed).map_err(UnlockError::Pepper)?;
    let mut pepper = Zeroizing::new([0; LEN]);
    if opened.len() != LEN {
        return Err(UnlockError::Pepper(OpenError::Damaged));
    }
    pepper.copy_from_slice(&opened);
    Ok(pepper)
}

fn at_hand(source: KeySource, state: &MasterState) -> Result<(Keys, Source), UnlockError> {
    match source {
        KeySource::Given { key, next } => {
            let again = next.as_ref().map(MasterKey::copy);
            let keys = [Some(key), next].into_iter().flatten().collect();
            Ok((Keys(keys), Source::Given { next: again }))
        }
        KeySource::File(path) => {
            let mut keys = Vec::new();
            keys.extend(if_there(&path)?);
            if state.check.is_none() && keys.is_empty() {
                keys.push(MasterKey::create(&path)?);
            }
            keys.extend(if_there(&next_path(&path))?);
            if keys.is_empty() {
                return Err(UnlockError::Missing { path });
            }
            Ok((Keys(keys), Source::File(path)))
        }
    }
}

pub(crate) fn if_there(path: &Path) -> Result<Option<MasterKey>, MasterKeyError> {
    match MasterKey::load(path) {
        Err(MasterKeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        key => key.map(Some),
    }
}

impl Source {
    fn wants_next(&self) -> UnlockError {
        let wanted = match self {
            Self::File(path) => format!("restore {}", next_path(path).display()),
            Self::Given { .. } | Self::None => {
                "give it as LONGHAND_MASTER_KEY_NEXT or by `vault.next_key_command`".to_owned()
            }
        };
        UnlockError::NextMissing { wanted }
    }

    /// With no rotation under way the current key has the file's name: a rotation may have ended in the
    /// database and not yet there.
    fn settle(&self, current: &MasterKey) -> Result<(), MasterKeyError> {
        let Self::File(path) = self else {
            return Ok(());
        };
        let named = if_there(path)?;
        let is = |key: &MasterKey| verify_slices_are_equal(&key.check(), &current.check()).is_ok();
        if named.as_ref().is_some_and(is) {
            return Ok(());
        }
        promote(path)
    }
}

/// Gives the next key the name of the current one, which is gone then.
pub(crate) fn promote(path: &Path) -> Result<(), MasterKeyError> {
    let moved = std::fs::rename(next_path(path), path).and_then(|()| sync_folder(path));
    moved.map_err(|source| MasterKeyError::Io {
        path: path.to_owned(),
        source,
    })
}
