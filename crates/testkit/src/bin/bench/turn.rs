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

use crate::numbers::{median, rounded};
use crate::{Wrong, syncs};

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 60;

/// Rounds of one session before the next one is taken: the history that each request repeats stays short.
const HISTORY: u64 = 10;

/// Calls of the long turn, whose further calls say what a call costs.
const CALLS: usize = 5;

/// Bytes of the file that stands for the write-ahead log.
const LOG: u64 = 4 << 20;

struct Bench {
    launch: Launch,
    server: Server,
    model: Model,
    api: Api,
    ground: Ground,
    to_model: Mutex<Conn<TcpStream>>,
    log: Mutex<File>,
}

/// Times of one round, in milliseconds. Floor and figure of a round stand close together in time, so that a
/// machine that is slow for a while moves both.
#[derive(Default)]
struct Round {
    /// Median of the commits before, between and after.
    commit: f64,
    commits: u64,
    /// Both of the turn's requests.
    model: f64,
    model_first: f64,
    turn: f64,
    /// A turn with [`CALLS`] calls in one reply.
    long: f64,
    first_delta: f64,
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
        model,
        api,
        ground,
    };
    let mut session = bench.warm().await?;
    let bytes = bench.bytes_of_a_commit(&session).await?;
    let mut rounds = Vec::new();
    for round in 0..setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS) {
        if round % HISTORY == 0 {
            session = bench.warm().await?;
        }
        rounds.push(bench.round(&session, bytes).await?);
    }
    let counted = bench.counted(&session).await?;
    Ok(shown(&rounds, bytes, counted))
}

/// The file whose writes say what a commit costs, filled and synced.
fn log_file(launch: &Launch) -> Result<File, Wrong> {
    let mut file = File::create_new(launch.data_dir().join("bench-log"))?;
    file.write_all(&vec![b'.'; usize::try_from(LOG)?])?;
    file.sync_all()?;
    file.rewind()?;
    Ok(file)
}

fn shown(rounds: &[Round], bytes: usize, counted: Option<(u64, usize)>) -> Value {
    let middle = |of: &dyn Fn(&Round) -> f64| rounded(median(rounds.iter().map(of)));
    let commits = middle(&|r| r.commits as f64);
    // A further call in the same reply costs itself and one commit.
    let tool = middle(&|r| (r.long - r.turn) / (CALLS - 1) as f64 - r.commit).max(0.0);
    let turn_floor = |r: &Round| r.commits as f64 * r.commit + r.model + tool;
    let delta_floor = |r: &Round| 2.0 * r.commit + r.model_first;
    let beyond = middle(&|r| r.turn - turn_floor(r));
    let delta_beyond = middle(&|r| r.first_delta - delta_floor(r));
    json!({
        "bench": "turn", "rounds": rounds.len(),
        "commit_floor": {"bytes": bytes, "p50_ms": middle(&|r| r.commit)},
        "commits": {
            "figure": commits, "target": 6, "met": commits <= 6.0,
            "checked": counted.map(|(commits, syncs)| json!({"commits": commits, "fdatasync_by_strace": syncs})),
        },
        "duration": {
            "figure_ms": middle(&|r| r.turn), "floor_ms": middle(&turn_floor),
            "ratio": middle(&|r| r.turn / turn_floor(r)), "beyond_ms": beyond,
            "model_ms": middle(&|r| r.model), "tool_ms": tool,
            "target": {"beyond_ms": 5}, "met": beyond <= 5.0,
        },
        "first_delta": {
            "figure_ms": middle(&|r| r.first_delta), "floor_ms": middle(&delta_floor),
            "ratio": middle(&|r| r.first_delta / delta_floor(r)), "beyond_ms": delta_beyond,
            "target": {"beyond_ms": 3}, "met": delta_beyond <= 3.0,
        },
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Bench {
    async fn commits(&self) -> Result<u64, Wrong> {
        Ok(self.server.status().await?["store"]["commits"]
            .as_u64()
            .ok_or("no commit count in /v1/x/status")?)
    }

    /// A session whose sandbox is there: its first turn, which makes it, is not counted.
    async fn warm(&self) -> Result<String, Wrong> {
        let session = self.api.session(&self.ground).await?;
        self.turn(&session, 1).await?;
        Ok(session)
    }

    async fn round(&self, session: &str, bytes: usize) -> Result<Round, Wrong> {
        let mut commits = Vec::new();
        for _ in 0..3 {
            commits.push(ms(self.commit(bytes).await?));
        }
        let before = self.commits().await?;
        let turn = self.turn(session, 1).await?;
        let after = self.commits().await?;
        let mut model = 0.0;
        for body in self.model.last(2) {
            model += ms(self.ask_model(&body).await?.1);
        }
        for _ in 0..3 {
            commits.push(ms(self.commit(bytes).await?));
        }
        let first_delta = self.first_delta().await?;
        let mut model_first = Duration::ZERO;
        for body in self.model.last(1) {
            model_first = self.ask_model(&body).await?.0;
        }
        for _ in 0..3 {
            commits.push(ms(self.commit(bytes).await?));
        }
        let long = self.turn(session, CALLS).await?;
        Ok(Round {
            commit: median(commits),
            commits: after - before,
            model,
            model_first: ms(model_first),
            turn: ms(turn),
            long: ms(long),
            first_delta: ms(first_delta),
        })
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

    /// The model alone, asked the same again: to its first delta (or the end of an answer that has none),
    /// and to its end. On a connection that was used before, as the server's are.
    async fn ask_model(&self, body: &Value) -> Result<(Duration, Duration), Wrong> {
        let headers =
            "x-api-key: sk-scripted-0000000000000000\r\nanthropic-version: 2023-06-01\r\n";
        let bytes = request(
            "POST",
            "/v1/messages",
            headers,
            Some(body.to_string().as_bytes()),
        );
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
        if head.status != 200 {
            return Err(format!("the scripted model answered {}: {text}", head.status).into());
        }
        let whole = begun.elapsed();
        Ok((first.unwrap_or(whole), whole))
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
