//! Failures by class, what their texts say and what they must not say, limits and cancel.

use std::time::Duration;

use model::{Class, Dialect, Error, Origin, Phase, Secret};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fixture::{
    KEY, ask, ask_with, client, client_with, endpoint, request, said, script, scripted, text, until,
};
use crate::raw::Raw;

const ALL: [Dialect; 3] = Dialect::ALL;

#[tokio::test]
async fn a_refused_key_is_named_by_header_and_source_and_never_shown() {
    let server = scripted().await;
    for (dialect, header) in [
        (ALL[0], "`x-api-key`"),
        (ALL[1], "`authorization`"),
        (ALL[2], "`authorization`"),
    ] {
        let mut ep = endpoint(dialect, &server.base_url());
        ep.key = Secret::new("bad-key-4711".to_owned());
        let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
        assert!(matches!(failure.error, Error::Auth { status: 401, .. }));
        assert_eq!(failure.error.class(), Class::Fatal);
        let words = failure.to_string();
        for part in [
            header,
            "vault vlt_test credential vcrd_test",
            "[removed]",
            &server.base_url(),
        ] {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
        assert!(
            !format!("{words}{failure:?}{ep:?}").contains("bad-key-4711"),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn statuses_become_classes() {
    let server = scripted().await;
    for dialect in ALL {
        let ep = endpoint(dialect, &server.base_url());
        for (status, class) in [
            (400, Class::Fatal),
            (403, Class::Fatal),
            (404, Class::Fatal),
            (408, Class::Retry),
            (409, Class::Retry),
            (413, Class::TooLong),
            (402, Class::Fatal),
            (429, Class::Retry),
            (500, Class::Retry),
            (502, Class::Retry),
            (529, Class::Retry),
        ] {
            let steps = json!([{"error": status, "retry_after": 7}, {"text": "then it worked"}]);
            let asked = request(vec![script(steps)]);
            let failure = ask(&ep, &asked).await.unwrap_err();
            assert_eq!(failure.error.class(), class, "{status}: {failure}");
            let expected = match status {
                429 => matches!(failure.error, Error::RateLimited { .. }),
                529 => matches!(failure.error, Error::Overloaded { .. }),
                404 => matches!(failure.error, Error::NotFound { .. }),
                402 => matches!(failure.error, Error::Billing { .. }),
                413 => matches!(failure.error, Error::TooLong { .. }),
                408 | 409 | 500 | 502 => {
                    matches!(failure.error, Error::Server { status: Some(s), .. } if s == status)
                }
                403 => matches!(failure.error, Error::Auth { status: 403, .. }),
                _ => matches!(failure.error, Error::BadRequest { status: s, .. } if s == status),
            };
            assert!(expected, "{status}: {:?}", failure.error);
            let wait = (class == Class::Retry).then_some(Duration::from_secs(7));
            assert_eq!(failure.error.retry_after(), wait, "{status}");
            assert!(
                failure
                    .to_string()
                    .contains(&format!("The script answers {status}.")),
                "{failure}"
            );
            assert_eq!(
                said(&ask(&ep, &asked).await.unwrap()),
                "then it worked",
                "{status}: the script goes on"
            );
        }
    }
}

#[tokio::test]
async fn an_error_inside_the_stream_is_classed_and_keeps_the_usage() {
    let server = scripted().await;
    let ep = endpoint(Dialect::AnthropicMessages, &server.base_url());
    let failure = ask(
        &ep,
        &request(vec![script(json!([{"error_event": "overloaded_error"}]))]),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(failure.error, Error::Overloaded { .. }),
        "{failure}"
    );
    assert!(failure.partial_usage.total_input() > 0);
    let ep = endpoint(Dialect::OpenAiChat, &server.base_url());
    let failure = ask(
        &ep,
        &request(vec![script(json!([{"error_event": "server_error"}]))]),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(failure.error, Error::Server { status: None, .. }),
        "{failure}"
    );
}

#[tokio::test]
async fn cut_and_garbage_are_told_apart() {
    let server = scripted().await;
    for dialect in ALL {
        let ep = endpoint(dialect, &server.base_url());
        let cut = json!([{"cut": true, "text": "half of this", "chunks": 6}]);
        let failure = ask(&ep, &request(vec![script(cut)])).await.unwrap_err();
        assert!(matches!(failure.error, Error::Cut { .. }), "{failure:?}");
        let failure = ask(&ep, &request(vec![script(json!([{"garbage": true}]))]))
            .await
            .unwrap_err();
        assert!(
            matches!(failure.error, Error::Garbage { .. }),
            "{failure:?}"
        );
    }
    // Cut politely in the middle of a line: the end of the body, without the end of the answer.
    let half = Raw::events("event: message_start\ndata: {\"type\":\"message_st").await;
    let ep = endpoint(Dialect::AnthropicMessages, &half.url());
    let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
    assert!(matches!(failure.error, Error::Cut { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_page_instead_of_a_stream_is_garbage_and_a_redirect_is_not_followed() {
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello";
    let server = Raw::start(page.to_owned(), false).await;
    let failure = ask(&endpoint(ALL[0], &server.url()), &request(vec![text("hi")]))
        .await
        .unwrap_err();
    assert!(failure.to_string().contains("text/html"), "{failure}");
    let elsewhere =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let server = Raw::start(elsewhere.to_owned(), false).await;
    let failure = ask(&endpoint(ALL[0], &server.url()), &request(vec![text("hi")]))
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Redirect { status: 302, .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn long_words_of_a_provider_are_cut_and_cleaned() {
    let body = format!("{}\u{7}{KEY}", "é".repeat(5000));
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let server = Raw::start(head + &body, false).await;
    let failure = ask(&endpoint(ALL[0], &server.url()), &request(vec![text("hi")]))
        .await
        .unwrap_err();
    let Error::BadRequest { message, .. } = &failure.error else {
        panic!("{failure:?}")
    };
    assert!(
        message.len() <= model::limits::ERROR_TEXT_BYTES && message.ends_with('…'),
        "{}",
        message.len()
    );
    assert!(!message.contains(KEY));
}

#[tokio::test]
async fn nobody_there_says_where_and_why() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let ep = endpoint(ALL[0], &format!("http://{gone}"));
    let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
    assert!(
        matches!(failure.error, Error::Connect { .. }),
        "{failure:?}"
    );
    assert!(
        failure.to_string().contains("refused") && failure.to_string().contains(&gone.to_string()),
        "{failure}"
    );
    assert_eq!(failure.error.class(), Class::Retry);
    let ep = endpoint(ALL[0], "http://no-such-host.invalid");
    let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("no-such-host.invalid cannot be resolved"),
        "{failure}"
    );
}

#[tokio::test]
async fn each_silence_has_its_limit() {
    let server = scripted().await;
    let ep = endpoint(ALL[0], &server.base_url());
    let short = Duration::from_millis(80);
    let phase = |outcome: Result<model::Reply, model::Failure>| match outcome.unwrap_err().error {
        Error::Timeout { phase, limit, .. } => (phase, limit),
        other => panic!("{other:?}"),
    };
    let hang = request(vec![script(json!([{"hang": true, "times": 0}]))]);
    let first_byte = client_with(|c| c.first_byte = short);
    assert_eq!(
        phase(ask_with(&first_byte, &ep, &hang).await.0),
        (Phase::FirstByte, short)
    );
    let total = client_with(|c| c.total = short);
    assert_eq!(
        phase(ask_with(&total, &ep, &hang).await.0),
        (Phase::Total, short)
    );
    let stuck = request(vec![script(
        json!([{"text": "a b", "chunks": 2, "wait_mid": "never"}]),
    )]);
    let idle = client_with(|c| c.idle = short);
    assert_eq!(
        phase(ask_with(&idle, &ep, &stuck).await.0),
        (Phase::Idle, short)
    );
}

#[tokio::test]
async fn cancel_closes_the_connection_and_keeps_the_usage() {
    let server = scripted().await;
    let ep = endpoint(ALL[0], &server.base_url());
    let asked = request(vec![script(
        json!([{"text": "a b", "chunks": 2, "wait_mid": "gate"}]),
    )]);
    let (client, cancel) = (client(), CancellationToken::new());
    let mut pieces = 0;
    let failure = client
        .stream(&ep, &asked, &cancel, &mut |delta| {
            if matches!(delta, model::Delta::Text { .. }) {
                pieces += 1;
                cancel.cancel();
            }
        })
        .await
        .unwrap_err();
    assert!(matches!(failure.error, Error::Cancelled));
    assert_eq!((failure.error.class(), pieces), (Class::Cancelled, 1));
    assert!(failure.partial_usage.total_input() > 0);
    // The server notices that its client is gone: nobody waits at the gate any more.
    until("the server to see the client go", || {
        server.stats().waiting.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_tenants_endpoint_is_dialled_only_where_the_operator_allows() {
    let server = scripted().await;
    let localhost = format!("http://localhost:{}", server.addr().port());
    for base in [
        server.base_url(),
        localhost,
        "http://[::ffff:127.0.0.1]:1".to_owned(),
        "http://0x7f.1:1".to_owned(),
    ] {
        let mut ep = endpoint(ALL[0], &base);
        ep.origin = Origin::Tenant;
        let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
        assert!(
            matches!(failure.error, Error::Denied { .. }),
            "{base}: {failure:?}"
        );
        let words = failure.to_string();
        assert!(
            words.contains("loopback") && words.contains("allow_private"),
            "{words}"
        );
    }
    assert!(server.requests().is_empty());
    let mut ep = endpoint(ALL[0], &server.base_url());
    ep.origin = Origin::Tenant;
    let lifted = client_with(|c| c.policy.allow_private.push("127.0.0.0/8".parse().unwrap()));
    ask_with(&lifted, &ep, &request(vec![text("hi")]))
        .await
        .0
        .unwrap();
}

#[tokio::test]
async fn settings_that_cannot_be_sent_are_named() {
    let server = scripted().await;
    for (name, value) in [
        ("x-api-key", "other"),
        ("Host", "evil"),
        ("bad name", "v"),
        ("x-ok", "line\nbreak"),
    ] {
        let mut ep = endpoint(ALL[0], &server.base_url());
        ep.headers.push((name.to_owned(), value.to_owned()));
        let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
        assert!(
            matches!(failure.error, Error::Settings { .. }),
            "{failure:?}"
        );
        assert!(
            failure.to_string().contains(name) && !failure.to_string().contains("break"),
            "{failure}"
        );
    }
    let failure = ask(&endpoint(ALL[0], &server.base_url()), &request(Vec::new()))
        .await
        .unwrap_err();
    assert!(
        matches!(failure.error, Error::Malformed { .. }),
        "{failure:?}"
    );
}

#[test]
fn base_urls_are_judged() {
    for (text, what) in [
        ("ftp://x", "not ftp:"),
        ("https://user:pw@x", "user name"),
        ("https://x/?key=1", "query"),
        ("x", "not a URL"),
    ] {
        let words = model::BaseUrl::parse(text).unwrap_err().to_string();
        assert!(words.contains(what), "{text}: {words}");
    }
    assert_eq!(
        model::BaseUrl::parse(" https://x/v1/ ").unwrap().as_str(),
        "https://x/v1"
    );
}

#[tokio::test]
async fn a_cancelled_request_is_never_sent() {
    let server = scripted().await;
    let ep = endpoint(ALL[0], &server.base_url());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let outcome = client()
        .stream(&ep, &request(vec![text("hi")]), &cancel, &mut |_| {})
        .await;
    assert!(matches!(outcome.unwrap_err().error, Error::Cancelled));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn what_looks_like_a_secret_header_is_scrubbed_and_ordinary_words_are_not() {
    let body = "the gateway token tok-123456789 of team blue is unknown";
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let server = Raw::start(head + body, false).await;
    let mut ep = endpoint(ALL[0], &server.url());
    ep.headers = vec![
        ("x-team".to_owned(), "blue".to_owned()),
        ("x-gateway".to_owned(), "Token tok-123456789".to_owned()),
    ];
    let words = ask(&ep, &request(vec![text("hi")]))
        .await
        .unwrap_err()
        .to_string();
    assert!(words.contains("token [removed] of team blue"), "{words}");
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_told_from_a_bad_one() {
    let server = scripted().await;
    for dialect in ALL {
        let ep = endpoint(dialect, &server.base_url());
        let asked = request(vec![script(json!([{"too_long": true}]))]);
        let failure = ask(&ep, &asked).await.unwrap_err();
        assert!(
            matches!(failure.error, Error::TooLong { .. }),
            "{dialect:?}: {:?}",
            failure.error
        );
        assert_eq!(failure.error.class(), Class::TooLong);
    }
}

#[tokio::test]
async fn servers_of_the_dialect_say_in_many_words_that_a_request_does_not_fit_or_is_not_paid() {
    let long = [
        r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error"}}"#,
        r#"{"object":"error","message":"This model's maximum context length is 16384 tokens. However, you requested 122946 tokens","code":400}"#,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000"}}"#,
    ];
    let unpaid = [
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
        r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
    ];
    let answer = |status: u16, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    for body in long {
        let raw = Raw::start(answer(400, body), false).await;
        let ep = endpoint(Dialect::OpenAiChat, &raw.url());
        let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
        assert_eq!(failure.error.class(), Class::TooLong, "{failure}");
    }
    for body in unpaid {
        let raw = Raw::start(answer(429, body), false).await;
        let ep = endpoint(Dialect::OpenAiChat, &raw.url());
        let failure = ask(&ep, &request(vec![text("hi")])).await.unwrap_err();
        assert!(matches!(failure.error, Error::Billing { .. }), "{failure}");
        assert_eq!(failure.error.class(), Class::Fatal);
    }
}
