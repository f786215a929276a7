//! What idle sessions cost: memory and start-up with 100,000 of them, and a page of a list with a million.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::process::{Launch, Server};
use testkit::setting;

use crate::Wrong;
use crate::load::{Client, slice};
use crate::memory::{Held, megabytes};
use crate::numbers::{millis, percentile, rounded};

/// Sessions when the page is first asked for; when memory is looked at; and at the end, unless
/// `TESTKIT_BENCH_IDLE` says otherwise.
const FEW: usize = 1_000;
const SOME: usize = 100_000;
const MANY: u64 = 1_000_000;

/// Connections that make them.
const CONNECTIONS: usize = 64;

/// Times a page is asked for.
const PAGES: usize = 200;

/// Longest making of one lot.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let many = usize::try_from(setting::number("TESTKIT_BENCH_IDLE", MANY))?;
    let launch = Launch::new("target/release/longhand")?
        .environment("LONGHAND_LIMITS_WORKSPACE_SESSIONS", "2000000");
    let mut server = launch.start().await;
    let ground = server.api().ground().await?;
    make(&server, &ground, FEW).await?;
    let floor = page(&server.api()).await?;
    let before = Held::by(server.pid())?;
    make(&server, &ground, SOME.min(many) - FEW).await?;
    let after = Held::by(server.pid())?;
    eprintln!("memory: {} then {}", before.shown(), after.shown());
    let (began, fresh);
    (server, began, fresh) = again(&launch, server).await?;
    eprintln!("started again in {began:?}, holding {}", fresh.shown());
    make(&server, &ground, many - SOME.min(many)).await?;
    let figure = page(&server.api()).await?;
    let grown = megabytes(after.own.saturating_sub(before.own));
    let ratio = figure.as_secs_f64() / floor.as_secs_f64().max(1e-9);
    let met = grown <= 50.0 && began <= Duration::from_secs(2) && ratio <= 1.2;
    Ok(json!({
        "bench": "idle", "sessions": SOME.min(many), "before": before.shown(), "after": after.shown(),
        "grown_mb": grown, "started_again_ms": millis(began), "after_the_start": fresh.shown(),
        "page": {"sessions": [many, FEW], "figure_ms": millis(figure), "floor_ms": millis(floor), "ratio": rounded(ratio)},
        "target": {"grown_mb": 50, "started_again_ms": 2_000, "page_ratio": 1.2}, "met": met,
    }))
}

/// So many more sessions, over all connections.
async fn make(server: &Server, ground: &Ground, sessions: usize) -> Result<(), Wrong> {
    let request = server
        .api()
        .request("POST", "/v1/sessions", Some(&ground.session()));
    let mut clients = Vec::new();
    for n in 0..CONNECTIONS {
        let share = sessions / CONNECTIONS + usize::from(n < sessions % CONNECTIONS);
        clients.push(Client::new(server.address(), vec![request.clone()], share).await?);
    }
    let made = slice(clients, PATIENCE, None).await?;
    if made.latencies.len() == sessions {
        Ok(())
    } else {
        Err("making the sessions took too long".into())
    }
}

/// The median time of the first page of the list.
async fn page(api: &Api) -> Result<Duration, Wrong> {
    let request = api.request("GET", "/v1/sessions?limit=20", None);
    let mut conn = api.connect().await?;
    let mut times = Vec::new();
    for _ in 0..PAGES {
        let begun = Instant::now();
        let answer = conn.exchange(&request).await?;
        times.push(begun.elapsed());
        if answer.status != 200 {
            return Err(format!("a page was refused: {}", answer.status).into());
        }
    }
    Ok(percentile(&times, 50))
}

/// Stops the server and starts it on the same directory; how long the start took, and what it holds then.
async fn again(launch: &Launch, server: Server) -> Result<(Server, Duration, Held), Wrong> {
    server.terminate();
    server.ended().await;
    let begun = Instant::now();
    let server = launch.start().await;
    let began = begun.elapsed();
    let held = Held::by(server.pid())?;
    Ok((server, began, held))
}
