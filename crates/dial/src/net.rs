//! A range of addresses in CIDR notation, read strictly. It must never guess what was meant.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range of addresses. Its host bits are zero and it is never an IPv4 range in IPv6 clothes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no range; each text completes "… is no range of addresses:".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// No `/`.
    #[error(
        "{text:?} is no range of addresses: it lacks the prefix length, e.g. 10.0.0.0/8 or 10.1.2.3/32"
    )]
    NoPrefix {
        /// As written.
        text: String,
    },
    /// The part before `/` is no address.
    #[error("{text:?} is no range of addresses: {part:?} is not an IPv4 or IPv6 address")]
    Address {
        /// As written.
        text: String,
        /// The wrong part.
        part: String,
    },
    /// The part after `/` is no length.
    #[error(
        "{text:?} is no range of addresses: the prefix length must be a number from 0 to {max}"
    )]
    Prefix {
        /// As written.
        text: String,
        /// 32 or 128.
        max: u8,
    },
    /// Bits beyond the prefix are set.
    #[error(
        "{text:?} is no range of addresses: it has bits beyond its prefix; the range is {range}, the single address {single}"
    )]
    HostBits {
        /// As written.
        text: String,
        /// The range it lies in.
        range: Net,
        /// The range of it alone.
        single: Net,
    },
    /// An IPv4 range written as `::ffff:…`.
    #[error("{text:?} is no range of addresses: write IPv4 ranges as IPv4")]
    Mapped {
        /// As written.
        text: String,
    },
}

impl Net {
    /// The range of `prefix` bits that `ip` lies in; `None` if its family has no such prefix, or if that
    /// were an IPv4 range in IPv6 clothes.
    #[must_use]
    pub fn around(ip: IpAddr, prefix: u8) -> Option<Net> {
        if prefix >= 96 && matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return None;
        }
        mask(ip, prefix).map(|base| Net { base, prefix })
    }

    /// The length of its prefix, in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is a range of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// Whether `ip` lies in the range. No embedded form is unwrapped here.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        mask(ip, self.prefix) == Some(self.base)
    }
}

/// `ip` with all bits beyond `prefix` cleared; `None` when the family is too short for the prefix.
fn mask(ip: IpAddr, prefix: u8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(v4) => {
            let drop = 32_u32.checked_sub(u32::from(prefix))?;
            let keep = u32::MAX.checked_shl(drop).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & keep).into()))
        }
        IpAddr::V6(v6) => {
            let drop = 128_u32.checked_sub(u32::from(prefix))?;
            let keep = u128::MAX.checked_shl(drop).unwrap_or(0);
            Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep)))
        }
    }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Net, NetError> {
        let owned = || text.to_owned();
        let (address, length) = text
            .split_once('/')
            .ok_or_else(|| NetError::NoPrefix { text: owned() })?;
        let ip: IpAddr = address.parse().map_err(|_| NetError::Address {
            text: owned(),
            part: address.to_owned(),
        })?;
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let plain = digits && (length.len() == 1 || !length.starts_with('0'));
        let prefix = length.parse::<u8>().ok().filter(|p| plain && *p <= max);
        let prefix = prefix.ok_or_else(|| NetError::Prefix { text: owned(), max })?;
        if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(NetError::Mapped { text: owned() });
        }
        let base = mask(ip, prefix).ok_or_else(|| NetError::Prefix { text: owned(), max })?;
        if base != ip {
            let (range, single) = (
                Net { base, prefix },
                Net {
                    base: ip,
                    prefix: max,
                },
            );
            return Err(NetError::HostBits {
                text: owned(),
                range,
                single,
            });
        }
        Ok(Net { base, prefix })
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Net, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for Net {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
