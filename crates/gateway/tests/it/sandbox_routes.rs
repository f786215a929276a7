//! `/v1/x/sandboxes` over real sandboxes: what each route answers is held against the OpenAPI document, and nobody
//! sees or touches what is another workspace's.

use axum::http::Method;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{Ask, PATIENCE, Server, agent, environment};

/// What each route of one sandbox is asked with: its query and its body.
fn asked(route: &str) -> (&'static str, Option<Value>) {
    match route {
        "GET " | "GET /logs" | "GET /processes" | "DELETE " => ("", None),
        "POST /pause" | "POST /resume" | "POST /stop" => ("", Some(json!({}))),
        "POST /exec" => ("", Some(json!({"command": ["cat"], "stdin": "in"}))),
        "POST /forward" => ("?port=8000", Some(json!("x"))),
        "GET /files" | "GET /content" | "GET /files/watch" => ("?path=file", None),
        "GET /egress/explain" => ("?url=https://a.test/", None),
        "DELETE /files" => ("?path=file&all=true", None),
        "POST /directories" => ("", Some(json!({"path": "new"}))),
        "POST /move" => ("", Some(json!({"from": "file", "to": "moved"}))),
        "POST /content" => ("?path=file", Some(json!("content"))),
        other => panic!("{other}: say how it is asked"),
    }
}

/// Every route of one sandbox. Made from the document, so that none is missed.
fn routes() -> Vec<(Method, String)> {
    let document = gateway::openapi();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(rest) = path.strip_prefix("/v1/x/sandboxes/{sandbox_id}") else {
            continue;
        };
        for method in item.as_object().unwrap().keys() {
            if method != "parameters" {
                let method = method.to_uppercase().parse().unwrap();
                found.push((method, rest.to_owned()));
            }
        }
    }
    found
}

fn ask(server: &Server, method: &Method, id: &str, rest: &str) -> Ask {
    let (query, body) = asked(&format!("{method} {rest}"));
    let path = format!("/v1/x/sandboxes/{id}{rest}{query}");
    let ask = server.ask(method.clone(), &path);
    match body {
        // A file or the bytes of a connection are sent as they are.
        Some(Value::String(bytes)) => ask
            .header("content-type", "application/octet-stream")
            .body(bytes),
        Some(body) => ask.body(body.to_string()),
        None => ask,
    }
}

async fn stop(server: &Server) {
    let keeper = server.sandboxes.as_ref().unwrap();
    keeper.stop_all("the test is over").await;
}

#[tokio::test]
async fn another_workspaces_sandboxes_are_missing_whatever_is_asked_of_them() {
    let server = Server::with_sandboxes(|_| {}).await;
    let session = server.session().await;
    let exec = ask(&server, &Method::POST, &session, "/exec").send().await;
    assert_eq!(exec.body["stdout"], "in", "{}", exec.body);
    let written = ask(&server, &Method::POST, &session, "/content")
        .send()
        .await;
    assert_eq!(written.status, 200, "{}", written.body);
    let made = server
        .operate(Method::POST, "/v1/x/sandboxes")
        .body(r#"{"id": "operators"}"#)
        .send()
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    let workspace = server
        .operate(Method::POST, "/v1/x/workspaces")
        .body(r#"{"name": "other"}"#)
        .send()
        .await;
    let request = json!({"name": "other", "workspace_id": workspace.body["id"]});
    let other = server.new_key(request).await;
    let never = "sesn_1111111111111111111111";
    for (method, rest) in routes() {
        let unknown = ask(&server, &method, never, &rest).key(&other).send().await;
        assert_eq!(unknown.status, 404, "{method} {rest}: {}", unknown.body);
        for (id, key) in [
            (session.as_str(), &other),
            ("operators", &other),
            ("operators", &server.key),
            ("nobodys", &server.key),
        ] {
            let hidden = ask(&server, &method, id, &rest).key(key).send().await;
            assert_eq!(hidden.status, 404, "{method} {id}{rest}: {}", hidden.body);
            // Not even in words.
            let (mut told, mut wanted) = (hidden.body, unknown.body.clone());
            for body in [&mut told, &mut wanted] {
                body["request_id"] = json!(null);
                let message = body["error"]["message"].as_str().unwrap();
                let message = message.replace(id, "ID").replace(never, "ID");
                body["error"]["message"] = json!(message);
            }
            if id.starts_with("sesn_") {
                assert_eq!(told, wanted, "{method} {id}{rest}");
            }
        }
    }
    let listed = server
        .ask(Method::GET, "/v1/x/sandboxes")
        .key(&other)
        .send()
        .await;
    assert_eq!(listed.body["data"], json!([]));
    let create = server
        .ask(Method::POST, "/v1/x/sandboxes")
        .key(&other)
        .body("{}")
        .send()
        .await;
    assert_eq!(create.status, 403, "{}", create.body);
    // Nothing of all that had any effect.
    let file = ask(&server, &Method::GET, &session, "/content")
        .send()
        .await;
    assert_eq!(file.body, json!("content"));
    stop(&server).await;
}

#[tokio::test]
async fn every_route_answers_as_it_is_described() {
    let server = Server::with_sandboxes(|_| {}).await;
    let session = server.session().await;
    for (method, rest) in [
        ("POST", "/content"),
        ("GET", "/files"),
        ("GET", "/content"),
        ("POST", "/directories"),
        ("POST", "/exec"),
        ("GET", "/processes"),
        ("GET", ""),
        ("POST", "/pause"),
        ("GET", "/logs"),
        ("POST", "/resume"),
        ("POST", "/move"),
        ("POST", "/content"),
        ("DELETE", "/files"),
        ("POST", "/stop"),
        ("DELETE", ""),
    ] {
        let method = method.parse().unwrap();
        // Each answer is held against the document where it is read.
        let answer = ask(&server, &method, &session, rest).send().await;
        assert_eq!(answer.status, 200, "{method} {rest}: {}", answer.body);
        if rest == "/logs" {
            let what = answer.body["data"][0]["what"].clone();
            assert_eq!(what, "created", "{}", answer.body);
            let steps = answer.body["data"][0]["steps"].as_array().unwrap().len();
            assert!(steps >= 4, "{}", answer.body);
        }
    }
    let directory = server
        .ask(
            Method::GET,
            &format!("/v1/x/sandboxes/{session}/files?path=/"),
        )
        .send()
        .await;
    let entries = directory.body["entries"].as_array().unwrap();
    assert!(
        entries.iter().any(|one| one["kind"] == "symlink"),
        "{}",
        directory.body
    );
    let all = server.get("/v1/x/sandboxes").await;
    assert_eq!(all.body["data"][0]["session_id"], json!(session));
    stop(&server).await;
}

#[tokio::test]
async fn what_changes_in_a_sandbox_is_streamed() {
    let server = Server::with_sandboxes(|_| {}).await;
    let session = server.session().await;
    let path = format!("/v1/x/sandboxes/{session}/files/watch?path=/workspace&deep=true");
    let stream = server.ask(Method::GET, &path).open().await;
    assert_eq!(stream.status(), 200);
    let mut pieces = stream.into_body().into_data_stream();
    let mut seen = String::new();
    let mut told = async |wanted: &str| {
        while !seen.contains(wanted) {
            let piece = tokio::time::timeout(PATIENCE, pieces.next()).await;
            let piece = piece.expect("it is told").expect("it goes on").unwrap();
            seen.push_str(std::str::from_utf8(&piece).unwrap());
        }
        seen.clone()
    };
    let first = told("\n\n").await;
    assert!(
        first.starts_with("event: sandbox_file_changes\ndata: {"),
        "{first}"
    );
    let made = ask(&server, &Method::POST, &session, "/directories")
        .send()
        .await;
    assert_eq!(made.status, 200, "{}", made.body);
    let said = told("/workspace/new").await;
    let line = said
        .lines()
        .rfind(|line| line.starts_with("data: "))
        .unwrap();
    let said: Value = serde_json::from_str(&line["data: ".len()..]).unwrap();
    let wanted = json!({"path": "/workspace/new", "change": "created", "directory": true});
    assert_eq!(said["changes"], json!([wanted]), "{said}");
    assert_eq!(said["has_more"], false);
    server.shutdown.cancel();
    told("the server is shutting down").await;
    drop(pieces);
    stop(&server).await;
}

#[tokio::test]
async fn a_session_that_is_to_have_its_sandbox_at_once_has_it_and_its_end_ends_it() {
    let server = Server::with_sandboxes(|_| {}).await;
    let agent = server.create("/v1/agents", agent()).await;
    let mut eager = environment();
    eager["metadata"] = json!({"longhand.sandbox": "eager"});
    let environment = server.create("/v1/environments", eager).await;
    let session = json!({"agent": agent, "environment_id": environment});
    let id = server.create("/v1/sessions", session.clone()).await;
    let mut lazy = session;
    lazy["metadata"] = json!({"longhand.sandbox": "lazy"});
    let other = server.create("/v1/sessions", lazy).await;
    let status = async |wanted: &str| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let path = format!("/v1/x/sandboxes/{id}");
        loop {
            let one = server.get(&path).await;
            if one.body["status"] == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{}", one.body);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    status("paused").await;
    let lazily = server.get(&format!("/v1/x/sandboxes/{other}")).await;
    assert_eq!(lazily.status, 404, "{}", lazily.body);
    let exec = ask(&server, &Method::POST, &id, "/exec").send().await;
    assert_eq!(exec.body["stdout"], "in", "{}", exec.body);
    status("running").await;
    let archived = server
        .post(&format!("/v1/sessions/{id}/archive"), json!({}))
        .await;
    assert_eq!(archived.status, 200, "{}", archived.body);
    status("stopped").await;
    stop(&server).await;
}
