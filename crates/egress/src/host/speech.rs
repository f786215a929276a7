//! What a client speaks, told from its first bytes. It must never take for something else what a server could
//! take for HTTP: then nobody would judge it.

use crate::limits;
use crate::sni::{self, ClientHello, HelloError, Peeked};

/// What the first bytes are.
#[derive(Debug)]
pub(super) enum Speech {
    /// It cannot be said yet.
    More,
    /// TLS, with this hello.
    Tls(ClientHello),
    /// What looks like TLS and is refused.
    BadTls(HelloError),
    /// Text without an end of its line so far, which could become a request of HTTP.
    Begun,
    /// HTTP/1, or what a forgiving server could read as that.
    Http,
    /// Neither.
    Opaque,
}

impl Speech {
    /// Tells it from all the bytes that there are so far.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match sni::peek(bytes) {
            Err(error) => Self::BadTls(error),
            Ok(Peeked::Hello(hello)) => Self::Tls(hello),
            Ok(Peeked::More) => Self::More,
            Ok(Peeked::NotTls) => text(bytes),
        }
    }
}

/// A line that speaks of HTTP is a request line, well-formed or not. White space before it is skipped by some
/// servers.
fn text(bytes: &[u8]) -> Speech {
    if bytes.first().is_some_and(u8::is_ascii_whitespace) {
        return Speech::Http;
    }
    // The preface of HTTP/2 in clear text is no request of HTTP/1, and no server takes it for one.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    if bytes.starts_with(PREFACE) {
        return Speech::Opaque;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let speaks_of_http = line
        .windows(6)
        .any(|six| six.eq_ignore_ascii_case(b" HTTP/"));
    let is_text = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r');
    match end {
        Some(_) if speaks_of_http => Speech::Http,
        Some(_) => Speech::Opaque,
        None if !line.iter().all(is_text) => {
            if speaks_of_http {
                Speech::Http
            } else {
                Speech::Opaque
            }
        }
        None if bytes.len() >= limits::HEAD => Speech::Http,
        None if speaks_of_http => Speech::More,
        None => Speech::Begun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_http(bytes: &[u8]) -> bool {
        matches!(Speech::of(bytes), Speech::Http)
    }

    #[test]
    fn what_a_forgiving_server_could_read_as_a_request_is_http() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"GET / HTTP/1.1\n",
            b"get / http/1.1\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b"\nGET",
            b" GET / HTTP/1.1\r\n",
            b"G\xc3\x89T / HTTP/1.1\r\n",
            b"GET /\0 HTTP/1.1 ",
            b"PRI * HTTP/1.1\r\n",
        ] {
            assert!(is_http(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn other_protocols_are_told_at_their_first_line_or_byte() {
        for bytes in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"*1\r\n$4\r\nPING\r\n",
        ] {
            assert!(matches!(Speech::of(bytes), Speech::Opaque), "{bytes:?}");
        }
        for bytes in [&b""[..], b"GET / HTTP/1", b"\x16\x03"] {
            assert!(matches!(Speech::of(bytes), Speech::More), "{bytes:?}");
        }
        for bytes in [&b"G"[..], b"GET / HT", b"login: ", b"PRI * HTTP"] {
            assert!(matches!(Speech::of(bytes), Speech::Begun), "{bytes:?}");
        }
        assert!(is_http(&vec![b'a'; limits::HEAD]));
    }
}
