//! `Idempotency-Key`: what is sent again is answered again and done once.

use axum::http::Method;
use gateway::Config;
use serde_json::{Value, json};
use store::caps::Caps;

use crate::support::{Answer, Server, agent, environment};

async fn post(server: &Server, key: &str, path: &str, body: &Value) -> Answer {
    let ask = server
        .ask(Method::POST, path)
        .header("idempotency-key", key);
    ask.body(body.to_string()).send().await
}

async fn count(server: &Server, path: &str) -> usize {
    server.get(path).await.body["data"]
        .as_array()
        .unwrap()
        .len()
}

/// The requests that make something or that append, each with the list that would show two of it.
async fn requests(server: &Server) -> Vec<(String, Value, String)> {
    let agent_id = server.create("/v1/agents", agent()).await;
    let environment_id = server.create("/v1/environments", environment()).await;
    let session = server.session().await;
    let vault = server
        .create("/v1/vaults", json!({"display_name": "v"}))
        .await;
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": "hi"}]});
    let credential = json!({"auth": {
        "type": "static_bearer", "mcp_server_url": "https://m.example/", "token": "t"
    }});
    let new = json!({"agent": agent_id, "environment_id": environment_id});
    let credentials = format!("/v1/vaults/{vault}/credentials");
    let events = format!("/v1/sessions/{session}/events");
    let update = format!("/v1/agents/{agent_id}");
    let all = [
        ("/v1/agents", agent(), "/v1/agents"),
        ("/v1/environments", environment(), "/v1/environments"),
        ("/v1/vaults", json!({"display_name": "w"}), "/v1/vaults"),
        ("/v1/sessions", new, "/v1/sessions"),
        (&credentials, credential, &credentials),
        (&events, json!({"events": [message]}), &events),
        (&update, json!({"name": "b"}), &format!("{update}/versions")),
    ];
    all.map(|(path, body, list)| (path.to_owned(), body, list.to_owned()))
        .to_vec()
}

#[tokio::test]
async fn the_same_request_under_the_same_key_is_done_once_and_answered_alike() {
    let server = Server::start().await;
    for (index, (path, body, list)) in requests(&server).await.into_iter().enumerate() {
        let key = format!("key-{index}");
        let first = post(&server, &key, &path, &body).await;
        assert_eq!(first.status, 200, "{path}: {}", first.body);
        assert_eq!(first.header("idempotent-replayed"), None);
        let before = count(&server, &list).await;
        let second = post(&server, &key, &path, &body).await;
        assert_eq!((second.status, &second.body), (200, &first.body), "{path}");
        assert_eq!(second.header("idempotent-replayed"), Some("true"));
        assert_ne!(second.header("request-id"), first.header("request-id"));
        assert_eq!(count(&server, &list).await, before, "{path}");
        // Without the key it is another request.
        let third = server.post(&path, body.clone()).await;
        assert_eq!(third.header("idempotent-replayed"), None, "{path}");
    }
}

#[tokio::test]
async fn another_request_under_a_used_key_is_refused_by_name() {
    let server = Server::start().await;
    let first = post(&server, "k", "/v1/vaults", &json!({"display_name": "a"})).await;
    assert_eq!(first.status, 200);
    for (path, body) in [
        ("/v1/vaults", json!({"display_name": "b"})),
        ("/v1/agents", json!({"display_name": "a"})),
    ] {
        let refused = post(&server, "k", path, &body).await;
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(
            refused
                .message()
                .starts_with("Idempotency-Key: another request")
        );
        assert_eq!(refused.code(), Some("idempotency_key_reused"));
    }
}

#[tokio::test]
async fn a_refusal_is_not_kept() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}");
    let bad = post(&server, "k", &path, &json!({"title": 7})).await;
    assert_eq!(bad.status, 400);
    let good = post(&server, "k", &path, &json!({"title": "seven"})).await;
    assert_eq!(good.status, 200, "{}", good.body);
}

#[tokio::test]
async fn what_only_sets_values_is_answered_as_it_was_then() {
    let server = Server::start().await;
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}");
    let first = post(&server, "k", &path, &json!({"title": "one"})).await;
    assert_eq!(first.status, 200, "{}", first.body);
    server.post(&path, json!({"title": "two"})).await;
    let again = post(&server, "k", &path, &json!({"title": "one"})).await;
    assert_eq!(again.body, first.body);
    assert_eq!(server.get(&path).await.body["title"], "two");
}

#[tokio::test]
async fn of_many_at_once_one_is_done_and_all_have_its_answer() {
    let server = Server::start().await;
    let body = json!({"display_name": "v"});
    let asks = (0..20).map(|_| post(&server, "k", "/v1/vaults", &body));
    let answers = futures_util::future::join_all(asks).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["id"], answers[0].body["id"]);
    }
    assert_eq!(count(&server, "/v1/vaults").await, 1);
}

#[tokio::test]
async fn a_key_is_a_workspaces_own() {
    let server = Server::start().await;
    let made = server.operate(Method::POST, "/v1/x/workspaces");
    let made = made.body(json!({"name": "other"}).to_string()).send().await;
    let key = server
        .new_key(json!({"name": "k", "workspace_id": made.body["id"]}))
        .await;
    let body = json!({"display_name": "v"});
    let first = post(&server, "k", "/v1/vaults", &body).await;
    let ask = server.ask(Method::POST, "/v1/vaults").key(&key);
    let other = ask
        .header("idempotency-key", "k")
        .body(body.to_string())
        .send()
        .await;
    assert_eq!(other.status, 200, "{}", other.body);
    assert_ne!(first.body["id"], other.body["id"]);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_operators_routes_take_none() {
    let server = Server::start().await;
    for bad in ["", "with space", &"x".repeat(256)] {
        let refused = post(&server, bad, "/v1/vaults", &json!({"display_name": "v"})).await;
        assert_eq!(refused.status, 400, "{bad:?}");
        assert!(refused.message().starts_with("Idempotency-Key: "));
    }
    let ask = server
        .operate(Method::POST, "/v1/x/keys")
        .header("idempotency-key", "k");
    let refused = ask.body(json!({"name": "n"}).to_string()).send().await;
    assert_eq!(refused.status, 400, "a key's text is stored nowhere");
}

#[tokio::test]
async fn a_workspace_without_room_for_answers_is_refused_by_name_before_anything_is_done() {
    let caps = Caps {
        kept: 1_000,
        ..Caps::default()
    };
    let server = Server::capped(Config::default(), caps).await;
    let body = json!({"display_name": "v"});
    let first = post(&server, "first", "/v1/vaults", &body).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let mut full = Vec::new();
    for n in 0..4 {
        full.push(post(&server, &format!("more-{n}"), "/v1/vaults", &body).await);
    }
    let refused = full.pop().expect("the last of four");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(refused.code(), Some("workspace_limit_reached"));
    assert!(refused.message().starts_with("Idempotency-Key: "));
    assert!(refused.message().contains("`limits.workspace_kept_bytes`"));
    let done = 1 + full.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(count(&server, "/v1/vaults").await, done);
    // What was kept is still given, and who sends no key is not touched.
    let again = post(&server, "first", "/v1/vaults", &body).await;
    assert_eq!((again.status, again.body), (200, first.body));
    assert_eq!(server.post("/v1/vaults", body).await.status, 200);
    let said = server.bare(Method::GET, "/metrics").send().await.body;
    let said = said.as_str().expect("text").to_owned();
    let hit = r#"longhand_gateway_limit_hits_total{limit="Kept"}"#;
    assert!(
        said.lines()
            .any(|line| line.starts_with(hit) && !line.ends_with(" 0")),
        "{said}"
    );
}
