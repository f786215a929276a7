//! Owns the key store that Java reads its trusted certificates from, in its oldest form (`JKS`), which every
//! version reads and Debian writes. It changes a copy, and nothing that it does not understand.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `FEEDFEED`, version 2.
const HEAD: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// Bytes of the digest at the end.
const DIGEST: usize = 20;
/// Of an entry that is a trusted certificate.
const TRUSTED: u32 = 2;
const ALIAS: &str = "longhand-egress";
/// The password that everybody has, as UTF-16, and what the format puts behind it.
const SALT: &[u8] = b"\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite";

/// The store with one more trusted certificate (PEM). `None` for what is no such store.
pub(super) fn with(store: &[u8], certificate: &str) -> Option<Vec<u8>> {
    let certificate = der(certificate)?;
    let body = store.get(..store.len().checked_sub(DIGEST)?)?;
    let rest = body.strip_prefix(&HEAD)?;
    let (count, entries) = rest.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count).checked_add(1)?;
    let mut out = Vec::with_capacity(store.len() + certificate.len() + 64);
    out.extend_from_slice(&HEAD);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(entries);
    out.extend_from_slice(&TRUSTED.to_be_bytes());
    text(&mut out, ALIAS)?;
    // When it was made: nobody reads it.
    out.extend_from_slice(&0_u64.to_be_bytes());
    text(&mut out, "X.509")?;
    out.extend_from_slice(&u32::try_from(certificate.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&certificate);
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(SALT);
    digest.update(&out);
    out.extend_from_slice(digest.finish().as_ref());
    Some(out)
}

fn text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Some(())
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    STANDARD.decode(lines.collect::<String>()).ok()
}
