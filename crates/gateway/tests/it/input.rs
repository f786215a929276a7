//! Bad input: every refusal names its place and changes nothing.

use axum::http::Method;
use serde_json::{Value, json};

use crate::support::{Server, agent, environment};

/// Every built route that takes a body, with a body it accepts up to the named things.
async fn routes_with_bodies(server: &Server) -> Vec<(String, Value)> {
    let agent_id = server.create("/v1/agents", agent()).await;
    let environment_id = server.create("/v1/environments", environment()).await;
    let session = json!({"agent": agent_id, "environment_id": environment_id});
    let session_id = server.create("/v1/sessions", session.clone()).await;
    let vault = json!({"display_name": "v"});
    let vault_id = server.create("/v1/vaults", vault.clone()).await;
    let credential = json!({"auth": {
        "type": "static_bearer", "token": "t", "mcp_server_url": "https://mcp.example/"
    }});
    let credentials = format!("/v1/vaults/{vault_id}/credentials");
    let credential_id = server.create(&credentials, credential).await;
    let credential = json!({"auth": {
        "type": "static_bearer", "token": "t", "mcp_server_url": "https://other.example/"
    }});
    let message = json!({"events": [
        {"type": "user.message", "content": [{"type": "text", "text": "hi"}]}
    ]});
    vec![
        ("/v1/agents".to_owned(), agent()),
        (format!("/v1/agents/{agent_id}"), json!({"name": "b"})),
        ("/v1/environments".to_owned(), environment()),
        (
            format!("/v1/environments/{environment_id}"),
            json!({"name": "b"}),
        ),
        ("/v1/sessions".to_owned(), session),
        (format!("/v1/sessions/{session_id}"), json!({"title": "b"})),
        (format!("/v1/sessions/{session_id}/events"), message),
        ("/v1/vaults".to_owned(), vault),
        (
            format!("/v1/vaults/{vault_id}"),
            json!({"display_name": "b"}),
        ),
        (credentials.clone(), credential),
        (
            format!("{credentials}/{credential_id}"),
            json!({"display_name": "b"}),
        ),
    ]
}

#[tokio::test]
async fn malformed_bodies_are_refused_on_every_route() {
    let server = Server::start().await;
    for (path, good) in routes_with_bodies(&server).await {
        let post = |body: Vec<u8>| server.ask(Method::POST, &path).body(body).send();
        let text = good.to_string();
        let unknown = {
            let mut body = good.clone();
            body["surprise"] = json!(1);
            body.to_string()
        };
        let nul = {
            let mut body = good.clone();
            body["metadata"] = json!({"k": "a\u{0}b"});
            body.to_string()
        };
        let cases = [
            ("cut", text.as_bytes()[..text.len() - 1].to_vec()),
            ("empty", Vec::new()),
            ("an array", b"[]".to_vec()),
            ("null", b"null".to_vec()),
            ("not UTF-8", [text.as_bytes(), b"\xff"].concat()),
            ("two values", format!("{text}{text}").into_bytes()),
            (
                "a key twice",
                format!("{{\"x\":1,\"x\":2,{}", &text[1..]).into_bytes(),
            ),
            (
                "a lone surrogate",
                text.replacen("{\"", "{\"\\ud800", 1).into_bytes(),
            ),
            ("an unknown field", unknown.into_bytes()),
            ("NUL", nul.into_bytes()),
        ];
        for (case, body) in cases {
            let answer = post(body).await;
            assert_eq!(answer.status, 400, "{path}: {case}: {}", answer.body);
            assert_eq!(
                answer.body["error"]["type"], "invalid_request_error",
                "{path}: {case}"
            );
            if case == "an unknown field" {
                assert!(
                    answer.message().contains("`surprise`"),
                    "{}",
                    answer.message()
                );
            }
        }
        let answer = post(text.into_bytes()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json_in_utf_8() {
    let server = Server::start().await;
    for (path, good) in routes_with_bodies(&server).await {
        let post = |kind: &str| {
            let ask = server.ask(Method::POST, &path).body(good.to_string());
            ask.header("content-type", kind).send()
        };
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "nonsense",
            "json",
        ] {
            let answer = post(kind).await;
            assert_eq!(answer.status, 415, "{path}: {kind}: {}", answer.body);
            assert!(answer.message().contains("application/json"));
        }
        let answer = post("application/json; charset=utf-16").await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, Some("unsupported_charset")),
            "{path}"
        );
        let answer = server
            .ask(Method::POST, &path)
            .body(good.to_string())
            .header("content-encoding", "gzip")
            .send()
            .await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(
            answer.code(),
            Some("request_body_encoding_unsupported"),
            "{path}"
        );
        assert_eq!(
            post("application/json; charset=\"UTF-8\"").await.status,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_system_message_stands_last_and_goes_with_what_it_follows() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}/events");
    let text = json!([{"type": "text", "text": "t"}]);
    let message = json!({"type": "user.message", "content": text});
    let system = json!({"type": "system.message", "content": text});
    let interrupt = json!({"type": "user.interrupt"});
    for (events, place) in [
        (json!([system]), 0),
        (json!([system, message]), 0),
        (json!([interrupt, system]), 1),
        (json!([message, system, system]), 1),
    ] {
        let answer = server.post(&path, json!({"events": events})).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        let named = format!("`events[{place}]`");
        assert!(answer.message().starts_with(&named), "{}", answer.message());
    }
    let image =
        json!([{"type": "image", "source": {"type": "url", "url": "https://a.test/x.png"}}]);
    let pictured = json!({"type": "system.message", "content": image});
    let answer = server
        .post(&path, json!({"events": [message, pictured]}))
        .await;
    assert!(
        answer.message().starts_with("`events[1].content[0].type`"),
        "{}",
        answer.message()
    );
    let taken = server
        .post(&path, json!({"events": [message, system]}))
        .await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    assert_eq!(taken.body["data"][1]["type"], "system.message");
}

#[tokio::test]
async fn a_body_in_latin_1_is_understood() {
    let server = Server::start().await;
    let body = b"{\"name\": \"caf\xe9\", \"config\": {\"type\": \"cloud\"}}".to_vec();
    let made = server
        .ask(Method::POST, "/v1/environments")
        .body(body)
        .header("content-type", "application/json; charset=ISO-8859-1")
        .send()
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["name"], "caf\u{e9}");
}

#[tokio::test]
async fn a_body_over_32_mb_is_too_large_and_one_of_32_mb_is_read() {
    let server = Server::start().await;
    let over = vec![b' '; contract::limits::BODY_BYTES + 1];
    for path in ["/v1/agents", "/v1/sessions", "/v1/vaults"] {
        let answer = server
            .ask(Method::POST, path)
            .body(over.clone())
            .send()
            .await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.body);
        assert_eq!(answer.body["error"]["type"], "request_too_large");
    }
    let mut exact = agent().to_string().into_bytes();
    exact.resize(contract::limits::BODY_BYTES, b' ');
    let answer = server
        .ask(Method::POST, "/v1/agents")
        .body(exact)
        .send()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_route_without_a_body_takes_none_or_an_empty_object() {
    let server = Server::start().await;
    let id = server.create("/v1/agents", agent()).await;
    let path = format!("/v1/agents/{id}/archive");
    let answer = server
        .ask(Method::POST, &path)
        .body("{\"force\":true}")
        .send()
        .await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.message().contains("`force`"), "{}", answer.message());
    for body in ["", "{}", " \n"] {
        let answer = server.ask(Method::POST, &path).body(body).send().await;
        assert_eq!(answer.status, 200, "{body:?}: {}", answer.body);
    }
}

/// Posts a change of `good` and expects a 400 that names `path`.
async fn refused(server: &Server, to: &str, good: &Value, change: (&str, Value), path: &str) {
    let mut body = good.clone();
    match change.1 {
        Value::String(ref gone) if gone == "(absent)" => {
            body.as_object_mut().unwrap().remove(change.0);
        }
        value => body[change.0] = value,
    }
    let answer = server.post(to, body).await;
    assert_eq!(answer.status, 400, "{to} {}: {}", change.0, answer.body);
    let named = format!("`{path}`");
    assert!(
        answer.message().starts_with(&named),
        "{to}: {} lacks {named}",
        answer.message()
    );
}

fn pairs(count: usize) -> Value {
    (0..count)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn a_refusal_names_the_field() {
    let server = Server::start().await;
    let absent = || json!("(absent)");
    let long = |n: usize| json!("x".repeat(n));
    let good = agent();
    for (change, path) in [
        (("name", absent()), "name"),
        (("name", json!(1)), "name"),
        (("name", json!(null)), "name"),
        (("name", json!("")), "name"),
        (("name", long(257)), "name"),
        (("model", absent()), "model"),
        (
            ("model", json!({"id": "m", "speed": "warp"})),
            "model.speed",
        ),
        (("system", long(100_001)), "system"),
        (("description", long(2_049)), "description"),
        (("tools", json!([{"type": "robot"}])), "tools[0].type"),
        (("tools", json!({})), "tools"),
        (("metadata", pairs(17)), "metadata"),
        (("metadata", json!({"k": 1})), "metadata.k"),
    ] {
        refused(&server, "/v1/agents", &good, change, path).await;
    }
    let good = environment();
    for (change, path) in [
        (("name", absent()), "name"),
        (("name", long(257)), "name"),
        (("config", json!({"type": "moon"})), "config.type"),
        (("scope", json!("account")), "scope"),
        (("metadata", pairs(17)), "metadata"),
    ] {
        refused(&server, "/v1/environments", &good, change, path).await;
    }
    let good = json!({"display_name": "v"});
    for (change, path) in [
        (("display_name", absent()), "display_name"),
        (("display_name", long(256)), "display_name"),
        (("metadata", pairs(17)), "metadata"),
    ] {
        refused(&server, "/v1/vaults", &good, change, path).await;
    }
}

#[tokio::test]
async fn a_session_names_the_field_that_is_wrong() {
    let server = Server::start().await;
    let agent_id = server.create("/v1/agents", agent()).await;
    let environment_id = server.create("/v1/environments", environment()).await;
    let good = json!({"agent": agent_id, "environment_id": environment_id});
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    for (change, path) in [
        (("agent", json!("(absent)")), "agent"),
        (("agent", json!("nonsense")), "agent"),
        (("agent", json!("agent_1111111111111111111111")), "agent"),
        (
            ("agent", json!({"type": "agent", "id": "agent_1"})),
            "agent.id",
        ),
        (("environment_id", json!("nonsense")), "environment_id"),
        (
            ("environment_id", json!("env_1111111111111111111111")),
            "environment_id",
        ),
        (("vault_ids", json!(["vlt_1"])), "vault_ids[0]"),
        (
            ("vault_ids", json!(["vlt_1111111111111111111111"])),
            "vault_ids[0]",
        ),
        (("title", json!("x".repeat(1_025))), "title"),
        (("metadata", pairs(17)), "metadata"),
        (
            ("initial_events", json!([{"type": "user.interrupt"}])),
            "initial_events[0].type",
        ),
        (
            (
                "initial_events",
                json!([{"type": "user.message", "content": text("")}]),
            ),
            "initial_events[0].content[0].text",
        ),
    ] {
        refused(&server, "/v1/sessions", &good, change, path).await;
    }
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_name_and_never_ignored() {
    let server = Server::start().await;
    let environment_id = server.create("/v1/environments", environment()).await;
    let mut surfing = agent();
    surfing["tools"] = json!([{"type": "agent_toolset_20260401",
        "configs": [{"name": "web_fetch", "enabled": true}]}]);
    let mut skilled = agent();
    skilled["skills"] = json!([{"type": "anthropic", "skill_id": "xlsx"}]);
    for (definition, path) in [
        (surfing, "agent.tools[0].configs[0]"),
        (skilled, "agent.skills"),
    ] {
        let id = server.create("/v1/agents", definition).await;
        let body = json!({"agent": id, "environment_id": environment_id});
        let answer = server.post("/v1/sessions", body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, Some("not_implemented")),
            "{path}"
        );
        assert!(
            answer.message().contains(&format!("`{path}`")),
            "{}",
            answer.message()
        );
    }
    let agent_id = server.create("/v1/agents", agent()).await;
    let good = json!({"agent": agent_id, "environment_id": environment_id});
    for (field, value) in [(
        "resources",
        json!([{"type": "file", "file_id": "file_1111111111111111111111"}]),
    )] {
        let mut body = good.clone();
        body[field] = value;
        let answer = server.post("/v1/sessions", body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, Some("not_implemented")),
            "{field}"
        );
        assert!(answer.message().contains(field), "{}", answer.message());
    }
    let hosted = json!({"name": "own", "config": {"type": "self_hosted"}});
    let hosted = server.create("/v1/environments", hosted).await;
    let answer = server
        .post(
            "/v1/sessions",
            json!({"agent": agent_id, "environment_id": hosted}),
        )
        .await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, Some("not_implemented"))
    );
    let sessions = server.get("/v1/sessions").await;
    assert_eq!(
        sessions.body["data"],
        json!([]),
        "a refused create leaves nothing behind"
    );
}

#[tokio::test]
async fn events_that_are_not_built_name_their_place() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}/events");
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]});
    let id = "sevt_1111111111111111111111";
    for event in [
        json!({"type": "user.tool_result", "tool_use_id": id}),
        json!({"type": "user.robot"}),
    ] {
        let answer = server
            .post(&path, json!({"events": [message, event]}))
            .await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(
            answer.message().starts_with("`events[1].type`"),
            "{}",
            answer.message()
        );
    }
    let events = server.get(&path).await;
    assert_eq!(
        events.body["data"],
        json!([]),
        "a batch is taken whole or refused whole"
    );
    let answer = server.post(&path, json!({"events": []})).await;
    assert_eq!(answer.status, 400);
    let result = json!({"type": "user.custom_tool_result", "custom_tool_use_id": id});
    let answer = server.post(&path, json!({"events": [result]})).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(
        answer.message().contains("does not match any"),
        "{}",
        answer.message()
    );
}

#[tokio::test]
async fn a_refusal_reads_a_little_of_the_body_so_that_its_client_sees_it() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::ServiceExt;

    const PIECE: usize = 64 * 1024;
    let server = Server::start().await;
    for (path, key, status) in [
        ("/v1/agents", "wrong", 401),
        ("/v1/files", &*server.key, 501),
    ] {
        for (pieces, least, most) in [(16, 16, 16), (1_000, 32, 200)] {
            let read = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&read);
            let stream = futures_util::stream::iter((0..pieces).map(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(vec![b' '; PIECE])
            }));
            let request = axum::http::Request::post(path)
                .header("authorization", format!("Bearer {key}"))
                .header("anthropic-version", "2026-10-21")
                .header("anthropic-beta", "managed-agents-2026-04-01")
                .body(axum::body::Body::from_stream(stream))
                .unwrap();
            let response = server.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            let read = read.load(Ordering::Relaxed);
            assert!((least..=most).contains(&read), "{path}: {read} of {pieces}");
        }
    }
}
