//! Clients that mean harm or are broken: what they send holds nobody else up and leaves nothing behind.

use std::time::Duration;

use axum::http::Method;
use gateway::{Drained, Limits, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{Answer, PATIENCE, Server, agent};

async fn listen(server: &Server, limits: Limits, tasks: &mut JoinSet<Drained>) -> TcpStreamMaker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, shutdown) = (server.router.clone(), server.shutdown.clone());
    tasks.spawn(serve(listener, router, shutdown, limits));
    TcpStreamMaker(address)
}

struct TcpStreamMaker(std::net::SocketAddr);

impl TcpStreamMaker {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.0).await.unwrap()
    }

    /// Everything that comes back for `bytes` until the connection ends.
    async fn exchange(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }
}

fn post(server: &Server, path: &str, body: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         anthropic-version: 2026-10-21\r\nanthropic-beta: managed-agents-2026-04-01\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{more}\r\n{body}",
        server.key,
        body.len()
    )
}

fn clear(refused: &Answer, names: &str) {
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(refused.body["error"]["type"], "invalid_request_error");
    let id = refused.header("request-id").unwrap();
    assert_eq!(refused.body["request_id"], id);
    assert!(refused.message().contains(names), "{}", refused.body);
    assert!(
        refused.message().len() < 1_000,
        "no refusal repeats what was sent"
    );
}

#[tokio::test]
async fn ten_thousand_events_in_one_send_are_refused_and_none_is_taken() {
    let server = Server::start().await;
    let session = server.session().await;
    let before = server.log(&session).await;
    let event = json!({"type": "user.message", "content": [{"type": "text", "text": "x"}]});
    let events = Value::Array(vec![event; 10_000]);
    let path = format!("/v1/sessions/{session}/events");
    let refused = server.post(&path, json!({"events": events})).await;
    clear(&refused, "events");
    assert_eq!(server.log(&session).await, before);
}

#[tokio::test]
async fn a_metadata_value_of_a_megabyte_is_refused_by_name() {
    let server = Server::start().await;
    let huge = json!({"k": "v".repeat(1 << 20)});
    let mut agent = agent();
    agent["metadata"] = huge.clone();
    clear(&server.post("/v1/agents", agent).await, "metadata");
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}");
    clear(
        &server.post(&path, json!({"metadata": huge})).await,
        "metadata",
    );
}

#[tokio::test]
async fn what_is_pipelined_behind_an_error_is_answered_and_a_refused_body_is_no_request() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let to = listen(&server, Limits::default(), &mut tasks).await;
    let bad = post(&server, "/v1/agents", "{\"name\": 7}", "");
    let good = post(
        &server,
        "/v1/agents",
        &agent().to_string(),
        "connection: close\r\n",
    );
    let answers = to.exchange(&format!("{bad}{bad}{good}")).await;
    let statuses = answers.matches("HTTP/1.1 400").count();
    assert_eq!(
        (statuses, answers.matches("HTTP/1.1 200").count()),
        (2, 1),
        "{answers}"
    );
    // Refused before its body was looked at: what the body says is still a body.
    let smuggled = post(&server, "/v1/agents", &agent().to_string(), "");
    let outer = format!(
        "POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let last = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = to.exchange(&format!("{outer}{last}")).await;
    assert!(answers.starts_with("HTTP/1.1 401"), "{answers}");
    assert!(answers.ends_with("ok\n"), "{answers}");
    let listed = server.get("/v1/agents").await;
    assert_eq!(
        listed.body["data"].as_array().unwrap().len(),
        1,
        "only the good one"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let to = listen(&server, Limits::default(), &mut tasks).await;
    let whole = post(&server, "/v1/agents", &agent().to_string(), "");
    for _ in 0..50 {
        let mut stream = to.connect().await;
        let cut = whole.len() - 10;
        stream.write_all(&whole.as_bytes()[..cut]).await.unwrap();
        drop(stream);
    }
    let held = || async {
        let text = server.bare(Method::GET, "/metrics").send().await.body;
        let text = text.as_str().unwrap().to_owned();
        !text.contains("longhand_gateway_body_bytes 0\n")
            || text.matches("route=\"/v1/agents\",status=\"400\"").count() == 0
    };
    let settled = async {
        while held().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap();
    let listed = server.get("/v1/agents").await;
    assert_eq!(listed.body["data"], json!([]));
}

#[tokio::test]
async fn thousands_of_half_open_connections_are_cut_and_nobody_waits_for_them() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let limits = Limits {
        head: Duration::from_millis(500),
        ..Limits::default()
    };
    let to = listen(&server, limits, &mut tasks).await;
    let mut open = Vec::new();
    for n in 0..2_000 {
        let mut stream = to.connect().await;
        // Some say nothing at all, some begin.
        if n % 2 == 0 {
            stream
                .write_all(b"GET /v1/agents HTTP/1.1\r\nx: ")
                .await
                .unwrap();
        }
        open.push(stream);
    }
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = to.exchange(request).await;
    assert!(answer.ends_with("ok\n"), "{answer}");
    for mut stream in open {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // Reset or closed: it is over.
        let _ = read.unwrap();
    }
}
