//! Messages of PostgreSQL's protocol as far as a login needs them. It reads and writes; what is said by whom is not its
//! matter.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

/// Bytes of the packet that a client begins with, as the server has it (`MAX_STARTUP_PACKET_LENGTH`).
const START: usize = 10_000;

/// Bytes of a message of a login, as the server has it (`PG_MAX_AUTH_TOKEN_LENGTH`).
const MESSAGE: usize = 65_535;

/// What a client wants that begins with such a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// TLS, and then to begin anew.
    Tls,
    /// Kerberos' encryption, and then to begin anew.
    Gss,
    /// Another connection's query to end.
    Cancel,
    /// To log in.
    Start,
}

/// A client's first packet.
pub(in super::super) struct Start {
    pub(super) wish: Wish,
    /// All of it.
    pub(super) bytes: Vec<u8>,
}

/// A message of either side behind the first packet.
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Wish {
    /// Of a packet that begins so; none if it is not one of this protocol, version 3.
    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let (length, rest) = first.split_first_chunk::<4>()?;
        let (code, _) = rest.split_first_chunk::<4>()?;
        match (u32::from_be_bytes(*length), u32::from_be_bytes(*code)) {
            (8, 80_877_103) => Some(Self::Tls),
            (8, 80_877_104) => Some(Self::Gss),
            // Version 3.2 has longer keys than the eight bytes of 3.0.
            (16..=300, 80_877_102) => Some(Self::Cancel),
            (9..=10_000, code) if code >> 16 == 3 => Some(Self::Start),
            _ => None,
        }
    }
}

impl Start {
    /// Reads one.
    ///
    /// # Errors
    /// `InvalidData` if it is none.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let mut bytes = vec![0; 8];
        from.read_exact(&mut bytes).await?;
        let wish = Wish::of(&bytes).ok_or(ErrorKind::InvalidData)?;
        let length = bytes
            .first_chunk::<4>()
            .map_or(0, |it| u32::from_be_bytes(*it));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > START {
            return Err(ErrorKind::InvalidData.into());
        }
        bytes.resize(length, 0);
        let (_, rest) = bytes.split_at_mut(8);
        from.read_exact(rest).await?;
        Ok(Self { wish, bytes })
    }

    /// The user that it names.
    pub(super) fn user(&self) -> Option<&[u8]> {
        let mut texts = self.bytes.get(8..)?.split(|byte| *byte == 0);
        loop {
            match (texts.next()?, texts.next()?) {
                (b"user", user) => return Some(user),
                (b"", _) => return None,
                _ => {}
            }
        }
    }
}

impl Message {
    /// Reads one.
    ///
    /// # Errors
    /// `InvalidData` if it is longer than one of a login may be.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self> {
        let kind = from.read_u8().await?;
        let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
        let length = length.checked_sub(4).filter(|length| *length <= MESSAGE);
        let length = length.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
        let mut body = Zeroizing::new(vec![0; length]);
        from.read_exact(&mut body).await?;
        Ok(Self { kind, body })
    }

    /// As it stands on the wire.
    pub(super) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        message(self.kind, &[&self.body])
    }

    /// What an `Authentication` says, and its number; none if it is another message.
    pub(super) fn authentication(&self) -> Option<(u32, &[u8])> {
        let (number, rest) = self.body.split_first_chunk::<4>()?;
        (self.kind == b'R').then_some((u32::from_be_bytes(*number), rest))
    }
}

/// A message of those parts.
pub(super) fn message(kind: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(5 + length));
    bytes.push(kind);
    bytes.extend_from_slice(&u32::try_from(4 + length).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The error that ends a login.
pub(super) fn fatal(reason: &str) -> Zeroizing<Vec<u8>> {
    let reason = reason.replace('\0', "");
    message(
        b'E',
        &[b"SFATAL\0VFATAL\0C28000\0M", reason.as_bytes(), b"\0\0"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).unwrap();
        [&length.to_be_bytes(), &code.to_be_bytes()[..], rest].concat()
    }

    #[test]
    fn a_client_is_known_by_its_first_packet() {
        let start = packet(196_608, b"user\0me\0database\0one\0\0");
        assert_eq!(Wish::of(&start), Some(Wish::Start));
        assert_eq!(Wish::of(&packet(80_877_103, b"")), Some(Wish::Tls));
        assert_eq!(Wish::of(&packet(80_877_104, b"")), Some(Wish::Gss));
        assert_eq!(
            Wish::of(&packet(80_877_102, b"12345678")),
            Some(Wish::Cancel)
        );
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-",
            b"\0\0\0\x08",
            b"*1\r\n$4\r\nPING\r\n",
            &packet(131_072, b"user\0\0"),
            &packet(80_877_103, b"more"),
        ] {
            assert_eq!(Wish::of(other), None, "{other:?}");
        }
        let start = |bytes| Start {
            wish: Wish::Start,
            bytes,
        };
        assert_eq!(start(start_of("user")).user(), Some(&b"me"[..]));
        assert_eq!(start(start_of("users")).user(), None);
        assert_eq!(start(packet(196_608, b"user")).user(), None);
    }

    fn start_of(name: &str) -> Vec<u8> {
        packet(196_608, format!("database\0one\0{name}\0me\0\0").as_bytes())
    }
}
