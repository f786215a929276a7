//! The master key's rows of `meta`: their names and their form.

use crate::error::Cause;
use crate::vaults::Sealed;

/// Recognises the current key. Databases have it since their first start.
pub(crate) const CHECK: &str = "master_key_check";
/// Four bytes, big-endian; absent until the first rotation.
pub(crate) const VERSION: &str = "master_key_version";
/// Recognises the next key, during a rotation.
pub(crate) const NEXT_CHECK: &str = "master_key_next_check";
/// Four bytes of key version, then the sealed pepper.
pub(crate) const PEPPER: &str = "api_key_pepper";

pub(crate) fn number(value: &[u8]) -> Result<(u32, &[u8]), Cause> {
    let parts = value.split_first_chunk::<4>();
    let (version, rest) = parts.ok_or("a key version is cut off")?;
    Ok((u32::from_be_bytes(*version), rest))
}

pub(crate) fn sealed(value: &[u8]) -> Result<Sealed, Cause> {
    let (key_version, blob) = number(value)?;
    let blob = blob.to_vec();
    Ok(Sealed { blob, key_version })
}

pub(crate) fn bytes(sealed: &Sealed) -> Vec<u8> {
    [&sealed.key_version.to_be_bytes()[..], &sealed.blob].concat()
}

/// Why a secret is not stored that was sealed under a key which is no longer kept.
pub(crate) const ROTATED: &str = "the master key was rotated while this was written; the same request does it again, \
    unless this server was started without the new key: then restart it with that key";
