//! Over real sockets: bounds on connections, and the control socket.

use std::time::Duration;

use gateway::{Config, Drained, Limits, serve, serve_unix};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Server};

/// Serves on a free port of the loopback.
async fn listen(
    server: &Server,
    limits: Limits,
    tasks: &mut JoinSet<Drained>,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(serve(
        listener,
        server.router.clone(),
        server.shutdown.clone(),
        limits,
    ));
    address
}

/// Sends text and reads to the end of the connection.
async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    read.unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         anthropic-version: 2026-10-21\r\nanthropic-beta: managed-agents-2026-04-01\r\n\r\n"
    )
}

#[tokio::test]
async fn requests_are_served_over_tcp_and_the_drain_is_clean() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, Limits::default(), &mut tasks).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = exchange(stream, &get("/v1/agents", &server.key)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nrequest-id: req_"), "{answer}");
    assert!(
        answer.ends_with("{\"data\":[],\"next_page\":null}"),
        "{answer}"
    );
    server.shutdown.cancel();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Drained::Clean);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn an_open_stream_does_not_hold_up_the_drain() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, Limits::default(), &mut tasks).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = get(
        &format!("/v1/sessions/{session}/events/stream"),
        &server.key,
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    server.shutdown.cancel();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains(": the server is shutting down"), "{rest}");
    assert!(
        rest.ends_with("0\r\n\r\n"),
        "the stream ended properly: {rest}"
    );
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Drained::Clean);
}

#[tokio::test]
async fn a_head_that_never_ends_or_is_too_large_is_cut() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let limits = Limits {
        head: Duration::from_millis(100),
        ..Limits::default()
    };
    let address = listen(&server, limits, &mut tasks).await;
    let slow = TcpStream::connect(address).await.unwrap();
    let answer = exchange(slow, "GET /healthz HTTP/1.1\r\nhost:").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let mut large = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(100_000)
    );
    // The server may close before all of it is written.
    let _ = large.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, large.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_a_place() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let address = listen(&server, limits, &mut tasks).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut head = [0; 12];
    first.read_exact(&mut head).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    second.write_all(request).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut head)).await;
    assert!(early.is_err(), "served beyond the cap");
    drop(first);
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, second.read_to_string(&mut answer))
        .await
        .unwrap();
    read.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_control_socket_serves_our_own_user() {
    let server = Server::start().await;
    let path = server.dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_unix(
        listener,
        server.control.clone(),
        server.shutdown.clone(),
        Limits::default(),
    ));
    let stream = UnixStream::connect(&path).await.unwrap();
    let request = "GET /v1/x/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"type\":\"status\""), "{answer}");
    server.shutdown.cancel();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), Drained::Clean);
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_before_the_connection_ends() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, Limits::default(), &mut tasks).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = contract::limits::BODY_BYTES + 1;
    let head = get("/v1/agents", &server.key)
        .replacen("GET", "POST", 1)
        .replace(
            "\r\n\r\n",
            &format!("\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"),
        );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("request_too_large"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_a_400() {
    let limits = Limits {
        body_idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = Server::with(Config {
        limits: limits.clone(),
        ..Config::default()
    })
    .await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, limits, &mut tasks).await;
    let head = get("/v1/agents", &server.key)
        .replacen("GET", "POST", 1)
        .replace(
            "\r\n\r\n",
            "\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
        );
    let answer = exchange(TcpStream::connect(address).await.unwrap(), &head).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("request_body_timeout"), "{answer}");
}

#[tokio::test]
async fn a_reader_that_stops_reading_loses_its_connection() {
    let server = Server::start().await;
    let session = server.session().await;
    let mut tasks = JoinSet::new();
    let write_stall = Duration::from_millis(200);
    let limits = Limits {
        connections: 1,
        write_stall,
        ..Limits::default()
    };
    let address = listen(&server, limits, &mut tasks).await;
    let mut stuck = TcpStream::connect(address).await.unwrap();
    let path = format!("/v1/sessions/{session}/events/stream?event_deltas[]=agent.message");
    stuck
        .write_all(get(&path, &server.key).as_bytes())
        .await
        .unwrap();
    let mut head = [0; 12];
    stuck.read_exact(&mut head).await.unwrap();
    server.fill_stream(&session, 400, 64 * 1024).await;
    // The only place becomes free although the reader still holds its end.
    let next = TcpStream::connect(address).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(exchange(next, request).await.starts_with("HTTP/1.1 200"));
    drop(stuck);
}

/// A request for the stream of a new session, in this version of HTTP.
async fn stream_request(server: &Server, method: &str, version: &str) -> String {
    let session = server.session().await;
    let path = format!("/v1/sessions/{session}/events/stream");
    let request = get(&path, &server.key).replacen("HTTP/1.1", version, 1);
    request.replacen("GET", method, 1)
}

/// The bytes of a body that came in chunks; panics unless it is whole.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (length, rest) = body.split_once("\r\n").expect("the length of a chunk");
        let length = usize::from_str_radix(length, 16).expect("a number");
        let (chunk, rest) = rest.split_at(length);
        body = rest.strip_prefix("\r\n").expect("the end of a chunk");
        if length == 0 {
            assert_eq!(body, "", "nothing comes after the last chunk");
            return whole;
        }
        whole.push_str(chunk);
    }
}

#[tokio::test]
async fn a_stream_is_whole_in_every_version_of_http_and_for_a_head() {
    for (method, version) in [
        ("GET", "HTTP/1.1"),
        ("GET", "HTTP/1.0"),
        ("HEAD", "HTTP/1.1"),
    ] {
        let server = Server::start().await;
        let mut tasks = JoinSet::new();
        let address = listen(&server, Limits::default(), &mut tasks).await;
        let request = stream_request(&server, method, version).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut answer)).await;
            assert!(read.unwrap().unwrap() > 0, "{method} {version}: it ended");
        }
        // The stream is open; its last words come when the server goes.
        server.shutdown.cancel();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("\r\nrequest-id: req_"), "{head}");
        let goodbye = ": the server is shutting down\n\n";
        let said = match (method, version) {
            ("HEAD", _) => String::new(),
            (_, "HTTP/1.0") => body.to_owned(),
            _ => joined(body),
        };
        assert_eq!(
            said,
            if method == "HEAD" { "" } else { goodbye },
            "{method} {version}"
        );
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), Drained::Clean);
    }
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_is_given_up() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, Limits::default(), &mut tasks).await;
    let open = async || {
        let text = server
            .bare(axum::http::Method::GET, "/metrics")
            .send()
            .await;
        let text = text.body.as_str().unwrap().to_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("longhand_gateway_streams "));
        line.unwrap().parse::<usize>().unwrap()
    };
    let request = stream_request(&server, "GET", "HTTP/1.1").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_u8().await.unwrap();
    assert_eq!(open().await, 1);
    drop(stream);
    tokio::time::timeout(PATIENCE, async {
        while open().await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// A request that has a secret in its body, on a connection that the client would keep.
fn secret_body(name: &str) -> String {
    let auth = json!({"type": "environment_variable", "secret_name": name, "secret_value": "a/secret+of-the-test",
        "networking": {"type": "unrestricted"}});
    json!({ "auth": auth }).to_string()
}

#[tokio::test]
async fn a_connection_that_had_a_secret_ends_with_the_answer_and_others_are_kept() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, Limits::default(), &mut tasks).await;
    let vault = server
        .create("/v1/vaults", json!({"display_name": "told"}))
        .await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let kept = get(&path, &server.key).replace("connection: close\r\n", "");
    // Right and wrong, both have come over it.
    for (body, status) in [(secret_body("RIGHT"), "200"), (secret_body("n o"), "400")] {
        let length = body.len();
        let head = kept.replacen("GET", "POST", 1).replace(
            "\r\n\r\n",
            &format!("\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"),
        );
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(stream, &format!("{kept}{head}{body}")).await;
        let (first, second) = answer.rsplit_once("HTTP/1.1 ").unwrap();
        assert!(!first.contains("connection: close"), "the control: {first}");
        assert!(second.starts_with(status), "{second}");
        assert!(second.contains("\r\nconnection: close\r\n"), "{second}");
    }
}

#[tokio::test]
async fn a_connection_of_http_2_that_had_a_secret_takes_no_further_request() {
    let server = Server::start().await;
    let mut tasks = JoinSet::new();
    let address = listen(&server, Limits::default(), &mut tasks).await;
    let vault = server
        .create("/v1/vaults", json!({"display_name": "told"}))
        .await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let mut ended = JoinSet::new();
    ended.spawn(connection);
    let ask = |method: &str, body: String| {
        axum::http::Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("authorization", format!("Bearer {}", server.key))
            .header("anthropic-version", "2026-10-21")
            .header("anthropic-beta", "managed-agents-2026-04-01")
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body))
            .unwrap()
    };
    for (method, body) in [("GET", String::new()), ("POST", secret_body("TWO"))] {
        assert!(!client.is_closed(), "before {method}");
        let answer = client.send_request(ask(method, body)).await.unwrap();
        assert_eq!(answer.status(), 200, "{method}");
        let read = http_body_util::BodyExt::collect(answer.into_body()).await;
        read.unwrap();
    }
    let end = tokio::time::timeout(PATIENCE, ended.join_next());
    end.await.unwrap().unwrap().unwrap().unwrap();
}
