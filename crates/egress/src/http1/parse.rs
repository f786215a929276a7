//! From bytes to a head. It must never go on after a doubt.

use super::error::HeadError;
use super::head::{Body, Head, Header, TargetForm, Upgrade, Version};
use crate::limits;
use crate::name::Authority;
use crate::path::Path;

/// What bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole head, and its length in bytes.
    Head(Box<Head<'a>>, usize),
    /// The beginning of one, at most [`limits::HEAD`] bytes: ask again with more.
    More,
}

/// Methods that would open a tunnel or send the request back.
const REFUSED: [&str; 3] = ["CONNECT", "TRACE", "TRACK"];
/// Fields that `Connection` must not make hop-by-hop: without them the request is another one.
const NEVER_DROPPED: [&str; 5] = [
    "host",
    "content-length",
    "transfer-encoding",
    "authorization",
    "cookie",
];

/// Reads the head at the start of `bytes`, which may end anywhere.
///
/// # Errors
/// [`HeadError`]: the request is answered with its status and the connection closed.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, HeadError> {
    let mut lines = Lines { bytes, at: 0 };
    let Some(line) = lines.next()? else {
        return Ok(Parsed::More);
    };
    let (method, target, version) = request_line(line)?;
    let mut headers = Vec::new();
    loop {
        match lines.next()? {
            None => return Ok(Parsed::More),
            Some([]) => break,
            Some(_) if headers.len() == limits::HEADERS => return Err(HeadError::TooMany),
            Some(line) => headers.push(header(line)?),
        }
    }
    let head = head(method, target, version, headers)?;
    Ok(Parsed::Head(Box::new(head), lines.at))
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its ending; `None` if it is not all there.
    fn next(&mut self) -> Result<Option<&'a [u8]>, HeadError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n' | 0));
        let length = end.unwrap_or(rest.len());
        if self.at + length + 2 > limits::HEAD {
            return Err(HeadError::TooLong);
        }
        match (end, rest.get(length..).unwrap_or_default()) {
            (None, _) | (Some(_), [b'\r']) => Ok(None),
            (Some(_), [b'\r', b'\n', ..]) => {
                self.at += length + 2;
                Ok(rest.get(..length))
            }
            (Some(_), [0, ..]) => Err(HeadError::HeaderValue),
            (Some(_), _) => Err(HeadError::LineEnding),
        }
    }
}

fn request_line(line: &[u8]) -> Result<(&str, &str, Version), HeadError> {
    let line = std::str::from_utf8(line).map_err(|_| HeadError::RequestLine)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    if !line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) || target.is_empty() {
        return Err(HeadError::RequestLine);
    }
    let upper = |b: u8| b.is_ascii_uppercase() || b == b'-';
    if method.is_empty() || method.len() > limits::METHOD || !method.bytes().all(upper) {
        return Err(HeadError::Method);
    }
    if let Some(refused) = REFUSED.into_iter().find(|refused| *refused == method) {
        return Err(HeadError::MethodRefused(refused));
    }
    let version = match version {
        "HTTP/1.1" => Version::Http11,
        "HTTP/1.0" => Version::Http10,
        _ => return Err(HeadError::Version),
    };
    Ok((method, target, version))
}

pub(crate) fn header(line: &[u8]) -> Result<Header<'_>, HeadError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::Folded);
    }
    let colon = line
        .iter()
        .position(|b| *b == b':')
        .ok_or(HeadError::HeaderName)?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err(HeadError::HeaderName);
    }
    let name = std::str::from_utf8(name).map_err(|_| HeadError::HeaderName)?;
    // Servers that turn `-` into `_` would frame by these.
    let alike = name.replace('_', "-");
    if alike != name
        && NEVER_DROPPED
            .iter()
            .any(|field| alike.eq_ignore_ascii_case(field))
    {
        return Err(HeadError::HeaderName);
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if value
        .iter()
        .any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
    {
        return Err(HeadError::HeaderValue);
    }
    Ok(Header { name, value })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn head<'a>(
    method: &'a str,
    target: &'a str,
    version: Version,
    headers: Vec<Header<'a>>,
) -> Result<Head<'a>, HeadError> {
    let host = one(&headers, "host")
        .map_err(|_| HeadError::Host)?
        .ok_or(HeadError::Host)?;
    let host = std::str::from_utf8(host).map_err(|_| HeadError::Host)?;
    let authority = Authority::parse(host).map_err(HeadError::Authority)?;
    let target = read_target(method, target, &authority)?;
    let body = framing(&headers, version)?;
    let connection = connection(&headers)?;
    let named = |what: &str| connection.iter().any(|token| token == what);
    let upgrade = upgrade(&headers, named("upgrade"), method, version, body)?;
    let keep_alive = match version {
        Version::Http11 => !named("close"),
        Version::Http10 => named("keep-alive") && !named("close"),
    };
    let expects_continue = match one(&headers, "expect").map_err(|_| HeadError::Expect)? {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => version == Version::Http11,
        Some(_) => return Err(HeadError::Expect),
    };
    let headers = headers.into_iter().filter(|h| !h.is("host")).collect();
    Ok(Head {
        method,
        target,
        authority,
        version,
        body,
        upgrade,
        expects_continue,
        keep_alive,
        headers,
    })
}

/// The value of a field that may stand once.
fn one<'a>(headers: &[Header<'a>], name: &str) -> Result<Option<&'a [u8]>, ()> {
    let mut all = headers.iter().filter(|header| header.is(name));
    match (all.next(), all.next()) {
        (found, None) => Ok(found.map(|header| header.value)),
        (_, Some(_)) => Err(()),
    }
}

fn read_target<'a>(
    method: &str,
    target: &'a str,
    host: &Authority,
) -> Result<TargetForm<'a>, HeadError> {
    if target == "*" {
        return match method {
            "OPTIONS" => Ok(TargetForm::Asterisk),
            _ => Err(HeadError::Target),
        };
    }
    let path = if target.starts_with('/') {
        target
    } else {
        let rest = target.strip_prefix("http://").ok_or(HeadError::Target)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = Authority::parse(authority).map_err(HeadError::Authority)?;
        let port = |of: &Authority| of.port.unwrap_or(80);
        if authority.host != host.host || port(&authority) != port(host) {
            return Err(HeadError::HostsDiffer);
        }
        path
    };
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    if query.is_some_and(|query| query.bytes().any(|b| b"#\"<>\\".contains(&b))) {
        return Err(HeadError::Query);
    }
    let path = if path.is_empty() { "/" } else { path };
    let path = Path::parse(path).map_err(HeadError::Path)?;
    Ok(TargetForm::Path(path, query))
}

fn framing(headers: &[Header<'_>], version: Version) -> Result<Body, HeadError> {
    let length = one(headers, "content-length").map_err(|()| HeadError::Framing)?;
    let coding = one(headers, "transfer-encoding").map_err(|()| HeadError::Framing)?;
    match (length, coding) {
        (None, None) => Ok(Body::None),
        (Some(_), Some(_)) => Err(HeadError::Framing),
        (None, Some(coding)) => {
            if version == Version::Http11 && coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Body::Chunked)
            } else {
                Err(HeadError::Coding)
            }
        }
        (Some(length), None) => {
            let digits = (1..=19).contains(&length.len()) && length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| digits);
            let length = length.and_then(|digits| digits.parse().ok());
            Ok(Body::Length(length.ok_or(HeadError::Length)?))
        }
    }
}

/// What `Connection` names, in lower case.
fn connection(headers: &[Header<'_>]) -> Result<Vec<String>, HeadError> {
    let mut tokens = Vec::new();
    for header in headers.iter().filter(|header| header.is("connection")) {
        for token in header.value.split(|b| *b == b',') {
            let token = token.trim_ascii().to_ascii_lowercase();
            let token = String::from_utf8(token).map_err(|_| HeadError::Connection)?;
            if NEVER_DROPPED.contains(&token.as_str()) || !token.bytes().all(is_token) {
                return Err(HeadError::Connection);
            }
            tokens.push(token);
        }
    }
    Ok(tokens)
}

fn upgrade(
    headers: &[Header<'_>],
    is_named: bool,
    method: &str,
    version: Version,
    body: Body,
) -> Result<Upgrade, HeadError> {
    let wanted = match one(headers, "upgrade") {
        Ok(None) => return Ok(Upgrade::None),
        Ok(Some(wanted)) => wanted,
        Err(()) => return Ok(Upgrade::Other),
    };
    if !wanted.eq_ignore_ascii_case(b"websocket") {
        return Ok(Upgrade::Other);
    }
    let empty = matches!(body, Body::None | Body::Length(0));
    if method == "GET" && version == Version::Http11 && empty && is_named {
        Ok(Upgrade::WebSocket)
    } else {
        Err(HeadError::Upgrade)
    }
}
