//! Many subscribers: how far apart the first and the last of 1,000 are served while some of them do not read, and
//! what 10,000 open streams cost in memory.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::http::{Conn, Head};
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::{script, setting};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::Wrong;
use crate::memory::{Held, megabytes};
use crate::numbers::{median, millis, percentile, rounded};

/// Subscribers of one session, and how many of them never read.
const SUBSCRIBERS: usize = 1_000;
const STALLED: usize = 100;

/// Turns that are watched, each with a message of so many bytes.
const ROUNDS: usize = 20;
const MESSAGE: usize = 32 * 1024;

/// Streams and the sessions they are spread over, unless `TESTKIT_BENCH_STREAMS` says otherwise.
const STREAMS: u64 = 10_000;
const SESSIONS: usize = 1_000;

/// What ends a turn on a stream.
const END: &[u8] = b"event: session.status_idle";

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let model = Model::start().await?;
    let launch = Launch::new("target/release/longhand")?
        .model(&model.base_url())
        .environment("LONGHAND_LIMITS_CONNECTIONS", "14000")
        .environment("LONGHAND_LIMITS_STREAMS_PER_KEY", "13000");
    let server = launch.start().await;
    let ground = server.api().ground().await?;
    let one = one_session(&server, &ground).await?;
    eprintln!("one session: {one}");
    let many = many_streams(&server, &ground).await?;
    eprintln!("many streams: {many}");
    Ok(json!({"bench": "fanout", "one_session": one, "many_streams": many}))
}

/// An open stream of which nothing has been read but its head.
async fn open(api: &Api, session: &str) -> Result<(Conn<TcpStream>, Head), Wrong> {
    let mut conn = api.connect().await?;
    let path = format!("/v1/sessions/{session}/events/stream");
    conn.send(&api.request("GET", &path, None)).await?;
    let head = conn.head().await?;
    if head.status != 200 {
        return Err(format!("a stream was refused: {}", head.status).into());
    }
    Ok((conn, head))
}

/// Reads until told to end; says when each turn ended. It looks for the end of a turn and parses nothing, so
/// that what is measured is the server.
async fn follow(
    (mut conn, mut head): (Conn<TcpStream>, Head),
    ended: mpsc::Sender<Instant>,
    mut over: watch::Receiver<bool>,
) -> Result<(), Wrong> {
    let mut tail = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = conn.piece(&mut head) => piece?.ok_or("a stream ended")?,
            _ = over.wait_for(|over| *over) => return Ok(()),
        };
        tail.extend_from_slice(&piece);
        if tail.windows(END.len()).any(|window| window == END) {
            tail.clear();
            ended.send(Instant::now()).await?;
        } else {
            tail.drain(..tail.len().saturating_sub(END.len()));
        }
    }
}

async fn one_session(server: &Server, ground: &Ground) -> Result<Value, Wrong> {
    let api = server.api();
    let session = api.session(ground).await?;
    let (ended, mut ends) = mpsc::channel(2 * SUBSCRIBERS);
    let (end, over) = watch::channel(false);
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(open(&api, &session).await?);
    }
    let mut tasks = JoinSet::new();
    for _ in STALLED..SUBSCRIBERS {
        let stream = open(&api, &session).await?;
        tasks.spawn(follow(stream, ended.clone(), over.clone()));
    }
    let before = Held::by(server.pid())?;
    let (mut firsts, mut lasts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let words = "x".repeat(MESSAGE);
    for _ in 0..ROUNDS {
        let message = script::message(&words, &json!([{"text": "heard"}]));
        let begun = Instant::now();
        api.send(&session, &[message]).await?;
        let mut times = Vec::<Duration>::new();
        while times.len() < SUBSCRIBERS - STALLED {
            times.push(ends.recv().await.ok_or("all streams ended")? - begun);
        }
        let (first, last) = (percentile(&times, 0), percentile(&times, 100));
        ratios.push(last.as_secs_f64() / first.as_secs_f64().max(1e-9));
        firsts.push(first);
        lasts.push(last);
    }
    let after = Held::by(server.pid())?;
    end.send(true)?;
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let ratio = median(ratios);
    Ok(json!({
        "subscribers": SUBSCRIBERS, "stalled": STALLED, "message_bytes": MESSAGE,
        "first_ms": millis(percentile(&firsts, 50)), "last_ms": millis(percentile(&lasts, 50)),
        "last_to_first": rounded(ratio), "before": before.shown(), "after": after.shown(),
        "target": {"last_to_first": 5}, "met": ratio <= 5.0,
    }))
}

async fn many_streams(server: &Server, ground: &Ground) -> Result<Value, Wrong> {
    let api = server.api();
    let streams = usize::try_from(setting::number("TESTKIT_BENCH_STREAMS", STREAMS))?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS.min(streams) {
        sessions.push(api.session(ground).await?);
    }
    let before = Held::by(server.pid())?;
    let mut open_ones = Vec::new();
    for session in sessions.iter().cycle().take(streams) {
        open_ones.push(open(&api, session).await?);
    }
    let after = Held::by(server.pid())?;
    let each = after.own.saturating_sub(before.own) / streams.max(1) as u64;
    Ok(json!({
        "streams": open_ones.len(), "sessions": sessions.len(), "before": before.shown(), "after": after.shown(),
        "bytes_a_stream": each, "target": {"resident_mb": 200},
        "met": megabytes(after.resident) < 200.0,
    }))
}
