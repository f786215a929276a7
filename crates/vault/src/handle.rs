//! The unlocked vault: seals, opens and hashes. It counts what it opens, and shows nothing of what it holds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::hmac;
use store::vaults::Sealed;
use zeroize::Zeroizing;

use crate::crypt::{self, OpenError, Place};
use crate::master::{LEN, MasterKey};
use crate::ring::Ring;

/// Where a rotation finds and leaves keys.
pub(crate) enum Source {
    /// The key's file; the next one's lies beside it.
    File(PathBuf),
    /// Whoever starts the server keeps the keys.
    Given {
        /// The one to go to.
        next: Option<MasterKey>,
    },
    /// There is no database behind it.
    None,
}

/// The unlocked vault: seals, opens and hashes.
pub struct Vault {
    pub(crate) ring: RwLock<Ring>,
    pub(crate) pepper_key: Zeroizing<[u8; LEN]>,
    pub(crate) pepper: hmac::Key,
    pub(crate) source: Source,
    /// Held while the master key is rotated.
    pub(crate) rotating: tokio::sync::Mutex<()>,
    /// Another server rotates the master key to one that this one has not got.
    pub(crate) lacks_next: AtomicBool,
    opened: AtomicU64,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    pub(crate) fn new(ring: Ring, pepper: &Zeroizing<[u8; LEN]>, source: Source) -> Self {
        Self {
            ring: RwLock::new(ring),
            pepper: hmac::Key::new(hmac::HMAC_SHA256, &**pepper),
            pepper_key: pepper.clone(),
            source,
            rotating: tokio::sync::Mutex::new(()),
            lacks_next: AtomicBool::new(false),
            opened: AtomicU64::new(0),
        }
    }

    /// Encrypts `secret` so that it opens at `place` and nowhere else.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, secret: &[u8]) -> Sealed {
        self.reading(|ring| crypt::seal(ring.newest(), place, secret))
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
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.reading(|ring| crypt::open(ring, place, sealed))
    }

    /// How many secrets it has decrypted since it was unlocked.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The version of the master key that seals.
    #[must_use]
    pub fn key_version(&self) -> u32 {
        self.reading(|ring| ring.newest().version)
    }

    /// Whether a rotation of the master key has begun and not ended.
    #[must_use]
    pub fn is_rotating(&self) -> bool {
        self.reading(|ring| ring.leaving().is_some())
    }

    /// Whether another server on the same database rotates, or has rotated, the master key to one that this one has not
    /// got: what is sealed under it cannot be opened here.
    #[must_use]
    pub fn lacks_next(&self) -> bool {
        self.lacks_next.load(Ordering::Relaxed)
    }

    pub(crate) fn reading<T>(&self, work: impl FnOnce(&Ring) -> T) -> T {
        // A panic cannot leave a ring half-changed: its changes are single assignments.
        work(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn changing(&self, work: impl FnOnce(&mut Ring)) {
        work(&mut self.ring.write().unwrap_or_else(PoisonError::into_inner));
    }
}
