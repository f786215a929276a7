//! The master key: 32 random bytes, in a file of its own that only its owner may read, or given. It
//! derives the keys that are used and is used for nothing else.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a master key.
pub const LEN: usize = 32;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// Others may read it: it must be considered known.
    #[error(
        "master key {path} is readable by others (mode {mode:03o}): make sure nobody else had it, then run `chmod 600 {path}`"
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error(
        "master key {path} belongs to user {owner}, not to the user that runs the server ({us})"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// It is no key.
    #[error(
        "master key {path} is not a file of exactly 32 bytes: restore it from your backup; secrets cannot be read without it"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The given key is no key.
    #[error("the given master key is neither 64 hexadecimal digits nor 44 base64 characters")]
    NotAKey,
    /// The file cannot be read or made.
    #[error("master key {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The master key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; LEN]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Length of a derived key, for the derivation.
struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        LEN
    }
}

impl MasterKey {
    /// Takes these bytes as the key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }

    /// Reads a key given as text: 64 hexadecimal digits or 44 base64 characters.
    ///
    /// # Errors
    /// [`MasterKeyError::NotAKey`].
    pub fn parse(text: &contract::secret::Secret) -> Result<Self, MasterKeyError> {
        use base64::Engine;
        let text = text.expose().trim();
        let mut key = Zeroizing::new([0u8; LEN]);
        if text.len() == 2 * LEN && text.is_ascii() {
            for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
                let digit = |c: u8| {
                    char::from(c)
                        .to_digit(16)
                        .and_then(|d| u8::try_from(d).ok())
                };
                *byte = match pair {
                    [high, low] => digit(*high)
                        .zip(digit(*low))
                        .map(|(h, l)| 16 * h + l)
                        .ok_or(MasterKeyError::NotAKey)?,
                    _ => return Err(MasterKeyError::NotAKey),
                };
            }
            return Ok(Self(*key));
        }
        // Base64 decodes 44 characters into at most 33 bytes before it strips the padding.
        let mut room = Zeroizing::new([0u8; 66]);
        let decoded = base64::engine::general_purpose::STANDARD.decode_slice(text, &mut *room);
        match decoded {
            Ok(LEN) => {
                key.copy_from_slice(&room[..LEN]);
                Ok(Self(*key))
            }
            Ok(_) | Err(_) => Err(MasterKeyError::NotAKey),
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// [`MasterKeyError`]; `Io` with `NotFound` if there is none.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |source| MasterKeyError::Io {
            path: path.to_owned(),
            source,
        };
        let no_follow = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
        let flags = i32::try_from(no_follow.bits()).unwrap_or_default();
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(io)?;
        let about = file.metadata().map_err(io)?;
        let us = rustix::process::geteuid().as_raw();
        if about.uid() != us {
            return Err(MasterKeyError::Foreign {
                path: path.to_owned(),
                owner: about.uid(),
                us,
            });
        }
        if about.mode() & 0o077 != 0 {
            return Err(MasterKeyError::TooOpen {
                path: path.to_owned(),
                mode: about.mode() & 0o777,
            });
        }
        let malformed = || MasterKeyError::Malformed {
            path: path.to_owned(),
        };
        if !about.is_file() || about.len() != LEN as u64 {
            return Err(malformed());
        }
        let mut key = Zeroizing::new([0u8; LEN]);
        file.read_exact(&mut *key).map_err(|_| malformed())?;
        Ok(Self(*key))
    }

    /// Makes a key file with a fresh key, durable before this returns. Never replaces one.
    ///
    /// # Errors
    /// [`MasterKeyError::Io`]; with `AlreadyExists` if there is a file.
    pub fn create(path: &Path) -> Result<Self, MasterKeyError> {
        let mut key = Zeroizing::new([0u8; LEN]);
        aws_lc_rs::rand::fill(&mut *key).expect("the kernel gives random bytes");
        write(path, &*key).map_err(|source| MasterKeyError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self(*key))
    }

    /// The same key once more.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0)
    }

    /// What recognises this key in a database. It says nothing of the key.
    pub(crate) fn check(&self) -> Vec<u8> {
        let check = hmac::Key::new(hmac::HMAC_SHA256, &*self.derive("key check v1"));
        hmac::sign(&check, b"longhand").as_ref().to_vec()
    }

    /// A key for one purpose. The purposes are the labels in this crate; no two share one.
    pub(crate) fn derive(&self, purpose: &'static str) -> Zeroizing<[u8; LEN]> {
        let prk = Salt::new(HKDF_SHA256, b"longhand").extract(&self.0);
        let mut key = Zeroizing::new([0u8; LEN]);
        prk.expand(&[purpose.as_bytes()], Bytes32)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("32 bytes are within what HKDF gives");
        key
    }
}

/// Written whole under another name, then linked: a crash leaves no half key under the real one.
fn write(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let draft = PathBuf::from(draft);
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(key)?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    linked?;
    sync_folder(path)
}

/// Makes a change of the directory that `path` is in durable.
pub(crate) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
