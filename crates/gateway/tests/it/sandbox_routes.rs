//! `/v1/x/sandboxes` over real sandboxes: what each route answers is held against the OpenAPI document, and nobody
//! sees or touches what is another workspace's.

use axum::http::Method;
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::support::{Ask, PATIENCE, Server, agent, environment};

/// What each route of one sandbox is asked with: its query and its body.
fn asked(route: &str) -> (&'static str, Option<Value>) {
    match route {
        "GET " | "GET /logs" | "GET /processes" | "GET /snapshots" | "GET /export" | "DELETE " => {
            ("", None)
        }
        "GET /exec" | "GET /exec/{exec_id}" | "DELETE /exec/{exec_id}" => ("", None),
        "POST /pause" | "POST /resume" | "POST /stop" | "POST /snapshots" => ("", Some(json!({}))),
        "POST /fork" => ("", Some(json!({"to": "sesn_1111111111111111111111"}))),
        "POST /restore" => ("", Some(json!({"snapshot_id": "snap_0"}))),
        "POST /exec" => ("", Some(json!({"command": ["cat"], "stdin": "in"}))),
        "POST /forward" => ("?port=8000", Some(json!("x"))),
        "GET /files" | "GET /content" | "GET /files/watch" => ("?path=file", None),
        "GET /egress/rules" => ("", None),
        "POST /egress/rules" => ("", Some(json!({"rules": []}))),
        "GET /egress/explain" => ("?url=https://a.test/", None),
        "DELETE /files" => ("?path=file&all=true", None),
        "POST /directories" => ("", Some(json!({"path": "new"}))),
        "POST /move" => ("", Some(json!({"from": "file", "to": "moved"}))),
        "POST /import" => ("", Some(json!("no archive"))),
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
    let rest = rest.replace("{exec_id}", "exec_none");
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
        ("GET", "/exec"),
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
async fn snapshots_are_their_workspaces_and_forks_go_into_its_sessions() {
    let server = Server::with_sandboxes(|_| {}).await;
    let (one, two) = (server.session().await, server.session().await);
    let path = |id: &str, rest: &str| format!("/v1/x/sandboxes/{id}{rest}");
    let none = server.post(&path(&one, "/snapshots"), json!({})).await;
    assert_eq!(none.status, 404, "{}", none.body);
    ask(&server, &Method::POST, &one, "/content").send().await;
    let note = json!({"note": "before the change"});
    let kept = server.post(&path(&one, "/snapshots"), note).await;
    assert_eq!(kept.status, 200, "{}", kept.body);
    assert_eq!(kept.body["note"], "before the change");
    assert_eq!(
        (&kept.body["sandbox_id"], &kept.body["live"]),
        (&json!(one), &json!(true))
    );
    let long = json!({"note": "x".repeat(501)});
    assert_eq!(
        server.post(&path(&one, "/snapshots"), long).await.status,
        400
    );
    for list in ["/v1/x/snapshots".to_owned(), path(&one, "/snapshots")] {
        assert_eq!(
            server.get(&list).await.body["data"],
            json!([kept.body]),
            "{list}"
        );
    }
    assert_eq!(
        server.get(&path(&two, "/snapshots")).await.body["data"],
        json!([])
    );
    let id = kept.body["id"].as_str().unwrap();
    let this = format!("/v1/x/snapshots/{id}");
    assert_eq!(server.get(&this).await.body, kept.body);

    // Another workspace: nothing of it is there.
    let other = server
        .operate(Method::POST, "/v1/x/workspaces")
        .body(r#"{"name": "other"}"#)
        .send()
        .await;
    let other = json!({"name": "other", "workspace_id": other.body["id"]});
    let other = server.new_key(other).await;
    let asked =
        async |method: Method, path: &str| server.ask(method, path).key(&other).send().await;
    assert_eq!(
        asked(Method::GET, "/v1/x/snapshots").await.body["data"],
        json!([])
    );
    assert_eq!(asked(Method::GET, &this).await.status, 404);
    assert_eq!(asked(Method::DELETE, &this).await.status, 404);

    // A fork, and what is refused.
    for (to, status, says) in [
        (json!({}), 403, "operator"),
        (json!({"to": "mine"}), 403, "operator"),
        (json!({"to": "../up"}), 400, "`to`"),
        (
            json!({"to": "sesn_1111111111111111111111"}),
            400,
            "no such session",
        ),
        (json!({"to": one}), 409, "already"),
        (json!({"to": two}), 200, ""),
        (json!({"to": two}), 409, "already"),
    ] {
        let forked = server.post(&path(&one, "/fork"), to.clone()).await;
        assert_eq!(forked.status, status, "{to}: {}", forked.body);
        assert!(
            says.is_empty() || forked.message().contains(says),
            "{to}: {}",
            forked.body
        );
    }
    let content = ask(&server, &Method::GET, &two, "/content").send().await;
    assert_eq!(content.body, json!("content"));

    // Back again.
    ask(&server, &Method::DELETE, &one, "/files").send().await;
    let missing = json!({"snapshot_id": "snap_none"});
    assert_eq!(
        server.post(&path(&one, "/restore"), missing).await.status,
        400
    );
    let back = server
        .post(&path(&one, "/restore"), json!({"snapshot_id": id}))
        .await;
    assert_eq!(
        (back.status, &back.body["status"]),
        (200, &json!("stopped")),
        "{}",
        back.body
    );
    let content = ask(&server, &Method::GET, &one, "/content").send().await;
    assert_eq!(content.body, json!("content"));
    let gone = server.ask(Method::DELETE, &this).send().await;
    assert_eq!(
        gone.body["type"], "sandbox_snapshot_deleted",
        "{}",
        gone.body
    );
    assert_eq!(server.get(&this).await.status, 404);
    stop(&server).await;
}

#[tokio::test]
async fn a_workspace_goes_out_as_an_archive_and_comes_into_a_session() {
    let server = Server::with_sandboxes(|_| {}).await;
    let (one, two) = (server.session().await, server.session().await);
    let three = server.session().await;
    let path = |id: &str, rest: &str| format!("/v1/x/sandboxes/{id}{rest}");
    assert_eq!(server.get(&path(&one, "/export")).await.status, 404);
    ask(&server, &Method::POST, &one, "/content").send().await;
    let kept = server.post(&path(&one, "/snapshots"), json!({})).await;
    let kept = kept.body["id"].as_str().unwrap().to_owned();
    let bytes = async |path: &str| {
        let answer = server.ask(Method::GET, path).open().await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    let archive = bytes(&path(&one, "/export")).await;
    let of_snapshot = bytes(&format!("/v1/x/snapshots/{kept}/export")).await;
    let send = async |id: &str, archive: axum::body::Bytes| {
        let ask = server.ask(Method::POST, &path(id, "/import"));
        let ask = ask.header("content-type", "application/octet-stream");
        ask.body(archive).send().await
    };
    let cut = send(&two, archive.slice(..archive.len() / 2)).await;
    assert_eq!(cut.status, 400, "{}", cut.body);
    assert!(cut.message().contains("was cut"), "{}", cut.body);
    let none = ask(&server, &Method::POST, &two, "/import").send().await;
    assert_eq!(none.status, 400, "{}", none.body);
    assert!(
        none.message().contains("no Longhand export"),
        "{}",
        none.body
    );
    for (id, archive) in [(&two, &archive), (&three, &of_snapshot)] {
        let made = send(id, archive.clone()).await;
        assert_eq!(
            (made.status, &made.body["status"]),
            (200, &json!("stopped")),
            "{}",
            made.body
        );
        let content = ask(&server, &Method::GET, id, "/content").send().await;
        assert_eq!(content.body, json!("content"));
    }
    let taken = send(&two, archive).await;
    assert_eq!(taken.status, 409, "{}", taken.body);
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
