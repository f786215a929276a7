//! API keys: minted, hashed under a pepper, recognised by lookup of the hash. A key's text is returned
//! once, to whoever made it, and is stored nowhere.

use aws_lc_rs::hmac;
use contract::ids::{ApiKeyId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use store::keys::{ApiKeyRow, KeyHash, KeyRole};
use store::{Store, clock};

use crate::handle::Vault;

/// What a minted key starts with.
pub const PREFIX: &str = "lh_";

/// Random characters of a minted key: 40 of 62 are 238 bits.
pub const RANDOM: usize = 40;

/// Characters a seeded key must have at least.
pub const SEED_MIN: usize = 16;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fresh key.
#[derive(Debug)]
pub struct MintedKey {
    /// Its text: shown once.
    pub secret: Secret,
    /// Its keyed hash.
    pub hash: KeyHash,
    /// Its first characters, for recognition.
    pub prefix: String,
    /// Its last four characters.
    pub last4: String,
}

/// Why a key cannot be seeded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// It could be guessed.
    #[error("LONGHAND_API_KEY has {len} characters; it needs at least 16")]
    TooShort {
        /// How long it is.
        len: usize,
    },
    /// A header cannot carry it.
    #[error("LONGHAND_API_KEY may hold only visible ASCII characters, without spaces")]
    NotAHeader,
    /// This key was revoked: it is not brought back to life.
    #[error("LONGHAND_API_KEY was revoked; choose another one")]
    Revoked,
    /// The store cannot take it.
    #[error("store the key")]
    Store(#[source] store::Error),
}

impl Vault {
    /// The hash under which a key is looked up. The lookup needs no constant-time comparison: without
    /// the pepper nobody can choose a hash that shares a prefix with another.
    #[must_use]
    pub fn hash_api_key(&self, text: &str) -> KeyHash {
        let tag = hmac::sign(&self.pepper, text.as_bytes());
        let hash = tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes");
        KeyHash(hash)
    }

    /// A keyed hash of `parts` in their order: without the pepper nobody can tell what was hashed, not
    /// even by trying. Never equal to a key's hash.
    #[must_use]
    pub fn mark(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut tag = hmac::Context::with_key(&self.pepper);
        tag.update(b"mark\0");
        for part in parts {
            tag.update(&(part.len() as u64).to_be_bytes());
            tag.update(part);
        }
        let tag = tag.sign();
        tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// Makes a fresh key.
    #[must_use]
    pub fn mint_api_key(&self) -> MintedKey {
        let mut text = String::with_capacity(PREFIX.len() + RANDOM);
        text.push_str(PREFIX);
        while text.len() < PREFIX.len() + RANDOM {
            let mut byte = [0u8];
            aws_lc_rs::rand::fill(&mut byte).expect("the kernel gives random bytes");
            // 248 is the greatest multiple of 62 in a byte: no character is likelier than another.
            if byte[0] < 248 {
                text.push(char::from(BASE62[usize::from(byte[0] % 62)]));
            }
        }
        let hash = self.hash_api_key(&text);
        let (prefix, last4) = marks(&text);
        MintedKey {
            secret: Secret::new(text),
            hash,
            prefix,
            last4,
        }
    }

    /// Makes a key and stores it. The text is not stored.
    ///
    /// # Errors
    /// [`store::Error::NotFound`] or [`store::Error::Archived`] for the workspace.
    pub async fn create_api_key(
        &self,
        store: &Store,
        workspace: WorkspaceId,
        name: String,
        role: KeyRole,
        now: Micros,
    ) -> Result<(ApiKeyRow, Secret), store::Error> {
        let minted = self.mint_api_key();
        let row = ApiKeyRow {
            id: ApiKeyId::from_bits(clock::id_bits(now)),
            workspace,
            hash: minted.hash,
            prefix: minted.prefix,
            last4: minted.last4,
            name,
            role,
            created_at: now,
            revoked_at: None,
        };
        let row = store.create_api_key(row).await?;
        Ok((row, minted.secret))
    }

    /// Stores a key that its owner chose, in the default workspace; again changes nothing.
    ///
    /// # Errors
    /// [`SeedError`].
    pub async fn seed_api_key(
        &self,
        store: &Store,
        key: &Secret,
        now: Micros,
    ) -> Result<ApiKeyRow, SeedError> {
        let text = key.expose();
        if text.chars().count() < SEED_MIN {
            let len = text.chars().count();
            return Err(SeedError::TooShort { len });
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SeedError::NotAHeader);
        }
        let (prefix, last4) = marks(text);
        let row = ApiKeyRow {
            id: ApiKeyId::from_bits(clock::id_bits(now)),
            workspace: WorkspaceId::Default,
            hash: self.hash_api_key(text),
            prefix,
            last4,
            name: "LONGHAND_API_KEY".to_owned(),
            role: KeyRole::Workspace,
            created_at: now,
            revoked_at: None,
        };
        let row = store.create_api_key(row).await.map_err(SeedError::Store)?;
        match row.revoked_at {
            Some(_) => Err(SeedError::Revoked),
            None => Ok(row),
        }
    }

    /// The key with this text, if it may be used.
    ///
    /// # Errors
    /// [`store::Error::Unavailable`].
    pub async fn authenticate(
        &self,
        store: &Store,
        text: &str,
    ) -> Result<Option<ApiKeyRow>, store::Error> {
        store.authenticate(self.hash_api_key(text)).await
    }
}

/// What may be shown of a key: never enough of a short one to help a guesser.
fn marks(text: &str) -> (String, String) {
    let (head, tail) = if text.len() >= 32 { (7, 4) } else { (2, 2) };
    let count = text.chars().count();
    let prefix = text.chars().take(head).collect();
    let last = text.chars().skip(count.saturating_sub(tail)).collect();
    (prefix, last)
}
