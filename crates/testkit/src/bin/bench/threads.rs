//! Twenty-five threads of one coordinator at once against twenty-five sessions that do the same work, round by round in
//! one run: throughput of both, and what a thread costs more than a session. Calls are of a tool that is not there, so
//! that every round is a request of the model, two commits and nothing else.

use contract::time::Micros;
use serde_json::{Value, json};
use testkit::api::Api;
use testkit::model::Model;
use testkit::process::Launch;
use testkit::{script, setting};
use tokio::task::JoinSet;

use crate::Wrong;
use crate::numbers::{median, rounded};

/// Threads, and sessions.
const LINES: usize = 25;

/// Requests that each of them makes before its last word.
const REQUESTS: usize = 8;

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 20;

/// Runs the benchmark.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let model = Model::start().await?;
    let launch = Launch::new("target/release/longhand")?.model(&model.base_url());
    let server = launch.start().await;
    let api = server.api();
    let coder = agent(&api, json!({"name": "coder"})).await?;
    let team = json!({"type": "coordinator", "agents": [coder]});
    let lead = agent(&api, json!({"name": "lead", "multiagent": team})).await?;
    let environment = json!({"name": "threads", "config": {"type": "cloud"}});
    let environment = api.post("/v1/environments", &environment).await?["id"].clone();
    let (mut together, mut apart) = (Vec::new(), Vec::new());
    for round in 0..setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS) {
        together.push(team_of(&api, &session(&lead, &environment), round).await?);
        apart.push(sessions(&api, &session(&coder, &environment), round).await?);
    }
    server.kill();
    let (together, apart) = (median(together), median(apart));
    let requests = (LINES * (REQUESTS + 1)) as f64;
    Ok(json!({
        "lines": LINES,
        "requests_a_line": REQUESTS + 1,
        "threads": {"ms": rounded(together), "requests_per_second": rounded(requests / together * 1e3)},
        "floor": {"ms": rounded(apart), "requests_per_second": rounded(requests / apart * 1e3)},
        "ratio": rounded(together / apart),
        "overhead_ms_a_thread": rounded((together - apart) / LINES as f64),
    }))
}

async fn agent(api: &Api, fields: Value) -> Result<Value, Wrong> {
    let mut agent = json!({"model": "claude-sonnet-5-5"});
    let own = agent.as_object_mut().expect("an object");
    own.extend(fields.as_object().cloned().unwrap_or_default());
    Ok(api.post("/v1/agents", &agent).await?["id"].clone())
}

fn session(agent: &Value, environment: &Value) -> Value {
    json!({"agent": agent, "environment_id": environment})
}

/// What each line does.
fn work() -> Vec<Value> {
    let mut steps = vec![json!({"tool": "absent"}); REQUESTS];
    steps.push(json!({"text": "done"}));
    steps
}

/// A coordinator whose threads all work at once, from the first event to the last in milliseconds.
async fn team_of(api: &Api, ground: &Value, round: u64) -> Result<f64, Wrong> {
    let session = testkit::api::id(&api.post("/v1/sessions", ground).await?);
    let task = |n: usize| format!("task {round} {n} SCRIPT: {}", json!(work()));
    let call = |n: usize| json!({"name": "send_to_agent", "input": {"agent": "coder", "message": task(n)}});
    let calls = (0..LINES).map(call).collect::<Vec<_>>();
    let mut steps = vec![json!({"tools": calls})];
    // However the answers come together, each is heard.
    steps.extend(vec![json!({"text": "heard"}); LINES + 1]);
    let message = script::message(&format!("team {round}"), &json!(steps));
    api.send(&session, &[message]).await?;
    took(&[api.idle(&session).await])
}

/// From the first of the events to the last, in milliseconds. Who waits for rest looks only now and then, and would
/// measure the pauses between its looks.
fn took(logs: &[Vec<Value>]) -> Result<f64, Wrong> {
    let mut times = Vec::new();
    for event in logs.iter().flatten() {
        times.push(serde_json::from_value::<Micros>(
            event["processed_at"].clone(),
        )?);
    }
    let (first, last) = (times.iter().min(), times.iter().max());
    let (first, last) = first.zip(last).ok_or("nothing happened")?;
    Ok(last.seconds_since(*first) * 1e3)
}

/// As many sessions that do the same work.
async fn sessions(api: &Api, ground: &Value, round: u64) -> Result<f64, Wrong> {
    let mut made = Vec::new();
    for _ in 0..LINES {
        made.push(testkit::api::id(&api.post("/v1/sessions", ground).await?));
    }
    let mut at_work = JoinSet::new();
    for (n, session) in made.into_iter().enumerate() {
        let (api, steps) = (api.clone(), json!(work()));
        at_work.spawn(async move {
            let message = script::message(&format!("session {round} {n}"), &steps);
            api.send(&session, &[message]).await?;
            Ok::<_, Wrong>(api.idle(&session).await)
        });
    }
    let mut logs = Vec::new();
    while let Some(done) = at_work.join_next().await {
        logs.push(done??);
    }
    took(&logs)
}
