//! Names and addresses in the one form in which they are compared. It must never let two spellings of one
//! host be two hosts, nor one text be a name here and an address elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::limits;

/// A host name: lower case, IDNA in its ASCII form, no dot at the end, never an address in any notation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or a lone dot.
    #[error("a host name is needed, and this is empty")]
    Empty,
    /// Over [`limits::NAME`], or [`limits::NAME_AS_WRITTEN`] before it is made canonical.
    #[error("a host name has at most 253 bytes")]
    TooLong,
    /// An empty label, one over [`limits::LABEL`], or one that begins or ends with a hyphen.
    #[error("each part of a host name has 1 to 63 bytes and no hyphen at either end")]
    Label,
    /// A byte that no host name has.
    #[error("a host name has letters, digits, hyphens and dots, without scheme, port or path")]
    Character,
    /// IDNA refuses it.
    #[error("this is no valid international name")]
    Idna,
    /// Its last label is a number: some programs would read it as an IPv4 address.
    #[error("this is an address, not a name")]
    Address,
}

impl Name {
    /// Reads a name as anybody may have written it.
    ///
    /// # Errors
    /// [`NameError`]. An address, also in its decimal, octal, hex or short form, is no name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > limits::NAME_AS_WRITTEN {
            return Err(NameError::TooLong);
        }
        if is_plain(text) {
            check(text)?;
            return Ok(Self(text.into()));
        }
        // Percent signs would be decoded by what follows.
        if text.bytes().any(|b| b == b'%' || b == b'[') {
            return Err(NameError::Character);
        }
        if text.is_ascii() && text.bytes().any(|b| !is_ldh(b)) {
            return Err(NameError::Character);
        }
        match url::Host::parse(text) {
            Ok(url::Host::Domain(name)) => {
                // Some full-width dot may have become the last one.
                check(&name)?;
                Ok(Self(name.into()))
            }
            Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => Err(NameError::Address),
            Err(_) if ends_in_number(text) => Err(NameError::Address),
            Err(_) => Err(NameError::Idna),
        }
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Already in its canonical form, as nearly every name is: no capital, nothing for IDNA to look at.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| is_ldh(b) && !b.is_ascii_uppercase())
        && !text.starts_with("xn--")
        && !text.contains(".xn--")
}

fn is_ldh(byte: u8) -> bool {
    // The underscore is in no host name of RFC 952, but in names that people must reach.
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn check(name: &str) -> Result<(), NameError> {
    if name.len() > limits::NAME {
        return Err(NameError::TooLong);
    }
    if name.bytes().any(|b| !is_ldh(b) || b.is_ascii_uppercase()) {
        return Err(NameError::Character);
    }
    let good = |label: &str| {
        (1..=limits::LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(good) {
        return Err(NameError::Label);
    }
    if ends_in_number(name) {
        return Err(NameError::Address);
    }
    Ok(())
}

/// The rule of the URL standard for "this is meant as an IPv4 address".
fn ends_in_number(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let hex = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

/// What a connection is for: a name, or an address without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name.
    Name(Name),
    /// A literal address.
    Address(IpAddr),
}

/// Why a text is neither a name nor an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// As a name it is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What looks like an address is none.
    #[error("this looks like an address, but is none")]
    Address,
}

impl Target {
    /// Reads a host as it stands in a URL or a `Host` header: a name, an IPv4 address in any notation, an
    /// IPv6 address in brackets or bare.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let bare = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(TargetError::Address)?,
            None => text,
        };
        if bare.len() != text.len() || bare.contains(':') {
            // A zone (`fe80::1%eth0`) is refused with everything else that is no plain address.
            return bare
                .parse::<Ipv6Addr>()
                .map(|v6| Self::Address(v6.into()))
                .map_err(|_| TargetError::Address);
        }
        match Name::parse(text) {
            Ok(name) => Ok(Self::Name(name)),
            Err(NameError::Address) => ipv4(text).map(|v4| Self::Address(v4.into())),
            Err(other) => Err(other.into()),
        }
    }
}

fn ipv4(text: &str) -> Result<Ipv4Addr, TargetError> {
    match url::Host::parse(text) {
        Ok(url::Host::Ipv4(v4)) => Ok(v4),
        _ => Err(TargetError::Address),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

/// A host with an optional port, as in `Host` and `:authority`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host.
    pub host: Target,
    /// The port, if one is written.
    pub port: Option<u16>,
}

/// Why a text is no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// `user@host`: readers differ on which part is the host.
    #[error("a host must not carry user information")]
    UserInfo,
    /// Not a number from 1 to 65535 in plain digits.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// The host is wrong.
    #[error(transparent)]
    Host(#[from] TargetError),
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, port) = match text.rfind(']') {
            Some(end) => text.split_at(end + 1),
            // Without brackets, more than one colon is a bare IPv6 address, which no authority has.
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(parse_port(digits).ok_or(AuthorityError::Port)?),
            None if port.is_empty() => None,
            None => return Err(AuthorityError::Port),
        };
        Ok(Self {
            host: Target::parse(host)?,
            port,
        })
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

/// A host of a policy: one name, or every name below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(Name),
    /// `*.suffix`: names with one or more labels before it, never the suffix itself.
    Below(Name),
}

impl HostPattern {
    /// Reads `name` or `*.name`.
    ///
    /// # Errors
    /// [`NameError`]; a `*` anywhere else is a [`NameError::Character`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(suffix) => Name::parse(suffix).map(Self::Below),
            None => Name::parse(text).map(Self::Exact),
        }
    }

    /// Whether the pattern covers `name`.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(suffix) => name
                .as_str()
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
        }
    }
}
