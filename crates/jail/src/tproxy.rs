//! Owns the rules that bring a sandbox's packets to our two sockets where the kernel does not let us choose a socket
//! by bpf(2): `tproxy` of nf_tables, in the sandbox's own network. It changes nothing outside of that, and nobody in
//! the sandbox has the right to change it back.
//!
//! Written as nft(8) would have it:
//!
//! ```text
//! table inet longhand { chain in { type filter hook prerouting priority mangle; policy accept;
//!   ip daddr 127.0.0.0/8 accept
//!   ip6 daddr ::1 accept
//!   meta l4proto tcp tproxy to :TCP accept
//!   udp dport DNS tproxy to :DNS accept } }
//! ```
//!
//! Beside what `sys::steer` does, UDP to another port finds a socket of the sandbox itself, if one is there: it
//! leaves as little.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::BorrowedFd;

use rustix::net::netlink;

use crate::netlink::{Netlink, attribute, message, nested};

/// linux/netfilter/nfnetlink.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
/// linux/netfilter/nf_tables.h: messages.
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = (SUBSYSTEM << 8) | 3;
const NEW_RULE: u16 = (SUBSYSTEM << 8) | 6;
/// linux/netfilter.h
const ANY_FAMILY: u32 = 0;
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const PREROUTING: u32 = 0;
const MANGLE: i32 = -150;
const ACCEPT: u32 = 1;
/// The register that verdicts go to, and one for values.
const VERDICT: u32 = 0;
const VALUE: u32 = 1;
/// What `meta` knows of a packet: whether it is IPv4 or IPv6, and the protocol above that.
const FAMILY: u32 = 15;
const PROTOCOL: u32 = 16;
/// What offsets are from.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

const TABLE: &[u8] = b"longhand\0";
const CHAIN: &[u8] = b"in\0";

/// Brings all TCP of the network that this process is in to `tcp`, which is bound to that port of every address, and
/// UDP to port `dns.1` to `dns.0`, as [`sys::steer`] does. The network's own loopback is left alone. It holds as long
/// as the network.
///
/// # Errors
/// The errno of the first step that is refused: `EPERM` without CAP_NET_ADMIN, `EPROTONOSUPPORT`, `EOPNOTSUPP` or
/// `ENOENT` where the kernel has no nf_tables, or no `tproxy`.
pub(crate) fn steer(tcp: (BorrowedFd<'_>, u16), dns: (BorrowedFd<'_>, u16)) -> io::Result<()> {
    sys::take_for_others(tcp.0)?;
    sys::take_for_others(dns.0)?;
    let netlink = Netlink::open(Some(netlink::NETFILTER))?;
    netlink.ask(&rules(tcp.1, dns.1))
}

/// All of it, of which the kernel does everything or nothing.
fn rules(tcp: u16, dns: u16) -> Vec<u8> {
    let own_v4 = [
        &meta(FAMILY)[..],
        &[equals(&[IPV4]), payload(NETWORK_HEADER, 16, 1)],
        &[equals(&[127])],
    ];
    let own_v6 = [
        &meta(FAMILY)[..],
        &[equals(&[IPV6]), payload(NETWORK_HEADER, 24, 16)],
        &[equals(&Ipv6Addr::LOCALHOST.octets())],
    ];
    let is_tcp = [&meta(PROTOCOL)[..], &[equals(&[6])], &to_port(tcp)];
    let asks = [
        &meta(PROTOCOL)[..],
        &[equals(&[17]), payload(TRANSPORT_HEADER, 2, 2)],
        &[equals(&dns.to_be_bytes())],
        &to_port(dns),
    ];
    [
        batch(BATCH_BEGIN),
        message(
            NEW_TABLE,
            libc::NLM_F_CREATE,
            &INET_HEAD,
            &attribute(1, TABLE),
        ),
        message(NEW_CHAIN, libc::NLM_F_CREATE, &INET_HEAD, &chain()),
        rule(&own_v4.concat(), 0),
        rule(&own_v6.concat(), 0),
        rule(&is_tcp.concat(), 0),
        // An answer to the last one speaks for all.
        rule(&asks.concat(), libc::NLM_F_ACK),
        batch(BATCH_END),
    ]
    .concat()
}

/// `struct nfgenmsg` of what belongs to both families.
const INET_HEAD: [u8; 4] = [INET, 0, 0, 0];

fn batch(kind: u16) -> Vec<u8> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    message(kind, 0, &[0, 0, high, low], &[])
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn chain() -> Vec<u8> {
    const TABLE_NAME: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    let priority = attribute(2, &MANGLE.to_be_bytes());
    [
        attribute(TABLE_NAME, TABLE),
        attribute(NAME, CHAIN),
        nested(HOOK, &[number(1, PREROUTING), priority]),
        number(POLICY, ACCEPT),
        attribute(TYPE, b"filter\0"),
    ]
    .concat()
}

/// A rule that accepts what all of its expressions are true of.
fn rule(expressions: &[Vec<u8>], flags: libc::c_int) -> Vec<u8> {
    const TABLE_NAME: u16 = 1;
    const CHAIN_NAME: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let code = nested(2, &[number(1, ACCEPT)]);
    let accept = expression(b"immediate\0", &[number(1, VERDICT), nested(2, &[code])]);
    let all = [expressions, &[accept]].concat();
    let attributes = [
        attribute(TABLE_NAME, TABLE),
        attribute(CHAIN_NAME, CHAIN),
        nested(EXPRESSIONS, &all),
    ];
    let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND | flags;
    message(NEW_RULE, flags, &INET_HEAD, &attributes.concat())
}

/// One expression, as an element of a rule's list.
fn expression(name: &[u8], data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[attribute(1, name), nested(2, data)])
}

/// Loads what is known of a packet.
fn meta(key: u32) -> [Vec<u8>; 1] {
    [expression(b"meta\0", &[number(1, VALUE), number(2, key)])]
}

/// Loads bytes of it.
fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    let place = [number(2, base), number(3, offset), number(4, length)];
    expression(b"payload\0", &[&[number(1, VALUE)][..], &place].concat())
}

/// Goes on only if what was loaded is that.
fn equals(value: &[u8]) -> Vec<u8> {
    const EQUAL: u32 = 0;
    let data = nested(3, &[attribute(1, value)]);
    expression(b"cmp\0", &[number(1, VALUE), number(2, EQUAL), data])
}

/// Gives the packet to the socket of that port; goes on if there is one.
fn to_port(port: u16) -> [Vec<u8>; 2] {
    let value = nested(2, &[attribute(1, &port.to_be_bytes())]);
    [
        expression(b"immediate\0", &[number(1, VALUE), value]),
        expression(b"tproxy\0", &[number(1, ANY_FAMILY), number(3, VALUE)]),
    ]
}
