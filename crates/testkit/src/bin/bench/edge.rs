//! The edge under people who mean no good, and after much work: what 2,000 connections that say half a request do
//! to everyone else, and what the server holds when the load is over.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::process::{Launch, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::Wrong;
use crate::load::{Client, slice};
use crate::memory::{Held, megabytes};
use crate::numbers::{Sample, rounded};

/// Connections that send the beginning of a request and no more.
const HALF_OPEN: usize = 2_000;

/// Connections of the load, and its time.
const CONNECTIONS: usize = 64;
const LOAD: Duration = Duration::from_secs(10);

/// Paced requests beside the half-open ones.
const PACED: (usize, Duration) = (16, Duration::from_millis(20));
const BESIDE: Duration = Duration::from_secs(3);

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let launch = Launch::new("target/release/longhand")?;
    let server = launch.start().await;
    let (api, ground) = (server.api(), server.api().ground().await?);
    let floor = paced(&server, &api, &ground).await?;
    let mut half = Vec::new();
    for _ in 0..HALF_OPEN {
        let mut stream = TcpStream::connect(server.address()).await?;
        stream
            .write_all(b"GET /v1/models HTTP/1.1\r\nhost: h")
            .await?;
        half.push(stream);
    }
    let figure = paced(&server, &api, &ground).await?;
    drop(half);
    let ratio = figure.percentile(99).as_secs_f64() / floor.percentile(99).as_secs_f64().max(1e-9);
    let idle = Held::by(server.pid())?;
    let request = api.request("POST", "/v1/sessions", Some(&ground.session()));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(server.address(), vec![request.clone()], usize::MAX).await?);
    }
    let load = slice(clients, LOAD, None).await?;
    let after = Held::by(server.pid())?;
    Ok(json!({
        "bench": "edge",
        "beside_half_open": {"connections": HALF_OPEN, "figure": figure.shown(), "floor": floor.shown(), "p99_ratio": rounded(ratio)},
        "memory": {"before": idle.shown(), "after": after.shown(), "load": load.shown(), "target": {"own_mb": 60}, "met": megabytes(after.own) < 60.0},
    }))
}

/// Session creates at a steady pace.
async fn paced(server: &Server, api: &Api, ground: &Ground) -> Result<Sample, Wrong> {
    let request = api.request("POST", "/v1/sessions", Some(&ground.session()));
    let mut clients = Vec::new();
    for _ in 0..PACED.0 {
        clients.push(Client::new(server.address(), vec![request.clone()], usize::MAX).await?);
    }
    slice(clients, BESIDE, Some(PACED.1)).await
}
