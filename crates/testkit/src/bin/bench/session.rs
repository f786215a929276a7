//! What a long history, many sessions and a crash cost: sends and turns on a session of 100,000 events, 1,000
//! turns at once, 1,000 turns taken up after a kill, and how long an interrupt takes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::stream::EventStream;
use testkit::{script, setting, wait};
use tokio::task::JoinSet;

use crate::Wrong;
use crate::numbers::{millis, percentile, rounded};

/// Events of the long session and of the short one.
const LONG: usize = 100_000;
const SHORT: usize = 10;

/// Pairs of sends and of turns, long and short by turns.
const PAIRS: usize = 60;

/// Sessions at once, unless `TESTKIT_BENCH_SESSIONS` says otherwise.
const SESSIONS: u64 = 1_000;

/// Interrupts of each kind.
const INTERRUPTS: usize = 40;

/// A phase of a turn, and how one sees that it is reached: by an event, else by the request that waits.
struct Phase {
    name: &'static str,
    policy: &'static str,
    steps: fn(&str) -> Value,
    shown_by: Option<&'static str>,
}

const PHASES: &[Phase] = &[
    Phase {
        name: "model_asked",
        policy: "always_allow",
        steps: |gate| json!([{"wait": gate, "text": "never"}]),
        shown_by: None,
    },
    Phase {
        name: "model_streaming",
        policy: "always_allow",
        steps: |gate| json!([{"text": "in two pieces", "chunks": 2, "wait_mid": gate}]),
        shown_by: Some("event_delta"),
    },
    Phase {
        name: "tool_running",
        policy: "always_allow",
        steps: |gate| json!([{"tool": "bash", "input": {"command": format!("sleep 1000 # {gate}")}}]),
        shown_by: Some("agent.tool_use"),
    },
    Phase {
        name: "retry_waiting",
        policy: "always_allow",
        steps: |_| json!([{"error": 529, "retry_after": 100}, {"text": "never"}]),
        shown_by: Some("session.status_rescheduled"),
    },
    Phase {
        name: "judging",
        policy: "auto",
        steps: |gate| json!([script::bash("true"), {"on": "judge", "wait": gate, "text": "allow"}]),
        shown_by: None,
    },
    Phase {
        name: "condensing",
        policy: "always_allow",
        steps: |gate| json!([{"too_long": true}, {"text": "never"}, {"on": "summary", "wait": gate, "text": "late"}]),
        shown_by: None,
    },
];

struct Bench {
    launch: Launch,
    server: Option<Server>,
    model: Model,
    ground: Ground,
}

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let model = Model::start().await?;
    let launch = Launch::new("target/release/longhand")?.model(&model.base_url());
    let server = launch.start().await;
    let ground = server.api().ground().await?;
    let mut bench = Bench {
        launch,
        server: Some(server),
        model,
        ground,
    };
    let history = bench.history().await?;
    eprintln!("history: {history}");
    let at_once = bench.at_once().await?;
    eprintln!("at once: {at_once}");
    let interrupts = bench.interrupts().await?;
    eprintln!("interrupts: {interrupts}");
    let crash = bench.crash().await?;
    eprintln!("crash: {crash}");
    Ok(json!({
        "bench": "session", "history": history, "turns_at_once": at_once,
        "interrupt_to_idle": interrupts, "taken_up_after_a_kill": crash,
    }))
}

/// From the send of an interrupt to idle on the stream.
async fn interrupt(api: &Api, session: &str, stream: &mut EventStream) -> Result<Duration, Wrong> {
    let begun = Instant::now();
    api.send(session, &[json!({"type": "user.interrupt"})])
        .await?;
    while stream.next().await?.ok_or("the stream ended")?["type"] != "session.status_idle" {}
    Ok(begun.elapsed())
}

fn interrupted(times: &[Duration]) -> Value {
    let p99 = percentile(times, 99);
    json!({
        "p50_ms": millis(percentile(times, 50)), "p99_ms": millis(p99),
        "met": p99 <= Duration::from_millis(250),
    })
}

fn plain() -> Value {
    json!([{"text": "heard"}])
}

impl Bench {
    fn api(&self) -> Result<Api, Wrong> {
        Ok(self.server.as_ref().ok_or("no server")?.api())
    }

    /// A session with so many events in its log: interrupts of an idle session, which cost no model.
    async fn with_events(&self, events: usize) -> Result<String, Wrong> {
        let api = self.api()?;
        let session = api.session(&self.ground).await?;
        let mut left = events;
        while left > 0 {
            let batch = left.min(1_000);
            let interrupts = vec![json!({"type": "user.interrupt"}); batch];
            api.send(&session, &interrupts).await?;
            left -= batch;
        }
        Ok(session)
    }

    /// A whole turn, from the send to idle on the stream.
    async fn turn(&self, session: &str) -> Result<(Duration, Duration), Wrong> {
        let api = self.api()?;
        let mut stream = api.stream(session, false).await?;
        let begun = Instant::now();
        api.send(session, &[script::message("m", &plain())]).await?;
        let sent = begun.elapsed();
        while let Some(event) = stream.next().await? {
            if event["type"] == "session.status_idle" {
                return Ok((sent, begun.elapsed()));
            }
        }
        Err("the stream ended within a turn".into())
    }

    async fn history(&self) -> Result<Value, Wrong> {
        let (long, short) = (
            self.with_events(LONG).await?,
            self.with_events(SHORT).await?,
        );
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..PAIRS {
            for (at, session) in [(0, &long), (2, &short)] {
                let (sent, done) = self.turn(session).await?;
                times[at].push(sent);
                times[at + 1].push(done);
            }
        }
        let p50 = times.each_ref().map(|times| percentile(times, 50));
        let ratio = |a: Duration, b: Duration| rounded(a.as_secs_f64() / b.as_secs_f64().max(1e-9));
        let (send, turn) = (ratio(p50[0], p50[2]), ratio(p50[1], p50[3]));
        Ok(json!({
            "events": [LONG, SHORT],
            "send_ms": {"figure": millis(p50[0]), "floor": millis(p50[2]), "ratio": send},
            "turn_ms": {"figure": millis(p50[1]), "floor": millis(p50[3]), "ratio": turn},
            "target": {"send_ratio": 1.2}, "met": send <= 1.2,
        }))
    }

    /// One turn in each of so many sessions, all sent at once; how long each took and all together.
    async fn burst(&self, sessions: usize) -> Result<(Vec<Duration>, Duration), Wrong> {
        let api = self.api()?;
        let mut made = Vec::new();
        for _ in 0..sessions {
            made.push(api.session(&self.ground).await?);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for session in made {
            let api = api.clone();
            tasks.spawn(async move {
                let mut stream = api.stream(&session, false).await?;
                let sent = Instant::now();
                api.send(&session, &[script::message("m", &plain())])
                    .await?;
                while let Some(event) = stream.next().await? {
                    if event["type"] == "session.status_idle" {
                        return Result::<_, Wrong>::Ok(sent.elapsed());
                    }
                }
                Err("the stream ended within a turn".into())
            });
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.push(done??);
        }
        Ok((times, begun.elapsed()))
    }

    async fn at_once(&self) -> Result<Value, Wrong> {
        let many = usize::try_from(setting::number("TESTKIT_BENCH_SESSIONS", SESSIONS))?;
        let mut best = 0.0_f64;
        for sessions in [16, 64, 256] {
            let (times, took) = self.burst(sessions).await?;
            best = best.max(times.len() as f64 / took.as_secs_f64());
        }
        let (times, took) = self.burst(many).await?;
        let rate = times.len() as f64 / took.as_secs_f64();
        let longest = times.iter().max().copied().unwrap_or_default();
        let middle = percentile(&times, 50);
        let spread = longest.as_secs_f64() / middle.as_secs_f64().max(1e-9);
        Ok(json!({
            "sessions": many,
            "turns_per_second": {"figure": rounded(rate), "best": rounded(best), "ratio": rounded(rate / best.max(1e-9))},
            "median_ms": millis(middle), "longest_ms": millis(longest), "longest_to_median": rounded(spread),
            "target": {"ratio": 0.7, "longest_to_median": 3},
            "met": rate >= 0.7 * best && spread <= 3.0,
        }))
    }

    /// From the send of an interrupt to idle on the stream, in each phase.
    async fn interrupts(&self) -> Result<Value, Wrong> {
        let mut shown = serde_json::Map::new();
        for phase in PHASES {
            let figures = self.interrupt(phase).await?;
            eprintln!("{}: {figures}", phase.name);
            shown.insert(phase.name.to_owned(), figures);
        }
        let figures = self.queued().await?;
        eprintln!("queued: {figures}");
        shown.insert("queued".to_owned(), figures);
        shown.insert("target".to_owned(), json!({"p99_ms": 250}));
        Ok(Value::Object(shown))
    }

    async fn interrupt(&self, phase: &Phase) -> Result<Value, Wrong> {
        let api = self.api()?;
        let tools = json!([{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": phase.policy}}}]);
        let agent = json!({"name": "Interrupted", "model": "claude-sonnet-5-5", "tools": tools});
        let agent = api.post("/v1/agents", &agent).await?;
        let mut body = self.ground.session();
        body["agent"] = agent["id"].clone();
        let made = api.post("/v1/sessions", &body).await?;
        let session = made["id"].as_str().ok_or("no id")?.to_owned();
        let mut stream = api.stream(&session, true).await?;
        let mut times = Vec::new();
        for n in 0..INTERRUPTS {
            let gate = format!("{}{n}", phase.name);
            let steps = (phase.steps)(&gate);
            api.send(&session, &[script::message("m", &steps)]).await?;
            match phase.shown_by {
                Some(kind) => {
                    while stream.next().await?.ok_or("the stream ended")?["type"] != kind {}
                }
                None => self.model.reached(std::slice::from_ref(&gate)).await,
            }
            times.push(interrupt(&api, &session, &mut stream).await?);
            self.model.release(&gate);
        }
        Ok(interrupted(&times))
    }

    /// The same for turns that nobody has taken yet, in a workspace whose one running turn is another's.
    async fn queued(&self) -> Result<Value, Wrong> {
        const GATE: &str = "queued";
        let launch = Launch::new("target/release/longhand")?.model(&self.model.base_url());
        let launch = launch.environment("LONGHAND_LIMITS_WORKSPACE_TURNS", "1");
        let server = launch.start().await;
        let api = server.api();
        let ground = api.ground().await?;
        let first = api.session(&ground).await?;
        let steps = json!([{"wait": GATE, "text": "late"}]);
        api.send(&first, &[script::message("m", &steps)]).await?;
        self.model.reached(&[GATE.to_owned()]).await;
        let session = api.session(&ground).await?;
        let mut stream = api.stream(&session, false).await?;
        let mut times = Vec::new();
        for _ in 0..INTERRUPTS {
            api.send(&session, &[script::message("m", &plain())])
                .await?;
            times.push(interrupt(&api, &session, &mut stream).await?);
        }
        self.model.release(GATE);
        Ok(interrupted(&times))
    }

    /// Kills the server in the middle of so many turns; how long until each is taken up again.
    async fn crash(&mut self) -> Result<Value, Wrong> {
        let many = usize::try_from(setting::number("TESTKIT_BENCH_SESSIONS", SESSIONS))?;
        let api = self.api()?;
        let steps = json!([{"text": "in two pieces", "chunks": 2, "wait_mid": "crash"}]);
        for _ in 0..many {
            let session = api.session(&self.ground).await?;
            api.send(&session, &[script::message("m", &steps)]).await?;
        }
        self.all_running(many).await?;
        let server = self.server.take().ok_or("no server")?;
        server.kill();
        server.ended().await;
        let begun = Instant::now();
        self.server = Some(self.launch.start().await);
        let listening = begun.elapsed();
        self.all_running(many).await?;
        let taken = begun.elapsed().as_secs_f64();
        self.model.release("crash");
        Ok(json!({
            "sessions": many, "listening_ms": millis(listening), "seconds": rounded(taken),
            "target": {"seconds": 5}, "met": taken <= 5.0,
        }))
    }

    async fn all_running(&self, many: usize) -> Result<(), Wrong> {
        let server = self.server.as_ref().ok_or("no server")?;
        wait::until("every turn to run", || async {
            (server.status().await.ok()?["turns"]["running"].as_u64()? >= many as u64).then_some(())
        })
        .await;
        Ok(())
    }
}
