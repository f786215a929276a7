//! What a request's head says. Plain data; every value in it was checked.

use crate::name::Authority;
use crate::path::Path;

/// A head. It borrows from the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, a token.
    pub method: &'a str,
    /// Path, query, or `*`.
    pub target: TargetForm<'a>,
    /// Whom the request is for: `Host`, with which an absolute target agrees.
    pub authority: Authority,
    /// The version.
    pub version: Version,
    /// How the body is framed.
    pub body: Body,
    /// What the connection is to become.
    pub upgrade: Upgrade,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// Every field but `Host`, in order.
    pub headers: Vec<Header<'a>>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetForm<'a> {
    /// A path, perhaps with a query (without its `?`).
    Path(Path, Option<&'a str>),
    /// `*`, of OPTIONS.
    Asterisk,
}

/// A version of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    Http11,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// Bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What a connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing else.
    None,
    /// A WebSocket.
    WebSocket,
    /// Something else, as `h2c`. [`Head::write`] leaves it out, and a server goes on in HTTP/1.
    Other,
}

/// A header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name as it was sent, a token.
    pub name: &'a str,
    /// Its value without whitespace around it; no control byte but a tab.
    pub value: &'a [u8],
}

impl Header<'_> {
    /// Whether it is the field `name`, which is in lower case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}
