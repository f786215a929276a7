//! The server name of a TLS ClientHello, read from the first bytes of a connection (RFC 8446 §4.1.2,
//! RFC 6066 §3). It must never trust a length nor take a hello that two readers could read in two ways; it
//! speaks no TLS.

use crate::limits;
use crate::name::{Name, NameError};

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_HELLO: u16 = 0xfe0d;
const RECORD_MOST: usize = 16_384;

/// What a ClientHello says, as far as policy needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name; `None` if there is no such extension.
    pub server_name: Option<Name>,
    /// The application protocols that are offered, in the client's order; any bytes.
    pub alpn: Vec<Vec<u8>>,
    /// It has an `encrypted_client_hello` extension. Browsers send a meaningless one for practice; a real
    /// one cannot be decrypted by anybody that our DNS tells of.
    pub encrypted: bool,
}

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeked {
    /// A ClientHello.
    Hello(ClientHello),
    /// The beginning of one: read more, and ask again with all of it.
    More,
    /// No TLS: something else is spoken.
    NotTls,
}

/// Why what looks like TLS is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Over [`limits::HELLO`].
    #[error("the ClientHello is longer than {} bytes", limits::HELLO)]
    TooLong,
    /// Lengths that do not fit into each other, or bytes behind an end.
    #[error("the ClientHello is malformed: {0}")]
    Malformed(&'static str),
    /// Another handshake message, an alert, or data comes first.
    #[error("the connection does not begin with a ClientHello")]
    NotHello,
    /// An extension stands there twice.
    #[error("the ClientHello has extension {0} twice")]
    Twice(u16),
    /// Not exactly one name.
    #[error("the ClientHello must have exactly one server name")]
    Names,
    /// The name is none; an address is none either.
    #[error("the ClientHello's server name is wrong")]
    Name(#[source] NameError),
}

/// Reads the first bytes of a connection, which may end anywhere. Ask again with more bytes after
/// [`Peeked::More`]; it ends after [`limits::HELLO_BYTES`] at the latest.
///
/// # Errors
/// [`HelloError`]: the connection is refused.
pub fn peek(bytes: &[u8]) -> Result<Peeked, HelloError> {
    match bytes {
        [] => return Ok(Peeked::More),
        [HANDSHAKE] | [HANDSHAKE, 3] => return Ok(Peeked::More),
        [HANDSHAKE, 3, ..] => {}
        _ => return Ok(Peeked::NotTls),
    }
    let (message, complete) = handshake(bytes)?;
    let mut reader = Reader(&message);
    let Some(header) = reader.take(4) else {
        return Ok(Peeked::More);
    };
    let [kind, length @ ..] = header else {
        return Ok(Peeked::More);
    };
    if *kind != CLIENT_HELLO {
        return Err(HelloError::NotHello);
    }
    let length = length.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    if length > limits::HELLO {
        return Err(HelloError::TooLong);
    }
    match reader.take(length) {
        None if complete => Err(HelloError::Malformed("it is cut short")),
        None => Ok(Peeked::More),
        // Another message in the same record would be read by nobody.
        Some(_) if !reader.0.is_empty() => Err(HelloError::Malformed("bytes after it")),
        Some(body) => hello(body).map(Peeked::Hello),
    }
}

/// The handshake bytes of the records at the start, and whether nothing can follow. A hello may be spread
/// over records.
fn handshake(bytes: &[u8]) -> Result<(Vec<u8>, bool), HelloError> {
    let mut message = Vec::new();
    let mut reader = Reader(bytes);
    while let Some(header) = reader.take(5) {
        let [kind, major, _, high, low] = *header else {
            break;
        };
        if kind != HANDSHAKE || major != 3 {
            // Whatever came before must have been all of it.
            return Ok((message, true));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_MOST {
            return Err(HelloError::Malformed("a record's length"));
        }
        let part = reader.take(length).unwrap_or(reader.0);
        message.extend_from_slice(part);
        if message.len() > limits::HELLO + 4 {
            return Err(HelloError::TooLong);
        }
        if part.len() < length {
            break;
        }
        if is_whole(&message) {
            return Ok((message, true));
        }
    }
    if bytes.len() > limits::HELLO_BYTES {
        return Err(HelloError::TooLong);
    }
    Ok((message, false))
}

/// Whether the first message is all there, whatever it is.
fn is_whole(message: &[u8]) -> bool {
    let [_, a, b, c, body @ ..] = message else {
        return false;
    };
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    body.len() >= length
}

fn hello(body: &[u8]) -> Result<ClientHello, HelloError> {
    let malformed = HelloError::Malformed;
    let mut reader = Reader(body);
    let version = reader.take(2).ok_or(malformed("its version"))?;
    if version.first() != Some(&3) {
        return Err(malformed("its version"));
    }
    reader.take(32).ok_or(malformed("its random"))?;
    let session = reader.vector8().ok_or(malformed("its session id"))?;
    let suites = reader.vector16().ok_or(malformed("its cipher suites"))?;
    let compression = reader
        .vector8()
        .ok_or(malformed("its compression methods"))?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return Err(malformed("a field's length"));
    }
    let mut found = ClientHello {
        server_name: None,
        alpn: Vec::new(),
        encrypted: false,
    };
    if reader.0.is_empty() {
        return Ok(found);
    }
    let mut extensions = Reader(reader.vector16().ok_or(malformed("its extensions"))?);
    if !reader.0.is_empty() {
        return Err(malformed("bytes after its extensions"));
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = extensions.u16().ok_or(malformed("an extension"))?;
        let data = extensions.vector16().ok_or(malformed("an extension"))?;
        if seen.contains(&kind) {
            return Err(HelloError::Twice(kind));
        }
        if seen.len() == limits::HELLO_EXTENSIONS {
            return Err(HelloError::TooLong);
        }
        seen.push(kind);
        match kind {
            SERVER_NAME => found.server_name = Some(server_name(data)?),
            ALPN => found.alpn = protocols(data).ok_or(malformed("its protocols"))?,
            ENCRYPTED_HELLO => found.encrypted = true,
            _ => {}
        }
    }
    Ok(found)
}

fn server_name(data: &[u8]) -> Result<Name, HelloError> {
    let mut reader = Reader(data);
    let mut list = Reader(reader.vector16().ok_or(HelloError::Names)?);
    let kind = list.take(1).ok_or(HelloError::Names)?;
    let name = list.vector16().ok_or(HelloError::Names)?;
    if !reader.0.is_empty() || !list.0.is_empty() || kind != [0] {
        return Err(HelloError::Names);
    }
    // RFC 6066: ASCII, without the dot at the end. A name in another form is one that somebody reads
    // in another way.
    if name.last() == Some(&b'.') || !name.is_ascii() {
        return Err(HelloError::Name(NameError::Character));
    }
    let text = std::str::from_utf8(name).map_err(|_| HelloError::Name(NameError::Character))?;
    Name::parse(text).map_err(HelloError::Name)
}

fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader(data);
    let mut list = Reader(reader.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8().filter(|protocol| !protocol.is_empty())?;
        protocols.push(protocol.to_vec());
    }
    (reader.0.is_empty() && !protocols.is_empty()).then_some(protocols)
}

/// Bytes that are taken from the front, or not at all.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
