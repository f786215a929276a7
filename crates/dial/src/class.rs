//! What kind of address an address is. Pure functions over the registries of IANA; no IO, and what no
//! rule calls public is not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an address. All but [`Class::Public`] are always denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Globally reachable.
    Public,
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// A cloud's metadata or host service, wherever it lives.
    Metadata,
    /// RFC 1918, fc00::/7, fec0::/10 and the local NAT64 prefix.
    Private,
    /// 100.64.0.0/10, shared between carriers and customers.
    SharedCarrier,
    /// 0.0.0.0/8, ::.
    Unspecified,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// Documentation, benchmarking, protocol assignments, broadcast, the future, and all of IPv6 that is
    /// not allotted to unicast.
    Reserved,
    /// An address of this very machine, whatever its range. Found by the kernel's routing, not by range.
    HostOwn,
}

impl Class {
    /// With its article, for an error text.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Class::Public => "a public",
            Class::Loopback => "a loopback",
            Class::LinkLocal => "a link-local",
            Class::Metadata => "a cloud metadata",
            Class::Private => "a private",
            Class::SharedCarrier => "a carrier-shared (100.64.0.0/10)",
            Class::Unspecified => "an unspecified",
            Class::Multicast => "a multicast",
            Class::Reserved => "a reserved",
            Class::HostOwn => "the host's own",
        }
    }
}

/// Host services of clouds outside link-local space: Azure, Alibaba (v4); AWS (v6).
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// The address by which `ip` is judged: the IPv4 address embedded in a v4-mapped, v4-compatible,
/// translated (SIIT), NAT64 (64:ff9b::/96) or 6to4 form, else `ip` itself.
#[must_use]
pub fn effective(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => embedded(v6).map_or(ip, IpAddr::V4),
    }
}

/// The kind of `ip`, embedded forms judged by what they embed. Never [`Class::HostOwn`].
#[must_use]
pub fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            // ::a.b.c.d and ::ffff:0:a.b.c.d are obsolete: nothing public may use them.
            Some(v4) if is_obsolete_embedding(v6) && class_v4(v4) == Class::Public => {
                Class::Reserved
            }
            Some(v4) => class_v4(v4),
            None => class_v6(v6),
        },
    }
}

fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let [.., a, b, c, d] = v6.octets();
    let low = Ipv4Addr::new(a, b, c, d);
    match s {
        // :: and ::1 are IPv6's own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => Some(low),
        [0, 0, 0, 0, 0xffff, 0, _, _] => Some(low),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(low),
        [0x2002, hi, lo, ..] => {
            let [a, b] = hi.to_be_bytes();
            let [c, d] = lo.to_be_bytes();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

fn is_obsolete_embedding(v6: Ipv6Addr) -> bool {
    matches!(
        v6.segments(),
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..]
    )
}

fn class_v4(ip: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&ip) {
        return Class::Metadata;
    }
    match ip.octets() {
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::SharedCarrier,
        [224..=239, ..] => Class::Multicast,
        // protocol assignments, documentation ×3, the dead 6to4 relay, benchmarking, class E, broadcast
        [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn class_v6(ip: Ipv6Addr) -> Class {
    if ip == METADATA_V6 {
        return Class::Metadata;
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfec0..=0xfeff, ..] | [0xfc00..=0xfdff, ..] | [0x64, 0xff9b, 1, ..] => Class::Private,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // 2001::/23 is protocol assignments (Teredo, ORCHID, benchmarking …), then the documentation prefixes
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => {
            Class::Reserved
        }
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}
