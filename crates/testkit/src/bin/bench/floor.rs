//! The floor of the API: our HTTP stack (accept loop, limits, hyper, axum) answering the same bytes without
//! reading them or keeping anything, in a process of its own like the server's.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::Wrong;

/// What is answered: as the real server answered it.
#[derive(Debug)]
struct Canned {
    create: Bytes,
    send: Bytes,
}

/// A running floor; it ends when this is dropped.
pub(crate) struct Floor {
    _child: Child,
    pub(crate) address: SocketAddr,
}

/// Starts one that gives these answers.
pub(crate) async fn start(create: &Value, send: &Value) -> Result<Floor, Wrong> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("floor")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let canned = json!({"create": create, "send": send}).to_string();
    // Closing its input by dropping the pipe tells it that this was all.
    child
        .stdin
        .take()
        .ok_or("no pipe")?
        .write_all(canned.as_bytes())
        .await?;
    let stdout = child.stdout.take().ok_or("no pipe")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    let address = line.ok_or("the floor did not start")?.parse()?;
    Ok(Floor {
        _child: child,
        address,
    })
}

/// The process itself.
pub(crate) async fn serve() -> Result<(), Wrong> {
    // Nothing else runs yet: reading may block.
    let canned = std::io::read_to_string(std::io::stdin())?;
    let canned = serde_json::from_str::<Value>(&canned)?;
    let bytes = |name: &str| Bytes::from(canned[name].to_string());
    let canned = Arc::new(Canned {
        create: bytes("create"),
        send: bytes("send"),
    });
    let router: Router = Router::new().fallback(answer).with_state(canned);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    gateway::serve(
        listener,
        router,
        CancellationToken::new(),
        gateway::limits::Limits::default(),
    )
    .await;
    Ok(())
}

async fn answer(State(canned): State<Arc<Canned>>, uri: Uri, _body: Bytes) -> Response {
    let body = if uri.path().ends_with("/events") {
        &canned.send
    } else {
        &canned.create
    };
    // The server's own headers, so that the same bytes go over the wire.
    let headers = [
        (CONTENT_TYPE.as_str(), "application/json"),
        ("request-id", "req_1111111111111111111111"),
    ];
    (headers, body.clone()).into_response()
}
