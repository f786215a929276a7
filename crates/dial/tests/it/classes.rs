//! Address classes: the table, the embedded forms, and properties over all addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dial::{Class, Policy, classify, effective};
use proptest::prelude::*;

fn class(text: &str) -> Class {
    classify(text.parse().unwrap())
}

#[test]
fn edges_of_every_range_are_on_the_right_side() {
    for (text, expected) in [
        ("0.0.0.0", Class::Unspecified),
        ("0.255.255.255", Class::Unspecified),
        ("1.0.0.0", Class::Public),
        ("9.255.255.255", Class::Public),
        ("10.0.0.0", Class::Private),
        ("10.255.255.255", Class::Private),
        ("11.0.0.0", Class::Public),
        ("100.63.255.255", Class::Public),
        ("100.64.0.0", Class::SharedCarrier),
        ("100.127.255.255", Class::SharedCarrier),
        ("100.128.0.0", Class::Public),
        ("100.100.100.200", Class::Metadata),
        ("126.255.255.255", Class::Public),
        ("127.0.0.1", Class::Loopback),
        ("127.255.255.255", Class::Loopback),
        ("128.0.0.0", Class::Public),
        ("168.63.129.16", Class::Metadata),
        ("169.254.169.254", Class::Metadata),
        ("169.254.0.1", Class::LinkLocal),
        ("169.255.0.0", Class::Public),
        ("172.15.255.255", Class::Public),
        ("172.16.0.0", Class::Private),
        ("172.31.255.255", Class::Private),
        ("172.32.0.0", Class::Public),
        ("192.0.0.1", Class::Reserved),
        ("192.0.1.0", Class::Public),
        ("192.0.2.1", Class::Reserved),
        ("192.88.99.1", Class::Reserved),
        ("192.167.255.255", Class::Public),
        ("192.168.0.1", Class::Private),
        ("198.17.255.255", Class::Public),
        ("198.18.0.0", Class::Reserved),
        ("198.19.255.255", Class::Reserved),
        ("198.51.100.7", Class::Reserved),
        ("203.0.113.7", Class::Reserved),
        ("223.255.255.255", Class::Public),
        ("224.0.0.1", Class::Multicast),
        ("240.0.0.1", Class::Reserved),
        ("255.255.255.255", Class::Reserved),
        ("::", Class::Unspecified),
        ("::1", Class::Loopback),
        ("::2", Class::Unspecified),
        ("fe80::1", Class::LinkLocal),
        ("febf::1", Class::LinkLocal),
        ("fec0::1", Class::Private),
        ("fc00::1", Class::Private),
        ("fdff::1", Class::Private),
        ("fd00:ec2::254", Class::Metadata),
        ("ff02::1", Class::Multicast),
        ("2001::1", Class::Reserved),
        ("2001:1ff::1", Class::Reserved),
        ("2001:200::1", Class::Public),
        ("2001:db8::1", Class::Reserved),
        ("2606:4700::1111", Class::Public),
        ("3fff::1", Class::Reserved),
        ("3fff:1000::1", Class::Public),
        ("4000::1", Class::Reserved),
        ("100::1", Class::Reserved),
        ("64:ff9b:1::1", Class::Private),
        ("5f00::1", Class::Reserved),
    ] {
        assert_eq!(class(text), expected, "{text}");
    }
}

#[test]
fn embedded_addresses_are_judged_by_what_they_embed() {
    for (text, expected) in [
        ("::ffff:127.0.0.1", Class::Loopback),
        ("::ffff:8.8.8.8", Class::Public),
        ("::ffff:169.254.169.254", Class::Metadata),
        ("64:ff9b::10.0.0.1", Class::Private),
        ("64:ff9b::8.8.8.8", Class::Public),
        ("2002:7f00:1::", Class::Loopback),
        ("2002:a9fe:a9fe::1", Class::Metadata),
        ("2002:808:808::1", Class::Public),
        ("::127.0.0.1", Class::Loopback),
        ("::8.8.8.8", Class::Reserved),
        ("::ffff:0:10.0.0.1", Class::Private),
        ("::ffff:0:8.8.8.8", Class::Reserved),
    ] {
        assert_eq!(class(text), expected, "{text}");
    }
}

/// The embeddings that carry an IPv4 address over an IPv6 socket.
fn embeddings(v4: Ipv4Addr) -> [Ipv6Addr; 3] {
    let [a, b, c, d] = v4.octets();
    let (hi, lo) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        v4.to_ipv6_mapped(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, hi, lo),
        Ipv6Addr::new(0x2002, hi, lo, 0, 0, 0, 0, 1),
    ]
}

proptest! {
    #[test]
    fn no_clothes_make_an_address_more_public(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        for v6 in embeddings(v4) {
            prop_assert_eq!(classify(v6.into()), classify(v4.into()));
            prop_assert_eq!(effective(v6.into()), IpAddr::V4(v4));
        }
    }

    #[test]
    fn std_and_we_agree_where_std_has_a_word(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
            || v4.is_documentation() || v4.is_multicast() || v4.is_unspecified();
        prop_assert!(!special || classify(v4.into()) != Class::Public, "{}", v4);
    }

    #[test]
    fn ipv6_is_public_only_within_global_unicast_or_an_embedding(bits in any::<u128>()) {
        let v6 = Ipv6Addr::from_bits(bits);
        let global = v6.segments()[0] & 0xe000 == 0x2000;
        let embedded = effective(v6.into()).is_ipv4();
        prop_assert!(classify(v6.into()) != Class::Public || global || embedded, "{}", v6);
    }

    #[test]
    fn what_is_not_public_is_refused_without_a_lift(bits in any::<u32>()) {
        let ip = IpAddr::V4(Ipv4Addr::from_bits(bits));
        let class = classify(ip);
        prop_assert!(class == Class::Public || Policy::default().refusal(ip) == Some(class));
    }
}
