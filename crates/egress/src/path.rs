//! The path of a request in the one form in which it is judged and forwarded. It must never let a server
//! read another path than the one that was judged.

use std::fmt::Write as _;

use crate::limits;

/// A path in canonical form, and the path that the most forgiving of servers could make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    canonical: String,
    /// Without parameters of segments (`;x`) and without empty segments; `None` if that changes nothing.
    forgiving: Option<String>,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path begins with a slash")]
    NotAbsolute,
    /// Over [`limits::PATH`].
    #[error("a path has at most 8192 bytes")]
    TooLong,
    /// Whitespace, a control byte, a non-ASCII byte, or one of `"`, `<`, `>`, backslash, `#`, `?`.
    #[error("a path must not contain this byte unencoded")]
    Byte,
    /// A `%` without two hex digits.
    #[error("a percent sign is followed by two hex digits")]
    Percent,
    /// `%2f`, `%5c`: servers differ on whether it separates segments.
    #[error("an encoded slash or backslash in a path is ambiguous")]
    EncodedSlash,
    /// `%00` to `%1f`, `%7f`.
    #[error("an encoded control character in a path is refused")]
    EncodedControl,
    /// `%252e` and the like: a server that decodes twice sees another path.
    #[error("a doubly encoded dot, slash or backslash in a path is ambiguous")]
    DoubleEncoding,
    /// `..` at the root, or `..;x`.
    #[error("the path leads above its root")]
    AboveRoot,
}

/// Which reading of a path a prefix is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Every reading has the prefix: what an allowing rule asks.
    Every,
    /// Some reading has it: what a denying rule asks.
    Any,
}

impl Path {
    /// Reads a path without its query: unreserved characters are decoded, escapes written in upper case, dot
    /// segments resolved.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > limits::PATH {
            return Err(PathError::TooLong);
        }
        let rest = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let mut kept: Vec<String> = Vec::new();
        let mut segments = rest.split('/').peekable();
        while let Some(raw) = segments.next() {
            let last = segments.peek().is_none();
            let segment = decode(raw)?;
            match segment.split(';').next().unwrap_or_default() {
                "." | ".." if segment.contains(';') => return Err(PathError::AboveRoot),
                "." | ".." => {
                    if segment == ".." {
                        kept.pop().ok_or(PathError::AboveRoot)?;
                    }
                    if last {
                        kept.push(String::new());
                    }
                }
                _ => kept.push(segment),
            }
        }
        let canonical = format!("/{}", kept.join("/"));
        let forgiving = forgiving(&kept, &canonical);
        Ok(Self {
            canonical,
            forgiving,
        })
    }

    /// What is forwarded and recorded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.canonical
    }

    /// Whether every server reads it alike: no segment of it is empty or has parameters.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.forgiving.is_none()
    }

    /// Whether the path lies at or below `prefix`, by whole segments: `/v1` covers `/v1` and `/v1/x`, not
    /// `/v10`; `/v1/` covers what is below it only.
    #[must_use]
    pub fn is_below(&self, prefix: &Path, reading: Reading) -> bool {
        let canonical = below(&self.canonical, &prefix.canonical);
        let forgiving = match &self.forgiving {
            Some(text) => below(text, &prefix.canonical),
            None => canonical,
        };
        match reading {
            Reading::Every => canonical && forgiving,
            Reading::Any => canonical || forgiving,
        }
    }
}

fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

fn forgiving(segments: &[String], canonical: &str) -> Option<String> {
    let mut text = String::with_capacity(canonical.len());
    for (at, segment) in segments.iter().enumerate() {
        let plain = segment.split(';').next().unwrap_or_default();
        if !plain.is_empty() || at + 1 == segments.len() {
            text.push('/');
            text.push_str(plain);
        }
    }
    (text != canonical).then_some(text)
}

fn decode(raw: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !byte.is_ascii_graphic() || br#""<>\#?"#.contains(&byte) {
                return Err(PathError::Byte);
            }
            out.push(char::from(byte));
            continue;
        }
        let decoded = hex(bytes.next(), bytes.next()).ok_or(PathError::Percent)?;
        match decoded {
            b'/' | b'\\' => return Err(PathError::EncodedSlash),
            0..=0x1f | 0x7f => return Err(PathError::EncodedControl),
            b'%' if is_double(bytes.clone()) => return Err(PathError::DoubleEncoding),
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(decoded)),
            _ if decoded.is_ascii_alphanumeric() => out.push(char::from(decoded)),
            _ => write!(out, "%{decoded:02X}").expect("a String takes every write"),
        }
    }
    Ok(out)
}

fn hex(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let high = char::from(high?).to_digit(16)?;
    let low = char::from(low?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// Whether two hex digits follow that a second decoding would turn into what matters here.
fn is_double(mut rest: std::str::Bytes<'_>) -> bool {
    matches!(
        hex(rest.next(), rest.next()),
        Some(b'.' | b'/' | b'\\' | b'%' | 0)
    )
}
