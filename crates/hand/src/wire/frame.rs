//! Owns the frames: their lengths, whole ones in and out. It knows no message.

use std::io::{self, IoSlice, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PREFIX_BYTES;
use crate::limits::{BODY_BYTES, HEADER_BYTES};

/// The lengths in a frame's prefix.
///
/// # Errors
/// `InvalidData` when one is over its limit: the stream cannot be used any more.
pub fn lengths(prefix: [u8; PREFIX_BYTES]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = prefix;
    let header = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let body = usize::try_from(u32::from_le_bytes([e, f, g, h])).unwrap_or(usize::MAX);
    if header > HEADER_BYTES || body > BODY_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame over the limit",
        ));
    }
    Ok((header, body))
}

/// Prefix and header of a frame whose body, of `body` bytes, follows.
///
/// # Errors
/// `InvalidInput` when header or body is over its limit: nothing may be sent.
pub fn head<M: Serialize>(message: &M, body: usize) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(message)?;
    let over = || io::Error::new(io::ErrorKind::InvalidInput, "frame over the limit");
    if header.len() > HEADER_BYTES || body > BODY_BYTES {
        return Err(over());
    }
    let header_len = u32::try_from(header.len()).map_err(|_| over())?;
    let body_len = u32::try_from(body).map_err(|_| over())?;
    let mut head = Vec::with_capacity(PREFIX_BYTES + header.len());
    head.extend_from_slice(&header_len.to_le_bytes());
    head.extend_from_slice(&body_len.to_le_bytes());
    head.extend_from_slice(&header);
    Ok(head)
}

/// Writes one frame.
///
/// # Errors
/// Those of the stream, and of [`head`].
pub fn write_frame<M: Serialize>(to: &mut impl Write, message: &M, body: &[u8]) -> io::Result<()> {
    let head = head(message, body.len())?;
    // Both at once and without a copy; what does not go at once goes after.
    let sent = loop {
        match to.write_vectored(&[IoSlice::new(&head), IoSlice::new(body)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    to.write_all(&head[sent.min(head.len())..])?;
    to.write_all(&body[sent.saturating_sub(head.len())..])
}

/// Reads one frame; `None` when the stream ended between two frames.
///
/// # Errors
/// Those of the stream; `InvalidData` for lengths over the limit or a header that does not parse.
pub fn read_frame<M: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(M, Vec<u8>)>> {
    let mut prefix = [0; PREFIX_BYTES];
    let mut have = 0;
    while have < PREFIX_BYTES {
        match from.read(&mut prefix[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (header_len, body_len) = lengths(prefix)?;
    let mut header = vec![0; header_len];
    from.read_exact(&mut header)?;
    let mut body = vec![0; body_len];
    from.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&header)?, body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ToHand, Tool};

    #[test]
    fn a_frame_survives_the_wire() {
        let mut wire = Vec::new();
        let sent = ToHand::Call {
            id: 7,
            tool: Tool::Bash,
            key: None,
            caller: Some("sthr_1".to_owned()),
        };
        write_frame(&mut wire, &sent, b"{}").unwrap();
        let mut from = wire.as_slice();
        let (got, body) = read_frame::<ToHand>(&mut from).unwrap().unwrap();
        assert_eq!((got, body.as_slice()), (sent, b"{}".as_slice()));
        assert!(read_frame::<ToHand>(&mut from).unwrap().is_none());
    }

    #[test]
    fn lengths_over_the_limit_are_refused_before_anything_is_allocated() {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[4..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            lengths(prefix).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert!(head(&ToHand::Ping { id: 1 }, BODY_BYTES + 1).is_err());
    }

    #[test]
    fn a_cut_frame_is_an_error_and_not_an_end() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &ToHand::Ping { id: 1 }, b"").unwrap();
        let mut cut = &wire[..wire.len() - 1];
        assert!(read_frame::<ToHand>(&mut cut).is_err());
    }
}
