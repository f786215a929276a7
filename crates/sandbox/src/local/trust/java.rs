//! Owns the key store that Java reads its trusted certificates from, in its oldest form (`JKS`), which every
//! version reads and Debian writes. It says what a changed copy consists of, and changes nothing that it does not
//! understand.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hand::wire::Part;

/// `FEEDFEED`, version 2.
const HEAD: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// Bytes before the entries: the head, and their number.
const BEFORE: u64 = 12;
/// Bytes of the digest at the end.
const DIGEST: usize = 20;
/// Of an entry that is a trusted certificate.
const TRUSTED: u32 = 2;
const ALIAS: &str = "longhand-egress";
/// The password that everybody has, as UTF-16, and what the format puts behind it.
const SALT: &[u8] = b"\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite";

/// What is known of a store: all that a copy with one more entry needs, but the entries themselves.
#[derive(Clone)]
pub(in crate::local) struct Store {
    /// The head and the number of entries of the copy.
    head: Vec<u8>,
    /// Bytes of the entries.
    entries: u64,
    /// Over what such a copy begins with.
    digest: Context,
}

impl Store {
    /// `None` for what is no such store.
    pub(super) fn read(store: &[u8]) -> Option<Self> {
        let body = store.get(..store.len().checked_sub(DIGEST)?)?;
        let (count, entries) = body.strip_prefix(&HEAD)?.split_first_chunk::<4>()?;
        let count = u32::from_be_bytes(*count).checked_add(1)?;
        let head = [&HEAD[..], &count.to_be_bytes()].concat();
        let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        for part in [SALT, &head, entries] {
            digest.update(part);
        }
        Some(Self {
            head,
            entries: u64::try_from(entries.len()).ok()?,
            digest,
        })
    }

    /// The store, which lies there, with one more trusted certificate (PEM), for a hand of that version. `None` for what
    /// is no certificate.
    pub(super) fn with(&self, path: &str, certificate: &str, version: u32) -> Option<Vec<Part>> {
        let mut end = entry(&der(certificate)?)?;
        let mut digest = self.digest.clone();
        digest.update(&end);
        end.extend_from_slice(digest.finish().as_ref());
        Some(vec![
            Part::of(&self.head, version),
            Part::File {
                path: path.to_owned(),
                from: BEFORE,
                length: self.entries,
            },
            Part::of(&end, version),
        ])
    }
}

fn entry(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut out = TRUSTED.to_be_bytes().to_vec();
    text(&mut out, ALIAS)?;
    // When it was made: nobody reads it.
    out.extend_from_slice(&0_u64.to_be_bytes());
    text(&mut out, "X.509")?;
    out.extend_from_slice(&u32::try_from(certificate.len()).ok()?.to_be_bytes());
    out.extend_from_slice(certificate);
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
