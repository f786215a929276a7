//! Compressed bodies, unpacked as they come. It must never hold more of one than a small piece of it unpacks to.

use std::io::{self, Write as _};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

/// Bytes that are unpacked at one time: DEFLATE makes at most some 1,030 of one.
const STEP: usize = 1 << 10;

/// Unpacks one body.
pub(crate) enum Unpack {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
}

/// How a body is packed.
pub(crate) enum Packed {
    Not,
    So(Unpack),
    /// In a way that is not known here.
    Otherwise(String),
}

impl Unpack {
    /// What unpacks a body with those headers.
    pub(crate) fn of(headers: &HeaderMap) -> Packed {
        let codings: Vec<_> = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(|coding| String::from_utf8_lossy(coding.trim_ascii()).to_ascii_lowercase())
            .filter(|coding| !coding.is_empty() && coding != "identity")
            .collect();
        match codings.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Packed::Not,
            ["gzip" | "x-gzip"] => Packed::So(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            ["deflate"] => Packed::So(Self::Zlib(ZlibDecoder::new(Vec::new()))),
            _ => Packed::Otherwise(codings.join(", ")),
        }
    }

    /// How many bytes of a piece are to be given at one time.
    pub(crate) fn step(piece: usize) -> usize {
        piece.min(STEP)
    }

    /// Unpacks the next bytes, of which there are at most [`Self::step`].
    ///
    /// # Errors
    /// They are not what they are said to be.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let unpacked = match self {
            Self::Gzip(gzip) => {
                gzip.write_all(bytes)?;
                gzip.get_mut()
            }
            Self::Zlib(zlib) => {
                zlib.write_all(bytes)?;
                zlib.get_mut()
            }
        };
        Ok(std::mem::take(unpacked))
    }

    /// What comes at the end.
    ///
    /// # Errors
    /// It is not all there.
    pub(crate) fn end(&mut self) -> io::Result<Vec<u8>> {
        let unpacked = match self {
            Self::Gzip(gzip) => {
                gzip.try_finish()?;
                gzip.get_mut()
            }
            Self::Zlib(zlib) => {
                zlib.try_finish()?;
                zlib.get_mut()
            }
        };
        Ok(std::mem::take(unpacked))
    }

    /// All of a body, if it has at most `most` bytes.
    pub(crate) fn whole(mut self, bytes: &[u8], most: usize) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        for piece in bytes.chunks(STEP) {
            whole.append(&mut self.push(piece).ok()?);
            if whole.len() > most {
                return None;
            }
        }
        whole.append(&mut self.end().ok()?);
        (whole.len() <= most).then_some(whole)
    }
}
