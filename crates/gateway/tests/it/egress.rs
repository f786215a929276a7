//! The audit of what sandboxes reach, as a key and an operator see it, and the record of actions.

use std::path::Path;

use axum::http::Method;
use contract::ids::{SessionId, WorkspaceId};
use contract::time::Micros;
use egress::audit::{Action, Audit, Kind, Options, Record, Stage, read_control};
use serde_json::{Value, json};

use crate::support::{ACTIONS, Server, agent, environment};

fn record(n: u64) -> Record {
    Record {
        at: Micros(i64::try_from(n).unwrap() * 1_000_000),
        kind: Kind::Request,
        workspace: n.is_multiple_of(2).then_some(WorkspaceId::Default),
        sandbox: format!("sb_{}", n % 3),
        session: Some(SessionId::from_bits(u128::from(n % 4))),
        thread: None,
        name: Some("api.test".to_owned()),
        address: Some("192.0.2.7".parse().unwrap()),
        port: Some(443),
        protocol: "http".to_owned(),
        method: Some("GET".to_owned()),
        path: Some("/v1".to_owned()),
        rule: "allowed_hosts".to_owned(),
        action: if n.is_multiple_of(5) {
            Action::Denied
        } else {
            Action::Allowed
        },
        reason: "listed".to_owned(),
        credential: None,
        bytes_out: n,
        bytes_in: 0,
        duration_us: 1_500_000,
        upstream_status: Some(200),
    }
}

async fn recorded(path: &Path) {
    let audit = Audit::open(path, Options::default()).unwrap();
    for n in 1..=60 {
        audit.record_durably(record(n)).await.unwrap();
    }
    audit.close();
}

async fn audited() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.db");
    recorded(&path).await;
    (dir, Server::audited(path).await)
}

/// The places of every page of a list, as the operator sees them.
async fn places(server: &Server, query: &str) -> Vec<u64> {
    let mut places = Vec::new();
    let mut path = format!("/v1/x/egress_audit?{query}");
    loop {
        let page = server.operate(Method::GET, &path).send().await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        let data = page.body["data"].as_array().unwrap();
        places.extend(data.iter().map(|one| one["seq"].as_u64().unwrap()));
        let Some(next) = page.body["next_page"].as_str() else {
            return places;
        };
        path = format!("/v1/x/egress_audit?{query}&page={next}");
    }
}

#[tokio::test]
async fn records_are_listed_by_page_filter_and_order() {
    let (_dir, server) = audited().await;
    let all: Vec<u64> = (1..=60).rev().collect();
    assert_eq!(places(&server, "limit=7").await, all);
    let session = SessionId::from_bits(2);
    let of = |is: fn(&u64) -> bool| (1..=60).filter(is).collect::<Vec<_>>();
    for (filter, is) in [
        (
            "sandbox_id=sb_1".to_owned(),
            (|n| n % 3 == 1) as fn(&u64) -> bool,
        ),
        (format!("session_id={session}"), |n| n % 4 == 2),
        ("action=denied".to_owned(), |n| n % 5 == 0),
        ("host=API.test.".to_owned(), |_| true),
        ("host=192.0.2.7".to_owned(), |_| true),
        ("host=other.test".to_owned(), |_| false),
        (
            "since=1970-01-01T00:00:10Z&until=1970-01-01T00:00:20Z".to_owned(),
            |n| (10..20).contains(n),
        ),
        ("after=55".to_owned(), |n| *n > 55),
    ] {
        let query = format!("order=asc&limit=3&{filter}");
        assert_eq!(places(&server, &query).await, of(is), "{filter}");
    }
    let one = server
        .operate(Method::GET, "/v1/x/egress_audit?limit=1")
        .send()
        .await;
    let one = &one.body["data"][0];
    assert_eq!(
        (&one["type"], &one["about"], &one["host"], &one["seconds"]),
        (
            &json!("egress_record"),
            &json!("request"),
            &json!("api.test"),
            &json!(1.5)
        )
    );
}

#[tokio::test]
async fn a_key_sees_only_what_its_own_workspace_reached() {
    let (_dir, server) = audited().await;
    let seen = server.get("/v1/x/egress_audit?limit=1000&order=asc").await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let seen: Vec<u64> = seen.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, (1..=60).filter(|n| n % 2 == 0).collect::<Vec<_>>());
    let other = server
        .operate(Method::POST, "/v1/x/workspaces")
        .body(json!({"name": "other"}).to_string())
        .send()
        .await;
    let key = server
        .new_key(json!({"name": "k", "workspace_id": other.body["id"]}))
        .await;
    let none = server
        .ask(Method::GET, "/v1/x/egress_audit")
        .key(&key)
        .send()
        .await;
    assert_eq!((none.status, &none.body["data"]), (200, &json!([])));
}

#[tokio::test]
async fn a_question_about_the_audit_that_is_wrong_names_its_field() {
    let (_dir, server) = audited().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("order=up", "order"),
        ("action=maybe", "action"),
        ("since=yesterday", "since"),
        ("host=a..b", "host"),
        ("session_id=nobody", "session_id"),
        ("after=-1", "after"),
        ("wrong=1", "wrong"),
    ] {
        let refused = server
            .operate(Method::GET, &format!("/v1/x/egress_audit?{query}"))
            .send()
            .await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(
            refused.message().contains(&format!("`{field}`")),
            "{}",
            refused.message()
        );
    }
    let first = server
        .operate(Method::GET, "/v1/x/egress_audit?limit=1")
        .send()
        .await;
    let page = first.body["next_page"].as_str().unwrap();
    let other = server
        .operate(
            Method::GET,
            &format!("/v1/x/egress_audit?order=asc&page={page}"),
        )
        .send()
        .await;
    assert_eq!(other.message(), "page token order does not match request");
}

#[tokio::test]
async fn without_a_network_or_a_server_it_says_so() {
    let server = Server::start().await;
    for path in ["/v1/x/egress_audit", "/v1/x/egress_audit/stream"] {
        let answer = server.operate(Method::GET, path).send().await;
        assert_eq!(answer.status, 501, "{path}");
        assert!(
            answer.message().contains("egress.enabled"),
            "{}",
            answer.message()
        );
    }
    let (_dir, server) = audited().await;
    let answer = server
        .operate(Method::GET, "/v1/x/egress_audit/stream")
        .send()
        .await;
    assert!(
        answer.status == 501 && answer.message().contains("No server runs"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn each_action_on_keys_policies_and_credentials_is_recorded_before_it_is_done_and_after() {
    let server = Server::start().await;
    let environment_id = server.create("/v1/environments", environment()).await;
    server.create("/v1/agents", agent()).await;
    let path = format!("/v1/environments/{environment_id}");
    let limited = json!({"config": {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["a.test"]}}});
    assert_eq!(server.post(&path, limited).await.status, 200);
    assert_eq!(
        server
            .post("/v1/environments/env_1111111111111111111111", json!({}))
            .await
            .status,
        404
    );
    server.get(&path).await;
    let vault = server
        .create("/v1/vaults", json!({"display_name": "v"}))
        .await;
    assert_eq!(
        server.delete(&format!("/v1/vaults/{vault}")).await.status,
        200
    );
    let (found, _) = read_control(&server.dir.path().join(ACTIONS), 0, 100).unwrap();
    let steps: Vec<Value> = found
        .iter()
        .map(|(_, one)| json!([one.what, one.stage, one.status]))
        .collect();
    let both = |what: &str, end: Stage, status: u16| {
        [
            json!([what, Stage::Begun, null]),
            json!([what, end, status]),
        ]
    };
    let wanted = [
        // The test's own key.
        both("POST /v1/x/keys", Stage::Done, 200),
        both("POST /v1/environments", Stage::Done, 200),
        both("POST /v1/environments/{environment_id}", Stage::Done, 200),
        both(
            "POST /v1/environments/{environment_id}",
            Stage::Refused,
            404,
        ),
        both("POST /v1/vaults", Stage::Done, 200),
        both("DELETE /v1/vaults/{vault_id}", Stage::Done, 200),
    ];
    assert_eq!(steps, wanted.concat());
    let (_, update) = &found[4];
    assert_eq!(update.target, path);
    assert!(
        update
            .key
            .as_ref()
            .is_some_and(|key| key.starts_with("apikey_"))
    );
    assert_eq!(found[4].1.request, found[5].1.request);
    let text =
        serde_json::to_string(&found.iter().map(|(_, one)| one).collect::<Vec<_>>()).unwrap();
    assert!(
        !text.contains(&server.key) && !text.contains("a.test"),
        "no body is recorded"
    );
}
