//! Requests that two servers would read in two ways, one named case each. Each has its control: the same
//! request without the one defect is read.

use egress::http1::{HeadError, Parsed, parse};
use egress::{AuthorityError, PathError};

#[test]
fn what_is_ambiguous_is_refused() {
    let cases: &[(&str, &str, HeadError)] = &[
        (
            "CL and TE",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::Framing,
        ),
        (
            "two TE",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            HeadError::Framing,
        ),
        (
            "TE list",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            HeadError::Coding,
        ),
        (
            "TE with a vertical tab",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            HeadError::HeaderValue,
        ),
        (
            "TE with a form feed behind it",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\x0c\r\n\r\n",
            HeadError::HeaderValue,
        ),
        (
            "a length with a form feed before it",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: \x0c4\r\n\r\n",
            HeadError::HeaderValue,
        ),
        (
            "TE that is almost chunked",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
            HeadError::Coding,
        ),
        (
            "TE with a space before the colon",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n",
            HeadError::HeaderName,
        ),
        (
            "TE with an underscore",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer_Encoding: chunked\r\n\r\n",
            HeadError::HeaderName,
        ),
        (
            "TE in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::Coding,
        ),
        (
            "two equal CL",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
            HeadError::Framing,
        ),
        (
            "CL list",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4, 4\r\n\r\n",
            HeadError::Length,
        ),
        (
            "CL with a sign",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +4\r\n\r\n",
            HeadError::Length,
        ),
        (
            "CL in hex",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x4\r\n\r\n",
            HeadError::Length,
        ),
        (
            "empty CL",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\n",
            HeadError::Length,
        ),
        (
            "CL beyond 64 bits",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n",
            HeadError::Length,
        ),
        (
            "bare LF",
            "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
            HeadError::LineEnding,
        ),
        (
            "bare LF at the end",
            "GET / HTTP/1.1\r\nHost: a.test\n\n",
            HeadError::LineEnding,
        ),
        (
            "bare CR",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\rC: d\r\n\r\n",
            HeadError::LineEnding,
        ),
        (
            "NUL in a value",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\0\r\n\r\n",
            HeadError::HeaderValue,
        ),
        (
            "folded line",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\r\n c\r\n\r\n",
            HeadError::Folded,
        ),
        (
            "space before the first field",
            "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n",
            HeadError::Folded,
        ),
        (
            "empty line first",
            "\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::RequestLine,
        ),
        (
            "field without a name",
            "GET / HTTP/1.1\r\nHost: a.test\r\n: b\r\n\r\n",
            HeadError::HeaderName,
        ),
        (
            "field without a colon",
            "GET / HTTP/1.1\r\nHost: a.test\r\nA\r\n\r\n",
            HeadError::HeaderName,
        ),
        (
            "two Hosts",
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
            HeadError::Host,
        ),
        ("no Host", "GET / HTTP/1.1\r\n\r\n", HeadError::Host),
        (
            "no Host in HTTP/1.0",
            "GET / HTTP/1.0\r\n\r\n",
            HeadError::Host,
        ),
        (
            "user in Host",
            "GET / HTTP/1.1\r\nHost: a.test@b.test\r\n\r\n",
            HeadError::Authority(AuthorityError::UserInfo),
        ),
        (
            "Host with a port of zero",
            "GET / HTTP/1.1\r\nHost: a.test:0\r\n\r\n",
            HeadError::Authority(AuthorityError::Port),
        ),
        (
            "absolute target of another host",
            "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::HostsDiffer,
        ),
        (
            "absolute target of another port",
            "GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::HostsDiffer,
        ),
        (
            "user in an absolute target",
            "GET http://a.test@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Authority(AuthorityError::UserInfo),
        ),
        (
            "target of another scheme",
            "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Target,
        ),
        (
            "authority as target",
            "GET a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Target,
        ),
        (
            "* of GET",
            "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Target,
        ),
        (
            "CONNECT",
            "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::MethodRefused("CONNECT"),
        ),
        (
            "TRACE",
            "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::MethodRefused("TRACE"),
        ),
        (
            "method in lower case",
            "get / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Method,
        ),
        (
            "HTTP/2's preface",
            "PRI * HTTP/2.0\r\n\r\n",
            HeadError::Version,
        ),
        ("HTTP/0.9", "GET /\r\n", HeadError::RequestLine),
        (
            "two spaces",
            "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::RequestLine,
        ),
        (
            "tab for a space",
            "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::RequestLine,
        ),
        (
            "space in the target",
            "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::RequestLine,
        ),
        (
            "encoded slash",
            "GET /a%2fb HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Path(PathError::EncodedSlash),
        ),
        (
            "above the root",
            "GET /%2e%2e/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Path(PathError::AboveRoot),
        ),
        (
            "fragment in the target",
            "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Path(PathError::Byte),
        ),
        (
            "fragment in the query",
            "GET /?a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
            HeadError::Query,
        ),
        (
            "Host as a hop-by-hop field",
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, host\r\n\r\n",
            HeadError::Connection,
        ),
        (
            "length as a hop-by-hop field",
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: content-length\r\n\r\n",
            HeadError::Connection,
        ),
        (
            "unknown expectation",
            "GET / HTTP/1.1\r\nHost: a.test\r\nExpect: 200-ok\r\n\r\n",
            HeadError::Expect,
        ),
        (
            "WebSocket by POST",
            "POST / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            HeadError::Upgrade,
        ),
    ];
    for (what, text, why) in cases {
        assert_eq!(parse(text.as_bytes()), Err(*why), "{what}");
        assert!((400..=505).contains(&why.status()), "{what}");
    }
}

#[test]
fn the_controls_are_read() {
    for text in [
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
        "GET http://a.test:80/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, x-hop\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nA: b\tcü\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ] {
        assert!(
            matches!(parse(text.as_bytes()), Ok(Parsed::Head(..))),
            "{text}"
        );
    }
}

#[test]
fn a_head_is_bounded_before_it_is_whole() {
    let start = "GET / HTTP/1.1\r\nHost: a.test\r\n";
    let fields = |n: usize| format!("{start}{}\r\n", "A: b\r\n".repeat(n));
    assert!(matches!(
        parse(fields(127).as_bytes()),
        Ok(Parsed::Head(..))
    ));
    assert_eq!(parse(fields(128).as_bytes()), Err(HeadError::TooMany));
    let endless = format!("{start}A: {}", "b".repeat(40_000));
    assert_eq!(parse(endless.as_bytes()), Err(HeadError::TooLong));
    let big = format!(
        "{start}{}",
        "A: bbbbbbbbbbbbbbbb\r\n"
            .repeat(100)
            .replace("bbbb", &"b".repeat(200))
    );
    assert_eq!(parse(big.as_bytes()), Err(HeadError::TooLong));
}
