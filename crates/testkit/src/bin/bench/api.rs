//! Session create and event send at 64 connections: rate, latency and syncs a request, beside four floors. A
//! slice of ours and one of each floor take turns.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::{script, setting};
use tokio::task::JoinSet;

use crate::floor::{self, Does, Floor};
use crate::load::{Client, slice};
use crate::numbers::{Sample, median, millis, percentile, rounded};
use crate::{Wrong, syncs};

const CONNECTIONS: usize = 64;

/// Time of one slice; ours and the floor's take turns.
const SLICE: Duration = Duration::from_secs(1);

/// Pairs of slices, unless `TESTKIT_BENCH_PAIRS` says otherwise.
const PAIRS: u64 = 7;

/// Sends to one session before the next one is taken: few clients have more messages waiting than that.
const SENDS: usize = 25;

/// Sessions of each connection.
const SESSIONS: usize = 8;

/// Messages that wait where many do (at most 1,000 may).
const DEEP: usize = 900;

/// Sessions whose turns run beside the paced sends, each with a new turn this often.
const TURNS: (usize, Duration) = (8, Duration::from_millis(100));

/// Turns of one session before the next one is taken: the history that each request repeats stays short.
const HISTORY: usize = 20;

/// Paced sends a second, over this many connections.
const PACED: (u32, usize) = (500, 16);

struct Bench {
    server: Server,
    model: Model,
    api: Api,
    ground: Ground,
    /// Answers without reading.
    bare: Floor,
    /// Reads, and answers.
    reads: Floor,
    /// Reads, keeps it simply, and answers.
    keeps: Floor,
}

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let model = Model::start().await?;
    let launch = Launch::new("target/release/longhand")?.model(&model.base_url());
    let server = launch.start().await;
    let api = server.api();
    let ground = api.ground().await?;
    let session = api.post("/v1/sessions", &ground.session()).await?;
    let path = format!(
        "/v1/sessions/{}/events",
        session["id"].as_str().unwrap_or_default()
    );
    let sent = api.post(&path, &json!({"events": [message()]})).await?;
    let bare = floor::start(Does::Answers, &session, &sent).await?;
    let reads = floor::start(Does::Reads, &session, &sent).await?;
    let keeps = floor::start(Does::Keeps, &session, &sent).await?;
    let bench = Bench {
        server,
        model,
        api,
        ground,
        bare,
        reads,
        keeps,
    };
    let create = bench.create().await?;
    let send = bench.send().await?;
    let deep = bench.deep().await?;
    let beside = bench.beside_turns().await?;
    Ok(json!({
        "bench": "api", "connections": CONNECTIONS, "slice_seconds": SLICE.as_secs_f64(),
        "create": create, "send": send, "send_while_turns_run": beside,
        "send_by_depth": deep,
    }))
}

/// About as long as what people write.
fn message() -> Value {
    script::said(&"Please look at the failing test once more. ".repeat(5))
}

/// Pairs of slices, their syncs and commits, and what they say.
#[derive(Default)]
struct Pairs {
    ours: Vec<Sample>,
    bare: Vec<Sample>,
    reads: Vec<Sample>,
    keeps: Vec<Sample>,
    /// Of the server itself, by a route that asks no store.
    edge: Vec<Sample>,
    commits: u64,
}

impl Pairs {
    fn shown(&self, synced: Option<(usize, usize)>) -> Value {
        let ours = Sample::joined(&self.ours);
        let of = |floor: &[Sample]| {
            let pairs = self.ours.iter().zip(floor);
            median(pairs.map(|(ours, floor)| ours.rate() / floor.rate()))
        };
        let ratio = of(&self.bare);
        let whole = self.whole();
        let pairs = self.ours.iter().zip(&whole);
        let of_whole = median(pairs.map(|(ours, whole)| ours.rate() / whole));
        let rate = median(self.ours.iter().map(Sample::rate));
        let per_request = self.commits as f64 / ours.latencies.len().max(1) as f64;
        json!({
            "figure": ours.shown(), "ratio": rounded(ratio),
            "floors": {
                "stack_that_answers": Sample::joined(&self.bare).shown(),
                "stack_without_store": {"per_second": median(whole).round()},
                "stack_that_reads": Sample::joined(&self.reads).shown(),
                "stack_that_keeps": Sample::joined(&self.keeps).shown(),
                "edge_without_store": Sample::joined(&self.edge).shown(),
            },
            "ratios": {
                "of_stack_that_answers": rounded(ratio),
                "of_stack_without_store": rounded(of_whole),
                "of_stack_that_reads": rounded(of(&self.reads)),
                "of_stack_that_keeps": rounded(of(&self.keeps)),
                "of_edge_without_store": rounded(of(&self.edge)),
            },
            "commits_per_request": rounded(per_request),
            "fdatasync_per_request_by_strace": synced.map(|(syncs, n)| rounded(syncs as f64 / n.max(1) as f64)),
            "target": {"per_second": 4_000, "ratio": 0.4, "fdatasync_per_request": 0.1},
            "met": rate >= 4_000.0 && ratio >= 0.4 && per_request <= 0.1,
        })
    }

    /// Requests a second that the server's whole stack makes with no store behind it: it reads and answers the same, and
    /// asks for a key, judges headers and gives an id besides. The time of that is what a route that asks no store takes
    /// beyond the stack that only answers.
    fn whole(&self) -> Vec<f64> {
        let floors = self.reads.iter().zip(&self.edge).zip(&self.bare);
        let each = floors.map(|((reads, edge), bare)| {
            1.0 / (1.0 / reads.rate() + (1.0 / edge.rate() - 1.0 / bare.rate()).max(0.0))
        });
        each.collect()
    }
}

impl Bench {
    async fn commits(&self) -> Result<u64, Wrong> {
        Ok(self.server.status().await?["store"]["commits"]
            .as_u64()
            .ok_or("no commit count in /v1/x/status")?)
    }

    /// One slice against the server, with its commits.
    async fn ours(&self, clients: Vec<Client>, pairs: &mut Pairs) -> Result<(), Wrong> {
        let before = self.commits().await?;
        pairs.ours.push(slice(clients, SLICE, None).await?);
        pairs.commits += self.commits().await? - before;
        Ok(())
    }

    /// One slice while the kernel's word is taken: syncs and requests.
    async fn counted(&self, clients: Vec<Client>) -> Result<Option<(usize, usize)>, Wrong> {
        let Some(count) = syncs::start(self.server.pid()).await else {
            return Ok(None);
        };
        let sample = slice(clients, SLICE, None).await?;
        Ok(count
            .end()
            .await
            .map(|syncs| (syncs, sample.latencies.len())))
    }

    /// One slice against each floor.
    async fn floors(&self, request: &[u8], pairs: &mut Pairs) -> Result<(), Wrong> {
        let asks_no_store = "/v1/models/claude-sonnet-5-5";
        let asks_no_store = self.api.request("GET", asks_no_store, None);
        for (address, request, samples) in [
            (self.bare.address, request, &mut pairs.bare),
            (self.reads.address, request, &mut pairs.reads),
            (self.keeps.address, request, &mut pairs.keeps),
            (self.server.address(), &*asks_no_store, &mut pairs.edge),
        ] {
            let clients = same(address, request).await?;
            samples.push(slice(clients, SLICE, None).await?);
        }
        Ok(())
    }

    fn creating(&self) -> Vec<u8> {
        self.api
            .request("POST", "/v1/sessions", Some(&self.ground.session()))
    }

    async fn create(&self) -> Result<Value, Wrong> {
        let mut pairs = Pairs::default();
        let request = self.creating();
        let address = self.server.address();
        for _ in 0..setting::number("TESTKIT_BENCH_PAIRS", PAIRS) {
            self.ours(same(address, &request).await?, &mut pairs)
                .await?;
            self.floors(&request, &mut pairs).await?;
        }
        let synced = self.counted(same(address, &request).await?).await?;
        eprintln!("create: {}", pairs.shown(synced));
        Ok(pairs.shown(synced))
    }

    /// Clients that send to sessions of their own, each with a turn open that waits at `gate`.
    async fn senders(&self, gate: &str, connections: usize) -> Result<Vec<Client>, Wrong> {
        let mut clients = Vec::new();
        for sessions in self.waiting(gate, connections).await? {
            let requests = sessions
                .iter()
                .flat_map(|session| std::iter::repeat_n(self.sending(session), SENDS));
            let requests = requests.collect::<Vec<_>>();
            let most = requests.len();
            clients.push(Client::new(self.server.address(), requests, most).await?);
        }
        Ok(clients)
    }

    /// [`SESSIONS`] for each connection.
    async fn waiting(&self, gate: &str, connections: usize) -> Result<Vec<Vec<String>>, Wrong> {
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let (api, ground) = (self.api.clone(), self.ground.clone());
            let steps = json!([{"text": "in two pieces", "chunks": 2, "wait_mid": gate}]);
            tasks.spawn(async move {
                let mut sessions = Vec::new();
                for _ in 0..SESSIONS {
                    let session = api.session(&ground).await?;
                    api.send(&session, &[script::message("bench", &steps)])
                        .await?;
                    sessions.push(session);
                }
                Result::<_, Wrong>::Ok(sessions)
            });
        }
        let mut all = Vec::new();
        while let Some(sessions) = tasks.join_next().await {
            all.push(sessions??);
        }
        self.model.reached(&[gate.to_owned()]).await;
        Ok(all)
    }

    /// Lets the turns at `gate` end and waits until all have.
    async fn settle(&self, gate: &str) {
        self.model.release(gate);
        testkit::wait::until("all sessions to be idle", || async {
            let running = self
                .api
                .get("/v1/sessions?statuses%5B%5D=running&limit=1")
                .await
                .ok()?;
            running["data"].as_array()?.is_empty().then_some(())
        })
        .await;
    }

    async fn send(&self) -> Result<Value, Wrong> {
        let mut pairs = Pairs::default();
        let path = "/v1/sessions/sesn_1111111111111111111111/events";
        let request = self
            .api
            .request("POST", path, Some(&json!({"events": [message()]})));
        for pair in 0..setting::number("TESTKIT_BENCH_PAIRS", PAIRS) {
            let gate = format!("send{pair}");
            let clients = self.senders(&gate, CONNECTIONS).await?;
            self.ours(clients, &mut pairs).await?;
            self.settle(&gate).await;
            self.floors(&request, &mut pairs).await?;
        }
        let clients = self.senders("counted", CONNECTIONS).await?;
        let synced = self.counted(clients).await?;
        self.settle("counted").await;
        eprintln!("send: {}", pairs.shown(synced));
        Ok(pairs.shown(synced))
    }

    /// What a send costs when little waits in its session, and when much does, one after the other by turns.
    async fn deep(&self) -> Result<Value, Wrong> {
        let sessions = self.waiting("deep", 1).await?;
        let [deep, shallow @ ..] = sessions.first().ok_or("no session")?.as_slice() else {
            return Err("no session".into());
        };
        for _ in 0..DEEP {
            self.one(deep).await?;
        }
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for session in shallow.iter().cycle().take(98) {
            with.push(self.one(deep).await?);
            without.push(self.one(session).await?);
        }
        self.settle("deep").await;
        let (with, without) = (percentile(&with, 50), percentile(&without, 50));
        Ok(json!({
            "p50_ms_few_waiting": millis(without), "p50_ms_900_waiting": millis(with),
            "ratio": rounded(with.as_secs_f64() / without.as_secs_f64().max(1e-9)),
        }))
    }

    async fn one(&self, session: &str) -> Result<Duration, Wrong> {
        let client = Client::new(self.server.address(), vec![self.sending(session)], 1).await?;
        let sample = slice(vec![client], SLICE, None).await?;
        Ok(sample.percentile(50))
    }

    fn sending(&self, session: &str) -> Vec<u8> {
        let path = format!("/v1/sessions/{session}/events");
        self.api
            .request("POST", &path, Some(&json!({"events": [message()]})))
    }

    /// Sends at a steady pace while whole turns run in other sessions.
    async fn beside_turns(&self) -> Result<Value, Wrong> {
        let (rate, connections) = PACED;
        let time = SLICE * 6;
        let clients = self.senders("beside", connections).await?;
        let mut turns = JoinSet::new();
        let end = Instant::now() + time;
        for _ in 0..TURNS.0 {
            turns.spawn(turns_until(self.api.clone(), self.ground.clone(), end));
        }
        let pace = Duration::from_secs(1) * u32::try_from(connections)? / rate;
        let sample = slice(clients, time, Some(pace)).await?;
        let mut done = 0;
        while let Some(turn) = turns.join_next().await {
            done += turn??;
        }
        self.settle("beside").await;
        Ok(json!({
            "figure": sample.shown(), "turns": done, "turns_per_second": rounded(done as f64 / time.as_secs_f64()),
            "target": {"p99_ms": 20}, "met": sample.percentile(99) < Duration::from_millis(20),
        }))
    }
}

/// As many connections as there are, each with this request over and over.
async fn same(address: SocketAddr, request: &[u8]) -> Result<Vec<Client>, Wrong> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::new(address, vec![request.to_owned()], usize::MAX).await?);
    }
    Ok(clients)
}

/// Turn after turn at a steady pace, in one session after the other; how many.
async fn turns_until(api: Api, ground: Ground, end: Instant) -> Result<u32, Wrong> {
    let mut done = 0;
    let mut due = Instant::now();
    while due < end {
        let session = api.session(&ground).await?;
        let mut stream = api.stream(&session, false).await?;
        for _ in 0..HISTORY {
            tokio::time::sleep_until(due.into()).await;
            due = Instant::now().max(due + TURNS.1);
            api.send(&session, &[message()]).await?;
            while let Some(event) = stream.next().await? {
                if event["type"] == "session.status_idle" {
                    break;
                }
            }
            done += 1;
            if due >= end {
                break;
            }
        }
    }
    Ok(done)
}
