//! A head is read as a second reader reads it, and written so that both read the same again.

use egress::http1::{Body, Head, Parsed, TargetForm, Upgrade, parse};
use proptest::prelude::*;

pub(crate) fn head(text: &[u8]) -> Box<Head<'_>> {
    match parse(text) {
        Ok(Parsed::Head(head, _)) => head,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text)),
    }
}

#[test]
fn a_plain_request_is_read() {
    let text = b"POST /a/%2e./b?q=%2F HTTP/1.1\r\nHost: API.test:8080\r\nContent-Length: 5\r\n\
        Expect: 100-continue\r\nX-Y:  z \r\n\r\nhello";
    let Ok(Parsed::Head(head, length)) = parse(text) else {
        panic!("not read");
    };
    assert_eq!(&text[length..], b"hello");
    assert_eq!(head.method, "POST");
    assert_eq!(head.authority.host.to_string(), "api.test");
    assert_eq!(head.authority.port, Some(8080));
    assert_eq!(head.body, Body::Length(5));
    assert!(head.keep_alive && head.expects_continue);
    assert!(matches!(&head.target, TargetForm::Path(p, Some("q=%2F")) if p.as_str() == "/b"));
    assert!(head.headers.iter().any(|h| h.is("x-y") && h.value == b"z"));
    assert_eq!(
        String::from_utf8(head.write()).unwrap(),
        "POST /b?q=%2F HTTP/1.1\r\nHost: api.test:8080\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\nX-Y: z\r\n\r\n"
    );
}

#[test]
fn a_head_that_is_cut_anywhere_asks_for_more() {
    let text = b"GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(parse(&text[..end]), Ok(Parsed::More), "cut at {end}");
    }
}

#[test]
fn forms_of_targets() {
    let target = |line: &str| {
        let text = format!("{line} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        match head(text.as_bytes()).target.clone() {
            TargetForm::Asterisk => "*".to_owned(),
            TargetForm::Path(path, None) => path.as_str().to_owned(),
            TargetForm::Path(path, Some(query)) => format!("{}?{query}", path.as_str()),
        }
    };
    assert_eq!(target("OPTIONS *"), "*");
    assert_eq!(target("GET http://a.test/x?y"), "/x?y");
    assert_eq!(target("GET http://A.TEST.:80"), "/");
    assert_eq!(target("GET http://a.test?y"), "/?y");
}

#[test]
fn only_an_upgrade_to_a_websocket_is_forwarded() {
    let text = |upgrade: &str, connection: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: {upgrade}\r\nConnection: {connection}\r\n\
             HTTP2-Settings: AAMA\r\n\r\n"
        )
    };
    let socket = text("WebSocket", "keep-alive, Upgrade");
    assert_eq!(head(socket.as_bytes()).upgrade, Upgrade::WebSocket);
    assert!(
        String::from_utf8(head(socket.as_bytes()).write())
            .unwrap()
            .contains("Upgrade: ")
    );
    for upgrade in ["h2c", "websocket, h2c", "TLS/1.0"] {
        let text = text(upgrade, "Upgrade, HTTP2-Settings");
        let head = head(text.as_bytes());
        assert_eq!(head.upgrade, Upgrade::Other, "{upgrade}");
        let written = String::from_utf8(head.write()).unwrap();
        assert_eq!(
            written,
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n"
        );
    }
}

/// Whether the second reader reads the same, of the bytes and of what we write.
fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(Parsed::Head(head, length)) = parse(bytes) else {
        return Ok(());
    };
    let written = head.write();
    for (text, length) in [(bytes, length), (&written, written.len())] {
        let mut fields = [httparse::EMPTY_HEADER; 140];
        let mut other = httparse::Request::new(&mut fields);
        let read = other
            .parse(text)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(read, httparse::Status::Complete(length));
        prop_assert_eq!(other.method, Some(head.method));
        let of = |name: &str| {
            let named = |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case(name);
            other
                .headers
                .iter()
                .filter(named)
                .map(|h| h.value.to_vec())
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(of("host").len(), 1);
        let coding = of("transfer-encoding");
        let lengths = of("content-length");
        match head.body {
            Body::None => prop_assert!(coding.is_empty() && lengths.is_empty()),
            Body::Chunked => prop_assert!(coding.len() == 1 && lengths.is_empty()),
            Body::Length(n) => {
                prop_assert!(coding.is_empty() && lengths.len() == 1);
                let text = String::from_utf8(lengths[0].clone()).unwrap();
                prop_assert_eq!(text.parse::<u64>().unwrap(), n);
            }
        }
    }
    let Ok(Parsed::Head(again, _)) = parse(&written) else {
        return Err(TestCaseError::fail("what was written is refused"));
    };
    prop_assert_eq!(&again.authority, &head.authority);
    prop_assert_eq!(again.target.clone(), head.target.clone());
    prop_assert_eq!(again.write(), written);
    Ok(())
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Content-Length: 5".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("transfer-encoding : chunked".to_owned()),
        Just("Connection: close, Upgrade".to_owned()),
        Just("Upgrade: h2c".to_owned()),
        Just("Host: b.test".to_owned()),
        "[A-Za-z_-]{1,6}:[ \t]?[ -~]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn mutated_heads_are_read_like_a_second_reader_or_refused(
        method in prop_oneof![Just("GET"), Just("POST"), Just("get"), Just("CONNECT")],
        target in prop_oneof![
            "/[a-z%2eEfF./;?]{0,12}",
            Just("http://a.test/x".to_owned()),
            Just("*".to_owned()),
        ],
        lines in prop::collection::vec(line(), 0..4),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"\r\n \t:;,\0aA0\x80/%".to_vec())),
            0..3,
        ),
    ) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n");
        for line in lines {
            text += &line;
            text += "\r\n";
        }
        let mut bytes = (text + "\r\nrest").into_bytes();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        agrees(&bytes)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        agrees(&bytes)?;
    }
}
