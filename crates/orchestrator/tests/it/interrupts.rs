//! An interrupt in each phase of a turn: it acts at once, and nothing goes on behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::ids::SessionId;
use sandbox::Local;
use serde_json::json;
use session::{Phase, Status};

use crate::support::{Server, World, bash, interrupt, kinds, message, of, said, script, until};

/// Within this an interrupt has acted. Of three tries one must: the machine may be busy.
const ACTS_WITHIN: Duration = Duration::from_millis(250);

/// Brings three sessions into a phase and interrupts them: each rests, the fastest within the bound.
async fn stops<F>(server: &Server, policy: &str, steps: serde_json::Value, ready: F)
where
    F: AsyncFn(SessionId, usize),
{
    let mut fastest = Duration::MAX;
    for n in 0..3 {
        let text = script(&format!("{}{}", "x".repeat(4_000), n), &steps);
        let id = server.session(policy, &text).await;
        ready(id, n).await;
        let sent = Instant::now();
        server.send(id, interrupt()).await;
        let log = server.log(id).await;
        fastest = fastest.min(sent.elapsed());
        let idle = log.last().unwrap();
        assert_eq!(idle["type"], "session.status_idle", "{:?}", kinds(&log));
        assert_eq!(idle["stop_reason"]["type"], "end_turn");
        assert_eq!(of(&log, "user.interrupt").len(), 1);
        for call in of(&log, "agent.tool_use") {
            let results = of(&log, "agent.tool_result");
            assert!(
                results.iter().any(|r| r["tool_use_id"] == call["id"]),
                "{log:?}"
            );
        }
    }
    assert!(fastest < ACTS_WITHIN, "{fastest:?}");
    until("no turn runs", || async {
        server.orchestrator.running() == 0
    })
    .await;
}

#[tokio::test]
async fn before_the_model_answers() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"hang": true}]);
    stops(&server, "always_allow", steps, async |_, n| {
        world.asked(n + 1).await;
    })
    .await;
}

#[tokio::test]
async fn while_the_model_speaks() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"text": "many words of it", "chunks": 4, "wait_mid": "never"}]);
    stops(&server, "always_allow", steps, async |_, n| {
        world.asked(n + 1).await;
        until("it speaks", || async {
            !world.scripted.stats().waiting.is_empty()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn while_a_tool_runs() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([bash("hang")]);
    stops(&server, "always_allow", steps, async |_, _| {
        until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    })
    .await;
    assert_eq!(world.sandboxes.hanging(), 0);
}

#[tokio::test]
async fn while_a_judge_thinks() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([bash("echo no"), {"on": "judge", "hang": true, "times": 0}]);
    stops(&server, "auto", steps, async |_, n| {
        world.asked(2 * (n + 1)).await;
    })
    .await;
    assert_eq!(
        world.sandboxes.calls(),
        0,
        "what nobody judged does not run"
    );
}

#[tokio::test]
async fn while_the_transcript_is_condensed() {
    let world = World::with_model("tiny").await;
    let server = world.server(|_| {});
    let steps = json!([bash("echo one"), {"on": "summary", "hang": true, "times": 0}]);
    stops(&server, "always_allow", steps, async |id, n| {
        let compacting = |s: &session::State| matches!(s.primary.phase, Phase::Compacting { .. });
        server.until(id, "it is condensed", compacting).await;
        world.asked(2 * (n + 1)).await;
    })
    .await;
}

#[tokio::test]
async fn while_the_next_try_is_waited_for() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"error": 529, "retry_after": 200, "times": 0}]);
    stops(&server, "always_allow", steps, async |id, _| {
        server
            .until(id, "it waits", |s| s.status() == Status::Rescheduling)
            .await;
    })
    .await;
}

#[tokio::test]
async fn while_nobody_has_taken_the_turn() {
    let world = World::new().await;
    let server = world.server(|config| config.turns = 0);
    stops(&server, "always_allow", json!([]), async |id, _| {
        server
            .until(id, "it waits", |s| s.primary.phase == Phase::Due)
            .await;
    })
    .await;
    assert!(world.scripted.requests().is_empty());
}

#[tokio::test]
async fn a_message_behind_an_interrupt_is_answered() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let text = script("first", &json!([bash("hang")]));
    let id = server.session("always_allow", &text).await;
    until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    let mut events = interrupt();
    events.push(message(&script("second", &json!([{"text": "turned"}]))));
    server.send(id, events).await;
    assert_eq!(said(&server.log(id).await), ["turned"]);
}

/// The processes of this machine whose command line holds `marker`.
fn processes(marker: &str) -> usize {
    let found = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.starts_with("sleep ") && line.contains(marker)
        });
    found.count()
}

#[tokio::test]
async fn the_whole_process_tree_of_a_tool_is_gone() {
    let world = World::new().await;
    let dir = world.home().join("sandboxes");
    let provider = Local::new(dir.clone(), sandbox::Config::beside(&dir)).unwrap();
    let server = world.server_with(Arc::new(provider), |_| {});
    let marker = format!("8{}", std::process::id());
    let command = format!("sleep {marker} & (sleep {marker} & wait) & sleep {marker}");
    let text = script("tree", &json!([bash(&command)]));
    let id = server.session("always_allow", &text).await;
    until("it runs", || async { processes(&marker) == 3 }).await;
    server.send(id, interrupt()).await;
    let log = server.log(id).await;
    assert_eq!(
        processes(&marker),
        0,
        "idle means that nothing runs any more"
    );
    assert_eq!(of(&log, "agent.tool_result").len(), 1);
    server.orchestrator.drain(Duration::from_secs(10)).await;
}
