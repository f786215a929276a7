//! Owns reading what an import comes from: counted, packed or not, and digested, so that nothing is believed of it. It
//! keeps nothing.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::read::MultiGzDecoder;

use crate::limits::{ARCHIVE_FREE, ARCHIVE_RATIO, TEMPLATE_WINDOW};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// What the first bytes of packed archives are (RFC 1952; RFC 8878).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By how an archive begins.
    pub(super) fn of(begins: &[u8]) -> Self {
        if begins.starts_with(&GZIP) {
            Self::Gzip
        } else if begins.starts_with(&ZSTD) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }

    /// What is unpacked of `from`. Several members or frames in a row are one archive, as some writers make them.
    pub(super) fn unpacked<'a>(self, from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let from = BufReader::with_capacity(PIECE, from);
        Ok(match self {
            Self::Plain => Box::new(from),
            Self::Gzip => Box::new(MultiGzDecoder::new(from)),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(from)?;
                decoder.window_log_max(TEMPLATE_WINDOW)?;
                Box::new(decoder)
            }
        })
    }
}

/// Bytes on their way, digested.
pub(super) struct Digested<R> {
    from: R,
    digest: Context,
    bytes: u64,
}

impl<R: Read> Digested<R> {
    pub(super) fn new(from: R) -> Self {
        let digest = Context::new(&SHA256);
        Self {
            from,
            digest,
            bytes: 0,
        }
    }

    /// Reads what is left; how much there was of all, and SHA-256 of it in hexadecimal digits.
    pub(super) fn finish(mut self) -> io::Result<(u64, String)> {
        io::copy(&mut self, &mut io::sink())?;
        let digest = self.digest.finish();
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Ok((self.bytes, digits.collect()))
    }
}

impl<R: Read> Read for Digested<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        self.digest.update(&into[..length]);
        self.bytes += length as u64;
        Ok(length)
    }
}

/// Bytes on their way, counted where others can see it.
pub(super) struct Counted<R> {
    from: R,
    came: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(super) fn new(from: R, came: Arc<AtomicU64>) -> Self {
        Self { from, came }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        self.came.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// What is unpacked, given up when it is out of all proportion to what came.
pub(super) struct Proportioned<R> {
    from: R,
    came: Arc<AtomicU64>,
    unpacked: u64,
}

impl<R> Proportioned<R> {
    pub(super) fn new(from: R, came: Arc<AtomicU64>) -> Self {
        Self {
            from,
            came,
            unpacked: 0,
        }
    }
}

impl<R: Read> Read for Proportioned<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        self.unpacked += length as u64;
        let came = self.came.load(Ordering::Relaxed);
        let most = came.saturating_mul(ARCHIVE_RATIO);
        if self.unpacked > most.saturating_add(ARCHIVE_FREE) {
            return Err(io::Error::other(format!(
                "it unpacks to more than {ARCHIVE_RATIO} times what it is"
            )));
        }
        Ok(length)
    }
}
