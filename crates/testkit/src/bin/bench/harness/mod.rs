//! What it takes to run the loop of others: the real claude in a session's sandbox, and as the floor the same program on
//! the host without us, with the same scripted model, interleaved in one run. The model counts what it is asked; that is
//! looked at every millisecond, which is as exact as these figures are.

mod bare;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, id};
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::{cache, inside, script, setting, wait};

use self::bare::Bare;
use crate::Wrong;
use crate::memory::Held;
use crate::numbers::{millis, percentile, rounded};

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 10;

/// What its command line holds, in a sandbox.
const CLAUDE: &str = "run/longhand/claude";

/// Milliseconds from the message to the first model request on a prepared sandbox.
const WANTED_MS: f64 = 150.0;

struct Bench {
    server: Server,
    model: Model,
    api: Api,
    session: Value,
    program: PathBuf,
    _launch: Launch,
}

/// From a message, or a start, to the first model request, and to the end of the turn.
#[derive(Default)]
struct Times {
    first_request: Vec<Duration>,
    turn: Vec<Duration>,
}

/// One side of it.
#[derive(Default)]
struct Side {
    /// The process is started for it.
    started: Times,
    /// It runs and was never spoken to; ours was frozen.
    prepared: Times,
    /// It has had a turn.
    next: Times,
    /// After that turn, and before the first one (ours frozen).
    idle: Option<Held>,
    frozen: Option<Held>,
}

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let bench = Bench::new().await?;
    let (mut ours, mut floor) = (Side::default(), Side::default());
    let rounds = setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS);
    // The first round of each reads the program from disk and is not counted.
    bench.ours(&mut Side::default()).await?;
    bench.floor(&mut Side::default()).await?;
    for _ in 0..rounds {
        bench.ours(&mut ours).await?;
        bench.floor(&mut floor).await?;
    }
    bench.server.kill();
    Ok(shown(&ours, &floor, rounds))
}

fn shown(ours: &Side, floor: &Side, rounds: u64) -> Value {
    let prepared = millis(percentile(&ours.prepared.first_request, 50));
    let held = |held: &Option<Held>| held.map(Held::shown);
    json!({
        "bench": "harness", "rounds": rounds,
        "floor_is": "the same program on the host, without a sandbox and without us",
        "spawn_to_first_request": beside(&ours.started.first_request, &floor.started.first_request),
        "prepared_to_first_request": {
            "figure": beside(&ours.prepared.first_request, &floor.prepared.first_request),
            "target_ms": WANTED_MS, "met": prepared <= WANTED_MS,
        },
        "next_to_first_request": beside(&ours.next.first_request, &floor.next.first_request),
        "turn": beside(&ours.next.turn, &floor.next.turn),
        "memory": {
            "idle": held(&ours.idle), "frozen": held(&ours.frozen), "floor_idle": held(&floor.idle),
        },
    })
}

/// Medians, the worst of ours, and what ours takes beyond the floor.
fn beside(ours: &[Duration], floor: &[Duration]) -> Value {
    let (figure, least) = (percentile(ours, 50), percentile(floor, 50));
    json!({
        "p50_ms": millis(figure), "max_ms": millis(percentile(ours, 100)), "floor_ms": millis(least),
        "ratio": rounded(figure.as_secs_f64() / least.as_secs_f64().max(1e-9)),
        "overhead_ms": rounded((figure.as_secs_f64() - least.as_secs_f64()) * 1e3),
    })
}

impl Bench {
    async fn new() -> Result<Self, Wrong> {
        let model = Model::start().await?;
        let launch = Launch::new("target/release/longhand")?.model(&model.base_url());
        let program = installed(launch.data_dir())?;
        let server = launch.start().await;
        let api = server.api();
        let key = "sk-scripted-0000000000000000";
        let vault = api.llm_vault("claude", &model.base_url(), key).await?;
        let ground = api.ground().await?;
        let mut session = ground.session();
        session["vault_ids"] = json!([vault]);
        session["metadata"] = json!({"longhand.sandbox": "eager"});
        Ok(Self {
            server,
            model,
            api,
            session,
            program,
            _launch: launch,
        })
    }

    /// One session of ours.
    async fn ours(&self, side: &mut Side) -> Result<(), Wrong> {
        let session = id(&self.api.post("/v1/sessions", &self.session).await?);
        let of = format!("/v1/x/sandboxes/{session}");
        wait::until("the sandbox to be ready and frozen", || async {
            let sandbox = self.api.get(&of).await.ok()?;
            (sandbox["status"] == "paused").then_some(())
        })
        .await;
        let claude = || inside::processes(&session, CLAUDE).first().copied();
        let pid = claude().ok_or("no claude was started ahead")?;
        side.frozen = Some(Held::by(pid)?);
        self.turn(&session, &mut side.prepared).await?;
        self.turn(&session, &mut side.next).await?;
        side.idle = Some(Held::by(pid)?);
        // Killed, so that the next one is started for its turn.
        inside::kill(pid)?;
        wait::until("it is gone", || async {
            (claude() != Some(pid)).then_some(())
        })
        .await;
        self.turn(&session, &mut side.started).await?;
        self.api
            .call("DELETE", &format!("/v1/sessions/{session}"), None)
            .await?;
        Ok(())
    }

    async fn turn(&self, session: &str, times: &mut Times) -> Result<(), Wrong> {
        let asked = self.model.asked();
        let message = script::message("turn", &json!([{"text": "done"}]));
        let mut stream = self.api.stream(session, false).await?;
        let began = Instant::now();
        self.api.send(session, &[message]).await?;
        self.first_request(asked).await;
        times.first_request.push(began.elapsed());
        while let Some(event) = wait::within("the turn", stream.next()).await? {
            if event["type"] == "session.status_idle" {
                break;
            }
        }
        times.turn.push(began.elapsed());
        Ok(())
    }

    /// The same program by itself.
    async fn floor(&self, side: &mut Side) -> Result<(), Wrong> {
        let (asked, began) = (self.model.asked(), Instant::now());
        let mut bare = Bare::start(&self.program, &self.model.base_url())?;
        bare.say("turn").await?;
        self.first_request(asked).await;
        side.started.first_request.push(began.elapsed());
        bare.ended().await?;
        side.started.turn.push(began.elapsed());
        drop(bare);
        let mut bare = Bare::start(&self.program, &self.model.base_url())?;
        bare.ready().await?;
        for times in [&mut side.prepared, &mut side.next] {
            let (asked, began) = (self.model.asked(), Instant::now());
            bare.say("turn").await?;
            self.first_request(asked).await;
            times.first_request.push(began.elapsed());
            bare.ended().await?;
            times.turn.push(began.elapsed());
        }
        side.idle = Some(Held::by(bare.pid()?)?);
        Ok(())
    }

    /// Returns when the model has been asked more often than that.
    async fn first_request(&self, before: u64) {
        let asked = async {
            while self.model.asked() <= before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        wait::within("a model request", asked).await;
    }
}

/// The program, installed as an operator does it, and kept from run to run.
fn installed(data_dir: &Path) -> Result<PathBuf, Wrong> {
    let kept = cache::directory("harness");
    std::fs::create_dir_all(&kept)?;
    std::fs::create_dir_all(data_dir)?;
    std::os::unix::fs::symlink(&kept, data_dir.join("harness"))?;
    let binary = setting::binary().unwrap_or_else(|| "target/release/longhand".into());
    let mut install = std::process::Command::new(binary);
    // A variable of ours, which the program would take for a setting of its own.
    install.env_remove("LONGHAND_BIN");
    install.arg("--data-dir").arg(data_dir);
    let output = install.args(["harness", "install", "claude"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(1);
    let Some(version) = version.filter(|_| output.status.success()) else {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("claude cannot be installed: {why}").into());
    };
    Ok(kept.join("claude").join(version).join("claude"))
}
