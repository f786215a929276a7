//! What several servers on PostgreSQL carry beside one on a file, what an event costs on each, how soon a subscriber on
//! another server sees one, and what a million idle sessions slow. All share one machine: so what is compared is what an
//! event costs, and the busy processors say whether the machine was the limit.

mod cost;
mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::cluster::Cluster;
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::stream::EventStream;
use testkit::{script, setting};
use tokio::task::JoinSet;

use self::cost::Counted;
use crate::Wrong;
use crate::numbers::{median, millis, percentile, rounded};

/// Sessions that take turns all the time.
const SESSIONS: usize = 48;

/// Turns of one session before the next one is taken: the history that each request repeats stays short.
const HISTORY: usize = 20;

/// Rounds in which each kind is driven for [`SLICE`], unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 5;
const SLICE: Duration = Duration::from_secs(4);

/// Events whose way to a subscriber on another server is timed.
const WAYS: usize = 300;

/// Servers on one database, or one on a file.
struct Kind {
    name: &'static str,
    /// One after the other: their directories are removed last.
    servers: Vec<Server>,
    _launches: Vec<Launch>,
    cluster: Option<Arc<Cluster>>,
    ground: Ground,
    slices: Vec<Slice>,
}

/// What was done in one slice.
struct Slice {
    turns: u64,
    took: f64,
    counted: Counted,
}

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let home = tempfile::Builder::new().prefix("lhpg").tempdir()?;
    let model = Model::start().await?;
    let mut kinds = vec![Kind::start("sqlite", 1, None, &model).await?];
    for (name, servers) in [("postgres_1", 1), ("postgres_2", 2), ("postgres_3", 3)] {
        // Each a server of its own, so that its processor time and its log are its own.
        let cluster = Arc::new(Cluster::durable(&home.path().join(name)));
        kinds.push(Kind::start(name, servers, Some(cluster), &model).await?);
    }
    for round in 0..setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS) {
        for kind in &mut kinds {
            let slice = kind.drive().await?;
            eprintln!(
                "round {round}, {}: {:.0} turns/s",
                kind.name,
                slice.turns as f64 / slice.took
            );
            kind.slices.push(slice);
        }
    }
    let three = kinds.last().ok_or("no servers")?;
    let way = three.way().await?;
    eprintln!("to another server: {way}");
    let one = &kinds[1];
    let idle = idle::run(&one.servers[0], &one.ground, one.cluster.as_deref()).await?;
    let floor = kinds[0].events_a_second();
    let carried = kinds
        .iter()
        .map(|kind| (kind.name.to_owned(), kind.shown(floor)));
    Ok(json!({
        "bench": "scale", "sessions": SESSIONS, "slice_seconds": SLICE.as_secs_f64(),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        "carried": Value::Object(carried.collect()), "to_another_server": way, "idle_sessions": idle,
    }))
}

impl Kind {
    async fn start(
        name: &'static str,
        count: usize,
        cluster: Option<Arc<Cluster>>,
        model: &Model,
    ) -> Result<Self, Wrong> {
        let (mut servers, mut launches) = (Vec::new(), Vec::new());
        for n in 0..count {
            let mut launch = Launch::new("target/release/longhand")?
                .model(&model.base_url())
                .environment("LONGHAND_LIMITS_WORKSPACE_SESSIONS", "2000000")
                .environment("LONGHAND_MASTER_KEY", &"5f".repeat(32));
            if let Some(cluster) = &cluster {
                launch = launch
                    .environment("LONGHAND_SERVER_DATABASE_URL", &cluster.url())
                    .environment("LONGHAND_SERVER_REPLICA", &format!("r{n}"));
            }
            servers.push(launch.start().await);
            launches.push(launch);
        }
        let ground = servers[0].api().ground().await?;
        Ok(Self {
            name,
            servers,
            _launches: launches,
            cluster,
            ground,
            slices: Vec::new(),
        })
    }

    /// Turn after turn in all sessions, spread over the servers, for one slice.
    async fn drive(&self) -> Result<Slice, Wrong> {
        let before = Counted::now(&self.servers, self.cluster.as_deref()).await?;
        let (stop, turns) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for n in 0..SESSIONS {
            let api = self.servers[n % self.servers.len()].api();
            let new = self.ground.session();
            tasks.spawn(turn_after_turn(
                api,
                new,
                Arc::clone(&stop),
                Arc::clone(&turns),
            ));
        }
        tokio::time::sleep(SLICE).await;
        stop.store(true, Ordering::Release);
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let took = begun.elapsed().as_secs_f64();
        let after = Counted::now(&self.servers, self.cluster.as_deref()).await?;
        Ok(Slice {
            turns: turns.load(Ordering::Acquire),
            took,
            counted: after.since(before),
        })
    }

    fn events_a_second(&self) -> f64 {
        let rates = self
            .slices
            .iter()
            .map(|s| s.counted.events() as f64 / s.took);
        median(rates)
    }

    fn shown(&self, floor: f64) -> Value {
        let all = self.slices.iter().map(|slice| slice.counted);
        let all = all.fold(Counted::default(), Counted::and);
        let took = self.slices.iter().map(|slice| slice.took).sum::<f64>();
        let turns = self
            .slices
            .iter()
            .map(|slice| slice.turns as f64 / slice.took);
        let events = self.events_a_second();
        json!({
            "servers": self.servers.len(),
            "events_a_second": events.round(), "turns_a_second": rounded(median(turns)),
            "to_a_file": rounded(events / floor.max(1e-9)),
            "an_event": all.an_event(),
            "processors_busy": all.busy(took),
        })
    }

    /// How long after a send was answered a subscriber on another server sees its event.
    async fn way(&self) -> Result<Value, Wrong> {
        let (here, there) = (self.servers[0].api(), self.servers[1].api());
        let session = here.session(&self.ground).await?;
        let mut own = here.stream(&session, false).await?;
        let mut other = there.stream(&session, false).await?;
        let (mut from_send, mut from_answer, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..WAYS {
            let begun = Instant::now();
            let message = [script::message(
                &format!("m{n}"),
                &json!([{"text": "heard"}]),
            )];
            let sent = here.send(&session, &message);
            let answered = async { sent.await.map(|ids| (ids, begun.elapsed())) };
            let seen = |stream| shown_at(stream, begun, n);
            let (answered, own, other) =
                tokio::try_join!(wrong(answered), seen(&mut own), seen(&mut other))?;
            let (_, answered) = answered;
            from_send.push(other);
            from_answer.push(other.saturating_sub(answered));
            beside.push(other.saturating_sub(own));
        }
        let p50 = percentile(&from_answer, 50);
        Ok(json!({
            "events": WAYS,
            "from_answer_p50_ms": millis(p50), "from_answer_p99_ms": millis(percentile(&from_answer, 99)),
            "from_send_p50_ms": millis(percentile(&from_send, 50)),
            "beyond_a_subscriber_of_the_same_server_p50_ms": millis(percentile(&beside, 50)),
            "target": {"from_answer_p50_ms": 10}, "met": p50 < Duration::from_millis(10),
        }))
    }
}

async fn wrong<T>(
    asked: impl Future<Output = Result<T, testkit::api::Failed>>,
) -> Result<T, Wrong> {
    Ok(asked.await?)
}

/// When the stream shows the message with that number; then it goes on to the end of the turn.
async fn shown_at(stream: &mut EventStream, begun: Instant, n: usize) -> Result<Duration, Wrong> {
    let token = format!("m{n}\n");
    let mut shown = None;
    while let Some(event) = stream.next().await? {
        if shown.is_none()
            && event["type"] == "user.message"
            && testkit::api::texts(&event).starts_with(&token)
        {
            shown = Some(begun.elapsed());
        }
        if event["type"] == "session.status_idle" {
            break;
        }
    }
    Ok(shown.ok_or("the stream did not show the message")?)
}

/// Plain turns, one after the other, in sessions of its own, until told to stop.
async fn turn_after_turn(
    api: Api,
    new: Value,
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
) -> Result<(), Wrong> {
    while !stop.load(Ordering::Acquire) {
        let made = api.post("/v1/sessions", &new).await?;
        let session = testkit::api::id(&made);
        let mut stream = api.stream(&session, false).await?;
        for n in 0..HISTORY {
            if stop.load(Ordering::Acquire) {
                return Ok(());
            }
            one_turn(&api, &session, &mut stream, n).await?;
            turns.fetch_add(1, Ordering::Release);
        }
    }
    Ok(())
}

/// From the send to idle on the stream.
async fn one_turn(
    api: &Api,
    session: &str,
    stream: &mut EventStream,
    n: usize,
) -> Result<Duration, Wrong> {
    let begun = Instant::now();
    let message = script::message(&format!("m{n}"), &json!([{"text": "heard"}]));
    api.send(session, &[message]).await?;
    while let Some(event) = stream.next().await? {
        if event["type"] == "session.status_idle" {
            return Ok(begun.elapsed());
        }
    }
    Err("the stream ended within a turn".into())
}
