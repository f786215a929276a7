//! One turn: its durable commits, its duration beside what it cannot do without (commits, model, tool), and
//! the time to the first delta with the sandbox cold.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::http::{Conn, request};
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::{script, setting};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::numbers::{median, millis, percentile, rounded};
use crate::{Wrong, syncs};

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 40;

/// Calls of the long turn, whose further calls say what a call costs.
const CALLS: usize = 5;

/// Bytes of the file that stands for the write-ahead log.
const LOG: u64 = 4 << 20;

struct Bench {
    launch: Launch,
    server: Server,
    /// Kept: the server asks it.
    _model: Model,
    api: Api,
    ground: Ground,
    to_model: Mutex<Conn<TcpStream>>,
    log: Mutex<File>,
}

/// Times of one round.
#[derive(Default)]
struct Times {
    turn: Vec<Duration>,
    long: Vec<Duration>,
    commits: Vec<u64>,
    commit: Vec<Duration>,
    model: Vec<Duration>,
    model_first: Vec<Duration>,
    first_delta: Vec<Duration>,
}

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let model = Model::start().await?;
    let launch = Launch::new("target/release/longhand")?.model(&model.base_url());
    let server = launch.start().await;
    let api = server.api();
    let ground = api.ground().await?;
    let to_model = Mutex::new(Conn::new(TcpStream::connect(model.address()).await?));
    let log = Mutex::new(log_file(&launch)?);
    let bench = Bench {
        to_model,
        log,
        launch,
        server,
        _model: model,
        api,
        ground,
    };
    let session = bench.api.session(&bench.ground).await?;
    // The first turn makes the sandbox, the first request the connection; they are not counted.
    bench.turn(&session, 1).await?;
    bench.ask_model().await?;
    let bytes = bench.bytes_of_a_commit(&session).await?;
    let mut times = Times::default();
    for _ in 0..setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS) {
        bench.round(&session, bytes, &mut times).await?;
    }
    let counted = bench.counted(&session).await?;
    Ok(shown(&times, bytes, counted))
}

/// The file whose writes say what a commit costs, filled and synced.
fn log_file(launch: &Launch) -> Result<File, Wrong> {
    let mut file = File::create_new(launch.data_dir().join("bench-log"))?;
    file.write_all(&vec![b'.'; usize::try_from(LOG)?])?;
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

fn shown(times: &Times, bytes: usize, counted: Option<(u64, usize)>) -> Value {
    let middle = |values: &[Duration]| percentile(values, 50).as_secs_f64() * 1e3;
    let commits = median(times.commits.iter().map(|n| *n as f64));
    let (commit, model) = (middle(&times.commit), middle(&times.model));
    // A further call in the same reply costs itself and one commit.
    let call = (middle(&times.long) - middle(&times.turn)) / (CALLS - 1) as f64;
    let tool = (call - commit).max(0.0);
    let (turn, floor) = (middle(&times.turn), commits * commit + 2.0 * model + tool);
    let (delta, delta_floor) = (
        middle(&times.first_delta),
        2.0 * commit + middle(&times.model_first),
    );
    json!({
        "bench": "turn", "rounds": times.turn.len(),
        "commit_floor": {"bytes": bytes, "p50_ms": rounded(commit), "p99_ms": millis(percentile(&times.commit, 99))},
        "commits": {
            "figure": commits, "target": 6, "met": commits <= 6.0,
            "checked": counted.map(|(commits, syncs)| json!({"commits": commits, "fdatasync_by_strace": syncs})),
        },
        "duration": {
            "figure_ms": rounded(turn), "p99_ms": millis(percentile(&times.turn, 99)), "floor_ms": rounded(floor),
            "ratio": rounded(turn / floor), "beyond_ms": rounded(turn - floor),
            "model_ms": rounded(2.0 * model), "tool_ms": rounded(tool),
            "target": {"beyond_ms": 5}, "met": turn - floor <= 5.0,
        },
        "first_delta": {
            "figure_ms": rounded(delta), "p99_ms": millis(percentile(&times.first_delta, 99)),
            "floor_ms": rounded(delta_floor), "ratio": rounded(delta / delta_floor),
            "beyond_ms": rounded(delta - delta_floor), "target": {"beyond_ms": 3}, "met": delta - delta_floor <= 3.0,
        },
    })
}

impl Bench {
    async fn commits(&self) -> Result<u64, Wrong> {
        Ok(self.server.status().await?["store"]["commits"]
            .as_u64()
            .ok_or("no commit count in /v1/x/status")?)
    }

    async fn round(&self, session: &str, bytes: usize, times: &mut Times) -> Result<(), Wrong> {
        for _ in 0..3 {
            times.commit.push(self.commit(bytes).await?);
        }
        let (first, whole) = self.ask_model().await?;
        times.model_first.push(first);
        times.model.push(whole);
        let before = self.commits().await?;
        times.turn.push(self.turn(session, 1).await?);
        times.commits.push(self.commits().await? - before);
        times.long.push(self.turn(session, CALLS).await?);
        times.first_delta.push(self.first_delta().await?);
        Ok(())
    }

    /// A write of so many bytes behind the last one, synced, where the database lies. It goes round in a file
    /// that is there already, as the write-ahead log does after its first checkpoint: a file that grows
    /// costs the file system's journal as well, and no floor may be slower than what stands on it.
    async fn commit(&self, bytes: usize) -> Result<Duration, Wrong> {
        let mut file = self.log.lock().await;
        if file.stream_position()? + bytes as u64 > LOG {
            file.rewind()?;
        }
        let block = vec![b'x'; bytes];
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        Ok(begun.elapsed())
    }

    /// What a turn adds to the write-ahead log, for each commit.
    async fn bytes_of_a_commit(&self, session: &str) -> Result<usize, Wrong> {
        let log = self.launch.data_dir().join("longhand.db-wal");
        let length = || std::fs::metadata(&log).map_or(0, |file| file.len());
        let (bytes, commits) = (length(), self.commits().await?);
        self.turn(session, 1).await?;
        let commits = self.commits().await? - commits;
        let grown = length()
            .saturating_sub(bytes)
            .checked_div(commits)
            .unwrap_or(0);
        // The log starts anew after a checkpoint, and then does not grow: take two pages with their heads.
        Ok(if grown == 0 {
            8_240
        } else {
            usize::try_from(grown)?
        })
    }

    /// The model alone: to its first delta, and to its end.
    async fn ask_model(&self) -> Result<(Duration, Duration), Wrong> {
        let body = json!({
            "model": "claude-sonnet-5-5", "max_tokens": 1024, "stream": true,
            "messages": [{"role": "user", "content": format!("bench\n\nSCRIPT: {}", json!([{"text": "done"}]))}],
        });
        let headers =
            "x-api-key: sk-scripted-0000000000000000\r\nanthropic-version: 2023-06-01\r\n";
        let bytes = request(
            "POST",
            "/v1/messages",
            headers,
            Some(body.to_string().as_bytes()),
        );
        // On a connection that was used before, as the server's are.
        let mut conn = self.to_model.lock().await;
        let begun = Instant::now();
        conn.send(&bytes).await?;
        let mut head = conn.head().await?;
        let (mut first, mut text) = (None, String::new());
        while let Some(piece) = conn.piece(&mut head).await? {
            text.push_str(&String::from_utf8_lossy(&piece));
            if first.is_none() && text.contains("content_block_delta") {
                first = Some(begun.elapsed());
            }
        }
        let first = first.ok_or_else(|| format!("the scripted model said no delta: {text}"))?;
        Ok((first, begun.elapsed()))
    }

    /// From the send to idle on the stream, with so many calls in one reply.
    async fn turn(&self, session: &str, calls: usize) -> Result<Duration, Wrong> {
        let mut stream = self.api.stream(session, false).await?;
        let call = json!({"name": "bash", "input": {"command": "true"}});
        let steps = json!([{"tools": vec![call; calls]}, {"text": "done"}]);
        let begun = Instant::now();
        self.api
            .send(session, &[script::message("bench", &steps)])
            .await?;
        while let Some(event) = stream.next().await? {
            if event["type"] == "agent.tool_result" && event["is_error"] == true {
                return Err(format!("the call failed: {event}").into());
            }
            if event["type"] == "session.status_idle" {
                break;
            }
        }
        Ok(begun.elapsed())
    }

    /// From the send to the first delta, in a new session.
    async fn first_delta(&self) -> Result<Duration, Wrong> {
        let session = self.api.session(&self.ground).await?;
        let mut stream = self.api.stream(&session, true).await?;
        let begun = Instant::now();
        self.api
            .send(
                &session,
                &[script::message("bench", &json!([{"text": "done"}]))],
            )
            .await?;
        let mut first = None;
        while let Some(event) = stream.next().await? {
            if event["type"] == "event_delta" && first.is_none() {
                first = Some(begun.elapsed());
            }
            if event["type"] == "session.status_idle" {
                break;
            }
        }
        Ok(first.ok_or("the turn had no delta")?)
    }

    /// Commits by the store and syncs by the kernel's word, over ten turns.
    async fn counted(&self, session: &str) -> Result<Option<(u64, usize)>, Wrong> {
        let Some(count) = syncs::start(self.server.pid()).await else {
            return Ok(None);
        };
        let before = self.commits().await?;
        for _ in 0..10 {
            self.turn(session, 1).await?;
        }
        let commits = self.commits().await? - before;
        Ok(count.end().await.map(|syncs| (commits, syncs)))
    }
}
