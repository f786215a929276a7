//! Unlocking: the master key is the one this database was made with, or the server does not start.

use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use store::Store;
use store::vaults::Sealed;
use zeroize::Zeroizing;

use crate::crypt::{self, OpenError, Place};
use crate::master::{LEN, MasterKey, MasterKeyError};

/// The name under which the database keeps what recognises its key.
const CHECK: &str = "master_key_check";

/// Where the master key comes from.
#[derive(Debug)]
pub enum KeySource {
    /// A file; made at the first start.
    File(PathBuf),
    /// Given, by environment or command.
    Given(MasterKey),
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
    /// The database cannot be asked.
    #[error("read the key check from the store")]
    Store(#[source] store::Error),
}

/// The unlocked vault: seals, opens and hashes.
pub struct Vault {
    wrap: Zeroizing<[u8; LEN]>,
    pub(crate) pepper: hmac::Key,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// Takes the key from its source, makes it at the first start, and checks it against the database.
    ///
    /// # Errors
    /// [`UnlockError`], which says what to do. Nothing was changed then.
    pub async fn unlock(store: &Store, source: KeySource) -> Result<Self, UnlockError> {
        let known = store.meta(CHECK).await.map_err(UnlockError::Store)?;
        let key = match source {
            KeySource::Given(key) => key,
            KeySource::File(path) => match MasterKey::load(&path) {
                Err(MasterKeyError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    if known.is_some() {
                        return Err(UnlockError::Missing { path });
                    }
                    MasterKey::create(&path)?
                }
                key => key?,
            },
        };
        let check = hmac::Key::new(hmac::HMAC_SHA256, &*key.derive("key check v1"));
        let ours = hmac::sign(&check, b"longhand").as_ref().to_vec();
        let known = match known {
            Some(known) => known,
            None => {
                let kept = store.meta_init(CHECK, ours.clone()).await;
                kept.map_err(UnlockError::Store)?
            }
        };
        verify_slices_are_equal(&known, &ours).map_err(|_| UnlockError::Wrong)?;
        Ok(Self::with(&key))
    }

    /// A vault under this key, unchecked: for tests and tools that have no database.
    #[must_use]
    pub fn with(key: &MasterKey) -> Self {
        let pepper = key.derive("api key pepper v1");
        Self {
            wrap: key.derive("wrap data keys v1"),
            pepper: hmac::Key::new(hmac::HMAC_SHA256, &*pepper),
        }
    }

    /// Encrypts `secret` so that it opens at `place` and nowhere else.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, secret: &[u8]) -> Sealed {
        crypt::seal(&self.wrap, place, secret)
    }

    /// Decrypts what was sealed at `place`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        place: &Place<'_>,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        crypt::open(&self.wrap, place, sealed)
    }
}
