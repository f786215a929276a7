//! Ranges are read strictly and lift exactly what they name.

use std::net::IpAddr;

use dial::{Class, Net, Policy};
use proptest::prelude::*;

fn policy(nets: &[&str]) -> Policy {
    Policy {
        allow_private: nets.iter().map(|n| n.parse().unwrap()).collect(),
    }
}

#[test]
fn wrong_ranges_are_refused_in_words() {
    for (text, words) in [
        ("10.0.0.0", "lacks the prefix length"),
        (
            "10.0.0.1/8",
            "the range is 10.0.0.0/8, the single address 10.0.0.1/32",
        ),
        ("10.0.0.0/33", "from 0 to 32"),
        ("fd00::/129", "from 0 to 128"),
        ("10.0.0.0/", "from 0 to 32"),
        ("10.0.0.0/+8", "from 0 to 32"),
        ("10.0.0.0/08", "from 0 to 32"),
        ("10.0.0/8", "\"10.0.0\" is not an IPv4 or IPv6 address"),
        ("010.0.0.0/8", "is not an IPv4"),
        (" 10.0.0.0/8", "is not an IPv4"),
        ("localhost/8", "is not an IPv4"),
        ("::ffff:10.0.0.0/104", "write IPv4 ranges as IPv4"),
        ("", "lacks the prefix"),
    ] {
        let error = text.parse::<Net>().unwrap_err().to_string();
        assert!(error.contains(words), "{text:?}: {error}");
    }
    let listed: Result<Vec<Net>, _> = serde_json::from_str(r#"["127.0.0.0/8", "nonsense"]"#);
    assert!(listed.unwrap_err().to_string().contains("nonsense"));
}

#[test]
fn a_lift_reaches_its_range_in_all_its_forms_and_nothing_else() {
    let policy = policy(&["127.0.0.0/8", "fd00::/8"]);
    for (ip, expected) in [
        ("127.0.0.1", None),
        ("::ffff:127.9.9.9", None),
        ("fd12::1", None),
        ("::1", Some(Class::Loopback)),
        ("10.0.0.1", Some(Class::Private)),
        ("fc00::1", Some(Class::Private)),
        ("169.254.169.254", Some(Class::Metadata)),
    ] {
        assert_eq!(policy.refusal(ip.parse().unwrap()), expected, "{ip}");
    }
    assert_eq!(
        super::nets::policy(&["0.0.0.0/0"]).refusal("10.0.0.1".parse().unwrap()),
        None
    );
}

proptest! {
    #[test]
    fn a_range_contains_its_ends_and_not_its_neighbours(bits in any::<u32>(), prefix in 1_u8..=32) {
        let base = bits & (u32::MAX << (32 - u32::from(prefix)));
        let last = base | !(u32::MAX << (32 - u32::from(prefix)).min(31)) & if prefix == 32 { 0 } else { u32::MAX };
        let ip = |bits: u32| IpAddr::V4(bits.into());
        let net: Net = format!("{}/{prefix}", ip(base)).parse().unwrap();
        prop_assert_eq!(net.to_string().parse::<Net>().unwrap(), net);
        prop_assert!(net.contains(ip(base)) && net.contains(ip(last)) && net.contains(ip(bits)));
        prop_assert!(base == 0 || !net.contains(ip(base - 1)));
        prop_assert!(last == u32::MAX || !net.contains(ip(last + 1)));
    }
}

#[test]
fn the_range_around_an_address_contains_it_and_is_written_like_one() {
    let around = |ip: &str, prefix| Net::around(ip.parse().unwrap(), prefix);
    let net = around("10.1.2.3", 8).unwrap();
    assert_eq!(net, "10.0.0.0/8".parse().unwrap());
    assert!(net.contains("10.1.2.3".parse().unwrap()) && net.is_ipv4());
    assert_eq!(
        around("2001:db8::1", 32).unwrap(),
        "2001:db8::/32".parse().unwrap()
    );
    assert_eq!(around("10.1.2.3", 33), None);
    assert_eq!(around("::ffff:10.1.2.3", 128), None);
}
