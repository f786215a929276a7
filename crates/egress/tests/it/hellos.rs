//! A ClientHello is read as a real TLS stack reads it, or refused; a cut one asks for more.

use std::sync::Arc;

use egress::NameError;
use egress::sni::{HelloError, Peeked, peek};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What a real client sends first.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Hellos of all kinds, for whoever changes them.
pub fn seeds() -> Vec<Vec<u8>> {
    let name = |name: &[u8]| [vec![0], vector16(name)].concat();
    let two = vector16(&[name(b"a.test"), name(b"b.test")].concat());
    vec![
        hello("a.test"),
        hello("xn--bcher-kva.test"),
        made(&[]),
        made(&[(0, vector16(&name(b"A.test.")))]),
        made(&[(0, two)]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

/// What a real server reads: the name, or nothing if it refuses or wants more.
pub fn theirs(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut bytes).ok()?;
    let accepted = acceptor.accept().ok()??;
    Some(
        accepted
            .client_hello()
            .server_name()
            .map(str::to_ascii_lowercase),
    )
}

/// A hello made by hand: these extensions, in one record.
fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(vector16(data));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend(vector16(&list));
    let mut message = vec![1, 0];
    message.extend(vector16(&body));
    records(&message, usize::MAX)
}

fn records(message: &[u8], most: usize) -> Vec<u8> {
    let parts = message.chunks(most.min(16_000));
    parts
        .flat_map(|part| [vec![22, 3, 1], vector16(part)].concat())
        .collect()
}

fn vector16(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&length.to_be_bytes()[..], data].concat()
}

fn names(names: &[&[u8]]) -> Vec<u8> {
    let entry = |name: &&[u8]| [vec![0], vector16(name)].concat();
    vector16(&names.iter().flat_map(entry).collect::<Vec<_>>())
}

fn name_of(bytes: &[u8]) -> Result<Option<String>, HelloError> {
    match peek(bytes)? {
        Peeked::Hello(hello) => Ok(hello.server_name.map(|name| name.to_string())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_real_hello_is_read() {
    let bytes = hello("api.example.com");
    let Peeked::Hello(read) = peek(&bytes).unwrap() else {
        panic!("no hello");
    };
    assert_eq!(read.server_name.unwrap().as_str(), "api.example.com");
    assert_eq!(read.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(
        name_of(&hello("192.0.2.1")).unwrap(),
        None,
        "an address has no name in TLS"
    );
}

#[test]
fn a_hello_that_is_cut_anywhere_asks_for_more() {
    let bytes = hello("api.example.com");
    for end in 0..bytes.len() {
        assert_eq!(peek(&bytes[..end]).unwrap(), Peeked::More, "cut at {end}");
    }
}

#[test]
fn a_hello_may_be_spread_over_records() {
    let whole = hello("api.example.com");
    for most in [1, 2, 5, 100] {
        let bytes = records(&whole[5..], most);
        assert_eq!(
            name_of(&bytes).unwrap().unwrap(),
            "api.example.com",
            "{most}"
        );
    }
}

#[test]
fn other_protocols_are_no_tls() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x",
        b"\x16\x02",
        b"\x15\x03\x01",
        b"\0",
    ] {
        assert_eq!(peek(bytes).unwrap(), Peeked::NotTls);
    }
    assert_eq!(peek(b"").unwrap(), Peeked::More);
}

#[test]
fn a_name_that_is_none_or_more_than_one_is_refused() {
    let sni = |data| made(&[(0, data)]);
    assert_eq!(
        name_of(&sni(names(&[b"A.test"]))).unwrap().unwrap(),
        "a.test"
    );
    for (what, data, why) in [
        (
            "two names",
            names(&[b"a.test", b"b.test"]),
            HelloError::Names,
        ),
        ("no name", names(&[]), HelloError::Names),
        ("nothing", Vec::new(), HelloError::Names),
        (
            "bytes after",
            [names(&[b"a.test"]), vec![0]].concat(),
            HelloError::Names,
        ),
        (
            "another kind",
            vector16(&[1, 0, 1, b'a']),
            HelloError::Names,
        ),
        ("empty", names(&[b""]), HelloError::Name(NameError::Empty)),
        (
            "an address",
            names(&[b"127.0.0.1"]),
            HelloError::Name(NameError::Address),
        ),
        (
            "a number",
            names(&[b"2130706433"]),
            HelloError::Name(NameError::Address),
        ),
        (
            "a final dot",
            names(&[b"a.test."]),
            HelloError::Name(NameError::Character),
        ),
        (
            "a NUL",
            names(&[b"a.test\0.b.test"]),
            HelloError::Name(NameError::Character),
        ),
        (
            "not ASCII",
            names(&["ü.test".as_bytes()]),
            HelloError::Name(NameError::Character),
        ),
    ] {
        assert_eq!(name_of(&sni(data)), Err(why), "{what}");
    }
    let twice = made(&[(0, names(&[b"a.test"])), (0, names(&[b"b.test"]))]);
    assert_eq!(name_of(&twice), Err(HelloError::Twice(0)));
}

#[test]
fn lengths_are_not_trusted() {
    let good = made(&[(0, names(&[b"a.test"]))]);
    let message = &good[5..];
    let mut shorter = message.to_vec();
    shorter[3] -= 1;
    assert!(peek(&records(&shorter, 16_000)).is_err(), "bytes after it");
    let mut huge = message.to_vec();
    huge[1] = 0xff;
    assert_eq!(peek(&records(&huge, 16_000)), Err(HelloError::TooLong));
    assert_eq!(
        peek(&[22, 3, 1, 0, 0]),
        Err(HelloError::Malformed("a record's length"))
    );
    assert_eq!(
        peek(&[22, 3, 1, 0xff, 0xff]),
        Err(HelloError::Malformed("a record's length"))
    );
    let not_hello = records(&[2, 0, 0, 1, 0], 100);
    assert_eq!(peek(&not_hello), Err(HelloError::NotHello));
    let interrupted = [records(&message[..20], 100), vec![21, 3, 1, 0, 2, 1, 0]].concat();
    assert_eq!(
        peek(&interrupted),
        Err(HelloError::Malformed("it is cut short"))
    );
    let endless = records(&[&[1, 0, 0x3f, 0xff][..], &[0; 16_000]].concat(), 1);
    assert_eq!(peek(&endless), Err(HelloError::TooLong));
    let many = (100..200)
        .map(|kind| (kind, Vec::new()))
        .collect::<Vec<_>>();
    assert_eq!(peek(&made(&many)), Err(HelloError::TooLong));
    assert!(matches!(peek(&made(&[(0xfe0d, vec![1])])), Ok(Peeked::Hello(h)) if h.encrypted));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_mutated_hello_is_read_as_a_real_server_reads_it_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        at_name in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = made(&[
            (10, vector16(&[0, 0x1d])),
            (0, names(&[b"Api.example.com"])),
            (13, vector16(&[4, 3])),
            (16, vector16(b"\x02h2")),
        ]);
        let around = bytes.windows(4).position(|w| w == b"Api.").unwrap();
        for (at, to) in changes {
            let at = if at_name { around - 9 + at.index(28) } else { at.index(bytes.len()) };
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        if let (Ok(Peeked::Hello(ours)), Some(theirs)) = (peek(&bytes), theirs(&bytes)) {
            prop_assert_eq!(ours.server_name.map(|name| name.to_string()), theirs);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let _total = peek(&[&[22, 3, 1][..], &rest].concat());
        let _total = peek(&rest);
    }
}

#[test]
fn the_second_reader_reads_the_hello_that_is_mutated() {
    assert_eq!(theirs(&hello("a.test")), Some(Some("a.test".to_owned())));
    let bytes = made(&[
        (10, vector16(&[0, 0x1d])),
        (0, names(&[b"Api.example.com"])),
        (13, vector16(&[4, 3])),
        (16, vector16(b"\x02h2")),
    ]);
    assert_eq!(theirs(&bytes), Some(Some("api.example.com".to_owned())));
}
