//! One host has one form, and no text is a name here and an address elsewhere.

use egress::{Authority, AuthorityError, HostPattern, Name, NameError, Target, TargetError};

fn name(text: &str) -> Result<String, NameError> {
    Name::parse(text).map(|name| name.to_string())
}

#[test]
fn spellings_of_one_host_are_one_name() {
    for text in [
        "example.com",
        "EXAMPLE.com",
        "example.com.",
        "ｅｘａｍｐｌｅ.com",
        "example。com",
    ] {
        assert_eq!(name(text).unwrap(), "example.com", "{text}");
    }
    assert_eq!(name("bücher.example").unwrap(), "xn--bcher-kva.example");
    assert_eq!(name("BÜCHER.example").unwrap(), "xn--bcher-kva.example");
    assert_eq!(
        name("XN--BCHER-KVA.example").unwrap(),
        "xn--bcher-kva.example"
    );
}

#[test]
fn a_homograph_is_another_name() {
    let cyrillic = name("ex\u{0430}mple.com").unwrap();
    assert!(cyrillic.starts_with("xn--"), "{cyrillic}");
}

#[test]
fn an_address_in_any_notation_is_no_name_but_an_address() {
    for (text, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
    ] {
        let target = Target::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(target, Target::Address(address.parse().unwrap()), "{text}");
    }
    for text in [
        "1.2.3.4.5",
        "256.1.1.1",
        "example.1",
        "example.0x10",
        "0x",
        "999999999999",
    ] {
        assert_eq!(name(text), Err(NameError::Address), "{text}");
    }
    for text in [
        "1.2.3.4.5",
        "256.1.1.1",
        "example.1",
        "[::1",
        "[::1%eth0]",
        "[1.2.3.4]",
    ] {
        assert_eq!(Target::parse(text), Err(TargetError::Address), "{text}");
    }
}

#[test]
fn what_no_host_name_is_is_refused() {
    let long = format!("{}.test", "a".repeat(64));
    let longer = format!("{}test", "a.".repeat(125));
    for (text, why) in [
        ("", NameError::Empty),
        (".", NameError::Empty),
        ("a..b", NameError::Label),
        ("a.test..", NameError::Label),
        (".test", NameError::Label),
        ("-a.test", NameError::Label),
        ("a-.test", NameError::Label),
        (long.as_str(), NameError::Label),
        (longer.as_str(), NameError::TooLong),
        ("a b.test", NameError::Character),
        ("user@a.test", NameError::Character),
        ("a.test:80", NameError::Character),
        ("a.test/x", NameError::Character),
        ("a%2etest", NameError::Character),
        ("a.t\0est", NameError::Character),
        ("*.test", NameError::Character),
        ("xn--a.test", NameError::Idna),
    ] {
        assert_eq!(name(text), Err(why), "{text:?}");
    }
    assert_eq!(name("a_b.test").unwrap(), "a_b.test");
}

#[test]
fn an_authority_is_a_host_and_a_plain_port() {
    let parsed = Authority::parse("API.example.com:8443").unwrap();
    assert_eq!(parsed.host.to_string(), "api.example.com");
    assert_eq!(parsed.port, Some(8443));
    assert_eq!(Authority::parse("[::1]:80").unwrap().port, Some(80));
    assert_eq!(Authority::parse("[::1]").unwrap().port, None);
    for (text, why) in [
        ("a.test:", AuthorityError::Port),
        ("a.test:0", AuthorityError::Port),
        ("a.test:080", AuthorityError::Port),
        ("a.test:+80", AuthorityError::Port),
        ("a.test:65536", AuthorityError::Port),
        ("a.test:80:80", AuthorityError::Port),
        ("::1", AuthorityError::Port),
        ("[::1]x", AuthorityError::Port),
        ("good.test@evil.test", AuthorityError::UserInfo),
    ] {
        assert_eq!(Authority::parse(text), Err(why), "{text}");
    }
}

#[test]
fn a_wildcard_covers_every_depth_below_and_not_the_apex() {
    let pattern = HostPattern::parse("*.Example.com.").unwrap();
    let covers = |text: &str| pattern.covers(&Name::parse(text).unwrap());
    assert!(covers("a.example.com") && covers("a.b.example.com"));
    assert!(
        !covers("example.com") && !covers("badexample.com") && !covers("example.com.evil.test")
    );
    assert!(HostPattern::parse("a.*.com").is_err() && HostPattern::parse("*a.com").is_err());
}
