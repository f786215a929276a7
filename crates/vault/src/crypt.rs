//! Sealing: AES-256-GCM under a fresh data key, which is wrapped by a key derived from the master. Both
//! layers are bound to the row they belong to, so that a moved row does not open. A rotation of the master
//! key wraps the data key anew and never touches the secret.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use contract::ids::WorkspaceId;
use store::vaults::Sealed;
use zeroize::Zeroizing;

use crate::master::LEN;
use crate::ring::{Ring, Wrap};

/// What stands for the key's version in the data layer, of which the master key is no part: it is bound to the
/// wrap by the data key. Blobs of before there was rotation have the same.
const DATA_VERSION: u32 = 1;

/// The layout of a blob: format, wrap nonce, wrapped data key with its tag, data nonce, ciphertext with
/// its tag.
const FORMAT: u8 = 1;
const TAG: usize = 16;
const WRAPPED: usize = LEN + TAG;
const HEAD: usize = 1 + NONCE_LEN + WRAPPED + NONCE_LEN;

/// The one place a secret belongs to. It opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The workspace of the row.
    pub workspace: WorkspaceId,
    /// The row's id.
    pub record: &'a str,
    /// The column.
    pub column: &'static str,
}

impl Place<'_> {
    /// Each part with its length, so that no two places read the same.
    fn aad(&self, layer: &str, key_version: u32) -> Vec<u8> {
        let workspace = self.workspace.to_string();
        let version = key_version.to_string();
        let mut aad = Vec::with_capacity(128);
        for part in [layer, &workspace, self.record, self.column, &version] {
            aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
            aad.extend_from_slice(part.as_bytes());
        }
        aad
    }
}

/// Why a sealed secret does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed under a master key of another version.
    #[error("the secret was sealed under master key version {found}; this server has {have}")]
    KeyVersion {
        /// The version in the row.
        found: u32,
        /// The newest version we have.
        have: u32,
    },
    /// It is damaged, was moved from another row, or was sealed under another master key.
    #[error("the stored secret does not open: it is damaged or was moved")]
    Damaged,
}

fn cipher(key: &[u8; LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes fits AES-256"))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

pub(crate) fn seal(wrap: &Wrap, place: &Place<'_>, secret: &[u8]) -> Sealed {
    let (data_key, body) = under_new_key(place, secret);
    let mut blob = Vec::with_capacity(HEAD + body.len());
    blob.push(FORMAT);
    blob.extend_from_slice(&wrapped(wrap, place, &data_key));
    blob.extend_from_slice(&body);
    Sealed {
        blob,
        key_version: wrap.version,
    }
}

/// A new data key, and what is sealed under it: nonce, ciphertext and tag.
pub(crate) fn under_new_key(place: &Place<'_>, secret: &[u8]) -> (Zeroizing<[u8; LEN]>, Vec<u8>) {
    let data_key = Zeroizing::new(random::<LEN>());
    let data_nonce = random::<NONCE_LEN>();
    // Room for the tag at once: growing would leave a copy of the secret behind.
    let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + TAG));
    body.extend_from_slice(secret);
    let aad = Aad::from(bound(place));
    let nonce = Nonce::assume_unique_for_key(data_nonce);
    let tag = cipher(&data_key)
        .seal_in_place_separate_tag(nonce, aad, &mut body)
        .expect("a secret is far below what GCM takes");
    let sealed = [&data_nonce[..], &body, tag.as_ref()].concat();
    (data_key, sealed)
}

pub(crate) fn open(
    ring: &Ring,
    place: &Place<'_>,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (data_key, rest) = data_key(ring, place, sealed)?;
    let (data_nonce, body) = split(rest, NONCE_LEN)?;
    unseal(&data_key, data_nonce, bound(place), body)
}

/// The same secret with its data key wrapped under `to`. It is opened neither before nor after.
pub(crate) fn rewrap(
    ring: &Ring,
    to: &Wrap,
    place: &Place<'_>,
    sealed: &Sealed,
) -> Result<Sealed, OpenError> {
    let (data_key, rest) = data_key(ring, place, sealed)?;
    let mut blob = Vec::with_capacity(sealed.blob.len());
    blob.push(FORMAT);
    blob.extend_from_slice(&wrapped(to, place, &data_key));
    blob.extend_from_slice(rest);
    Ok(Sealed {
        blob,
        key_version: to.version,
    })
}

/// Nonce, wrapped data key and tag.
fn wrapped(wrap: &Wrap, place: &Place<'_>, data_key: &[u8; LEN]) -> Vec<u8> {
    let nonce = random::<NONCE_LEN>();
    let mut key = Zeroizing::new(*data_key);
    let aad = Aad::from(place.aad("key", wrap.version));
    let tag = cipher(&wrap.key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut *key)
        .expect("32 bytes are within what GCM takes");
    let mut out = Vec::with_capacity(NONCE_LEN + WRAPPED);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&*key);
    out.extend_from_slice(tag.as_ref());
    out
}

/// What the data layer of `place` is bound to.
pub(crate) fn bound(place: &Place<'_>) -> Vec<u8> {
    place.aad("data", DATA_VERSION)
}

/// The data key of a blob, and what follows it there.
pub(crate) fn data_key<'b>(
    ring: &Ring,
    place: &Place<'_>,
    sealed: &'b Sealed,
) -> Result<(Zeroizing<[u8; LEN]>, &'b [u8]), OpenError> {
    let wrap = ring.of(sealed.key_version).ok_or(OpenError::KeyVersion {
        found: sealed.key_version,
        have: ring.newest().version,
    })?;
    let (format, rest) = sealed.blob.split_first().ok_or(OpenError::Damaged)?;
    if *format != FORMAT {
        return Err(OpenError::Damaged);
    }
    let (nonce, rest) = split(rest, NONCE_LEN)?;
    let (wrapped, rest) = split(rest, WRAPPED)?;
    let opened = unseal(&wrap.key, nonce, place.aad("key", wrap.version), wrapped)?;
    let mut key = Zeroizing::new([0; LEN]);
    if opened.len() != LEN {
        return Err(OpenError::Damaged);
    }
    key.copy_from_slice(&opened);
    Ok((key, rest))
}

pub(crate) fn split(from: &[u8], at: usize) -> Result<(&[u8], &[u8]), OpenError> {
    from.split_at_checked(at).ok_or(OpenError::Damaged)
}

pub(crate) fn unseal(
    key: &[u8; LEN],
    nonce: &[u8],
    aad: Vec<u8>,
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
    let mut body = Zeroizing::new(body.to_vec());
    let opened = cipher(key).open_in_place(nonce, Aad::from(aad), &mut body);
    let len = opened.map_err(|_| OpenError::Damaged)?.len();
    body.truncate(len);
    Ok(body)
}
