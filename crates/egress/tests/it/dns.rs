//! Queries are read like a second reader reads them or refused; answers are what that reader expects; and
//! nothing but A and AAAA has an answer.

use std::net::IpAddr;

use egress::Name;
use egress::dns::{
    Answer, Full, Malformed, OnDenied, Pool, Query, Rcode, RecordType, answer_for, write_answer,
};
use egress::policy::{Policy, read_policy};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{Name as WireName, RecordType as WireType};
use proptest::prelude::*;

fn packet(name: &str, kind: WireType, edns: bool) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    packet_of(labels.map(str::as_bytes), kind, edns)
}

fn packet_of<'a>(labels: impl Iterator<Item = &'a [u8]>, kind: WireType, edns: bool) -> Vec<u8> {
    let mut name = WireName::from_labels(labels).unwrap();
    name.set_fqdn(true);
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(name, kind));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4_096);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn limited() -> Policy {
    read_policy("networking = { type = \"limited\", allowed_hosts = [\"ok.test\"] }").unwrap()
}

fn ask(packet: &[u8], on_denied: OnDenied) -> (Answer, Message) {
    let query = Query::parse(packet).unwrap();
    let answer = answer_for(&query, &limited(), on_denied, &mut Pool::default(), 0);
    let read = Message::from_vec(&write_answer(&query, answer)).unwrap();
    assert_eq!(read.metadata.message_type, MessageType::Response);
    assert_eq!(read.metadata.id, 7);
    assert_eq!(read.queries, Message::from_vec(packet).unwrap().queries);
    (answer, read)
}

#[test]
fn an_allowed_name_and_a_denied_one_get_virtual_addresses_alike() {
    for (name, edns) in [
        ("ok.test.", false),
        ("OK.Test.", true),
        ("denied.test.", true),
    ] {
        let (_, v4) = ask(&packet(name, WireType::A, edns), OnDenied::Virtual);
        let (_, v6) = ask(&packet(name, WireType::AAAA, edns), OnDenied::Virtual);
        for (message, kind) in [(v4, WireType::A), (v6, WireType::AAAA)] {
            let [record] = message.answers.as_slice() else {
                panic!("not one record: {message:?}");
            };
            assert_eq!(record.record_type(), kind);
            let ip = record.data.ip_addr().unwrap();
            assert!(Pool::is_virtual(ip), "{ip}");
            assert_eq!(message.edns.is_some(), edns);
        }
    }
}

#[test]
fn a_denied_name_is_refused_where_the_operator_wants_it() {
    let answer = |name| ask(&packet(name, WireType::A, false), OnDenied::Refuse);
    assert_eq!(answer("denied.test.").0, Answer::Failed(Rcode::Refused));
    assert_eq!(
        answer("denied.test.").1.metadata.response_code,
        ResponseCode::Refused
    );
    assert!(
        matches!(answer("ok.test.").0, Answer::V4(_)),
        "denied on port 80 only"
    );
}

#[test]
fn a_name_is_refused_only_if_every_port_is_denied() {
    let answer = |rule: &str| {
        let text = format!("[[rules]]\nname = \"r\"\nto = [\"a.test\"]\n{rule}");
        let query = Query::parse(&packet("a.test.", WireType::A, false)).unwrap();
        let policy = read_policy(&text).unwrap();
        answer_for(&query, &policy, OnDenied::Refuse, &mut Pool::default(), 0)
    };
    let refused = Answer::Failed(Rcode::Refused);
    assert_eq!(answer("action = \"deny\""), refused);
    for ports in ["[1]", "[65535]", "[\"5000-6000\"]", "[\"1-65535\"]"] {
        let rule = format!("action = \"allow\"\nports = {ports}");
        assert!(matches!(answer(&rule), Answer::V4(_)), "{ports}");
    }
}

#[test]
fn no_other_record_type_has_an_answer() {
    for kind in [
        WireType::TXT,
        WireType::MX,
        WireType::NS,
        WireType::SOA,
        WireType::SRV,
        WireType::PTR,
        WireType::HTTPS,
        WireType::SVCB,
        WireType::CNAME,
        WireType::NULL,
        WireType::Unknown(65_280),
    ] {
        let (answer, message) = ask(&packet("ok.test.", kind, true), OnDenied::Virtual);
        assert_eq!(answer, Answer::Empty, "{kind}");
        assert!(message.answers.is_empty());
    }
    for kind in [WireType::ANY, WireType::AXFR, WireType::IXFR] {
        let (answer, _) = ask(&packet("ok.test.", kind, false), OnDenied::Virtual);
        assert_eq!(answer, Answer::Failed(Rcode::Refused), "{kind}");
    }
}

#[test]
fn names_that_no_host_has_are_refused() {
    for labels in [
        &[&b"1"[..], b"2", b"3", b"4"][..],
        &[b"0x7f", b"1"],
        &[],
        &[b"a b", b"test"],
        &[b"a.b", b"test"],
        &[b"a\0b", b"test"],
        &[b"-a", b"test"],
        &[b"\xc3\xbc", b"test"],
    ] {
        let query = packet_of(labels.iter().copied(), WireType::A, false);
        let query = Query::parse(&query).unwrap();
        let answer = answer_for(
            &query,
            &limited(),
            OnDenied::Virtual,
            &mut Pool::default(),
            0,
        );
        assert_eq!(answer, Answer::Failed(Rcode::Refused), "{labels:?}");
    }
}

#[test]
fn what_no_stub_resolver_sends_is_refused_and_never_echoed() {
    let good = packet("ok.test.", WireType::A, true);
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let mut pointer = good.clone();
    pointer.splice(12..13, [0xc0, 12]);
    let cases = [
        ("opcode", changed(2, 0x29), Rcode::NotImp),
        ("truncated", changed(2, 0x03), Rcode::FormErr),
        ("authoritative", changed(2, 0x05), Rcode::FormErr),
        ("no question", changed(5, 0), Rcode::FormErr),
        ("two questions", changed(5, 2), Rcode::FormErr),
        ("256 questions", changed(4, 1), Rcode::FormErr),
        ("an answer", changed(7, 1), Rcode::FormErr),
        ("an authority", changed(9, 1), Rcode::FormErr),
        ("two additional", changed(11, 2), Rcode::FormErr),
        ("none counted", changed(11, 0), Rcode::FormErr),
        ("a long label", changed(12, 64), Rcode::FormErr),
        ("a pointer", pointer, Rcode::FormErr),
        ("another class", changed(24, 3), Rcode::Refused),
        (
            "bytes after",
            [good.as_slice(), &[0]].concat(),
            Rcode::FormErr,
        ),
        (
            "too long",
            [good.as_slice(), &[0; 2_000]].concat(),
            Rcode::FormErr,
        ),
    ];
    for (what, bytes, expected) in cases {
        let wrong = Query::parse(&bytes).map(|_| ()).expect_err(what);
        let Malformed::Reply { rcode, .. } = wrong else {
            panic!("{what}: {wrong}");
        };
        assert_eq!(rcode, expected, "{what}");
        let reply = wrong.reply().unwrap();
        let [id_high, id_low, flags, code, rest @ ..] = reply;
        assert_eq!(
            [id_high, id_low, flags, code],
            [0, 7, 0x80, expected.number()]
        );
        assert_eq!(rest, [0; 8]);
    }
    assert_eq!(
        Query::parse(&changed(2, 0x81)),
        Err(Malformed::Silent),
        "an answer"
    );
    assert_eq!(Query::parse(&good[..11]), Err(Malformed::Silent));
    for end in 12..good.len() {
        assert!(Query::parse(&good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn an_unknown_version_of_edns_is_named_as_such() {
    let mut bytes = packet("ok.test.", WireType::A, true);
    let opt = bytes.len() - 11;
    bytes[opt + 6] = 1;
    let (answer, message) = ask(&bytes, OnDenied::Virtual);
    assert_eq!(answer, Answer::Failed(Rcode::BadVers));
    assert_eq!(u16::from(message.metadata.response_code), 16);
}

#[test]
fn an_address_keeps_its_name_until_it_is_long_unused() {
    let name = |text: &str| Name::parse(text).unwrap();
    let mut pool = Pool::with_most(2);
    let a = pool.assign(&name("a.test"), 0).unwrap();
    let b = pool.assign(&name("b.test"), 10).unwrap();
    assert_ne!(a, b);
    assert_eq!(pool.assign(&name("A.test."), 20).unwrap(), a);
    assert_eq!(
        pool.assign(&name("c.test"), 3_609),
        Err(Full),
        "b was used at 10"
    );
    assert_eq!(pool.name_of(IpAddr::V6(b.v6), 30), Some(name("b.test")));
    // a was used at 20 and b at 30, so a makes room, and b keeps its name.
    assert_eq!(pool.assign(&name("c.test"), 3_620).unwrap(), a);
    assert_eq!(pool.name_of(a.v4.into(), 3_620), Some(name("c.test")));
    assert_eq!(pool.name_of(b.v4.into(), 3_620), Some(name("b.test")));
    for ip in [
        "198.18.0.0",
        "198.18.0.3",
        "198.19.255.255",
        "8.8.8.8",
        "fd6c:6e67:6864::",
    ] {
        assert_eq!(pool.name_of(ip.parse().unwrap(), 0), None, "{ip}");
    }
}

fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(query) = Query::parse(bytes) else {
        return Ok(());
    };
    // What we take the other reader takes too, and as the same.
    let other = Message::from_vec(bytes).map_err(|e| TestCaseError::fail(format!("{e}")))?;
    prop_assert_eq!(other.queries.len(), 1);
    let asked = &other.queries[0];
    if let Ok(name) = &query.name {
        let theirs = asked.name().to_ascii().to_lowercase();
        prop_assert_eq!(theirs.trim_end_matches('.'), name.as_str());
    }
    let kind = match query.record {
        RecordType::A => 1,
        RecordType::Aaaa => 28,
        RecordType::Several(kind) | RecordType::Other(kind) => kind,
    };
    prop_assert_eq!(u16::from(asked.query_type()), kind);
    prop_assert_eq!(other.edns.is_some(), query.edns.is_some());
    let answer = answer_for(
        &query,
        &limited(),
        OnDenied::Virtual,
        &mut Pool::default(),
        0,
    );
    let written = write_answer(&query, answer);
    prop_assert!(Message::from_vec(&written).is_ok());
    prop_assert!(written.len() <= 512);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn mutated_queries_are_read_like_a_second_reader_or_refused(
        name in "[a-zA-Z0-9_-]{1,12}(\\.[a-z0-9-]{1,8}){0,4}\\.",
        edns in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = packet(&name, WireType::A, edns);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        agrees(&bytes)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        agrees(&bytes)?;
    }
}
