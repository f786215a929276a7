//! Why a request is refused, with its status. Each text can stand in the answer: it quotes nothing.

use crate::limits;
use crate::name::AuthorityError;
use crate::path::PathError;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each text says it
pub enum HeadError {
    #[error("the request's head is longer than {} bytes", limits::HEAD)]
    TooLong,
    #[error("the request has more than {} header fields", limits::HEADERS)]
    TooMany,
    #[error("lines end with CR LF, and neither stands alone")]
    LineEnding,
    #[error("the request line is a method, a target and a version, with one space between")]
    RequestLine,
    #[error("the method is not a word in upper case")]
    Method,
    #[error("the method {0} does not leave a sandbox")]
    MethodRefused(&'static str),
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
    #[error("a header field's name is wrong, or whitespace stands around it")]
    HeaderName,
    #[error("a header field's value has a control character")]
    HeaderValue,
    #[error("a header field is continued on the next line")]
    Folded,
    #[error("the request needs exactly one Host")]
    Host,
    #[error("the request's host: {0}")]
    Authority(AuthorityError),
    #[error("the target's host and Host differ")]
    HostsDiffer,
    #[error("the request's target: {0}")]
    Path(PathError),
    #[error("the request's query has a byte that must be encoded")]
    Query,
    #[error("the target is no path")]
    Target,
    #[error("the body's length is given twice, or both as a length and as chunks")]
    Framing,
    #[error("Content-Length is not a plain number")]
    Length,
    #[error("the only transfer coding is chunked, and only in HTTP/1.1")]
    Coding,
    #[error("Connection names a field that frames or routes the request")]
    Connection,
    #[error("the only expectation is 100-continue")]
    Expect,
    #[error("an upgrade needs GET, HTTP/1.1, no body, and Connection: upgrade")]
    Upgrade,
}

impl HeadError {
    /// The status of the answer. The connection is closed after it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooMany => 431,
            Self::MethodRefused(_) => 405,
            Self::Version => 505,
            Self::Expect => 417,
            Self::HostsDiffer => 421,
            _ => 400,
        }
    }
}
