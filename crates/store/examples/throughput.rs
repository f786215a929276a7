//! How many inputs a second the store makes durable, and how long one takes. It prints one JSON line and
//! decides nothing: `cargo run --release -p store --example throughput -- [DIR] [clients] [seconds]`.

use std::time::{Duration, Instant};

use contract::content::Block;
use contract::ids::{AgentId, EnvironmentId, SessionId, ThreadId, WorkspaceId};
use serde_json::value::RawValue;
use session::input::Profile;
use session::policy::{ToolRule, ToolRules};
use session::{Command, Input, Opening, UserEvent};
use store::sessions::NewSession;
use store::{Options, Store, clock};
use tokio::task::JoinSet;

const WS: WorkspaceId = WorkspaceId::Default;

fn new_session(n: u128) -> NewSession {
    let json = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
    let tools = ["bash", "edit", "glob", "grep", "read", "write"];
    let rules = tools.map(|t| (t.to_owned(), ToolRule::Allow));
    NewSession {
        workspace: WS,
        agent_id: AgentId::from_bits(1),
        agent_version: 1,
        agent: json("{}").into(),
        environment_id: EnvironmentId::from_bits(1),
        environment: json("{}").into(),
        vault_ids: Vec::new(),
        profile: Profile::default(),
        opening: Opening {
            session: SessionId::from_bits(n),
            thread: ThreadId::from_bits(n),
            agent_name: "bench".to_owned(),
            rules: ToolRules(rules.into_iter().collect()),
            budget: None,
            initial: Vec::new(),
        },
    }
}

async fn client(store: Store, session: SessionId, until: Instant) -> Vec<Duration> {
    let text = "x".repeat(400);
    let mut took = Vec::new();
    while Instant::now() < until {
        let message = UserEvent::Message {
            content: vec![Block::text(text.clone())],
        };
        // A turn opened and stopped again: the session is where it was.
        for event in [message, UserEvent::Interrupt { thread: None }] {
            let input = Input::Command(Command::Send(vec![event]));
            let start = Instant::now();
            let sent = store
                .submit(WS, session, input, clock::now(), clock::entropy())
                .await;
            sent.expect("sent");
            took.push(start.elapsed());
        }
    }
    took
}

#[tokio::main]
async fn main() {
    let args = std::env::args().collect::<Vec<_>>();
    let dir = args.get(1).map_or_else(std::env::temp_dir, Into::into);
    let clients = args.get(2).and_then(|n| n.parse().ok()).unwrap_or(64u128);
    let seconds = args.get(3).and_then(|n| n.parse().ok()).unwrap_or(5u64);
    let path = dir.join(format!("throughput-{}.db", std::process::id()));
    let store = Store::open(&path, Options::default()).expect("a store");
    let json = || RawValue::from_string("{}".to_owned()).expect("JSON");
    let now = clock::now();
    let (agent, environment) = (AgentId::from_bits(1), EnvironmentId::from_bits(1));
    store
        .create_agent(WS, agent, json(), now)
        .await
        .expect("an agent");
    let environment = store.create_environment(WS, environment, "e".to_owned(), json(), now);
    environment.await.expect("an environment");
    for n in 1..=clients {
        store
            .create_session(new_session(n), now, clock::entropy())
            .await
            .expect("a session");
    }
    let (before, start) = (store.stats(), Instant::now());
    let until = start + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for n in 1..=clients {
        tasks.spawn(client(store.clone(), SessionId::from_bits(n), until));
    }
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        took.extend(done.expect("no panic"));
    }
    let elapsed = start.elapsed().as_secs_f64();
    let after = store.stats();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_micros();
    println!(
        "{}",
        serde_json::json!({
            "clients": clients,
            "submits_per_second": (took.len() as f64 / elapsed) as u64,
            "events_per_second": ((after.events - before.events) as f64 / elapsed) as u64,
            "commits_per_second": ((after.commits - before.commits) as f64 / elapsed) as u64,
            "largest_commit": after.max_batch,
            "p50_us": at(50),
            "p99_us": at(99),
        })
    );
    store.close().await;
    let _ = std::fs::remove_file(path);
}
