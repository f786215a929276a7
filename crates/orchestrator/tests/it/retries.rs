//! Model requests that fail: what is tried again, when, and by whom.

use std::time::Duration;

use serde_json::json;
use session::{Phase, Status};

use crate::support::{World, bash, interrupt, kinds, of, said, script, until};

#[tokio::test]
async fn a_failure_that_passes_is_tried_again_until_it_has() {
    let world = World::new().await;
    let server = world.server(|_| {});
    for (n, failing) in [
        json!({"error": 529, "times": 2}),
        json!({"error": 500}),
        json!({"error": 409}),
        json!({"error_event": "overloaded_error"}),
        json!({"cut": true, "text": "half an answer", "chunks": 4}),
    ]
    .iter()
    .enumerate()
    {
        let steps = json!([failing, {"text": "at last"}]);
        let id = server
            .session("always_allow", &script(&format!("try {n}"), &steps))
            .await;
        let log = server.log(id).await;
        let times = failing["times"].as_u64().unwrap_or(1) as usize;
        let errors = of(&log, "session.error");
        assert_eq!(errors.len(), times, "{failing}");
        for error in errors {
            assert_eq!(
                error["error"]["retry_status"]["type"], "retrying",
                "{error}"
            );
        }
        assert_eq!(
            of(&log, "session.status_rescheduled").len(),
            times,
            "{failing}"
        );
        assert_eq!(said(&log), ["at last"], "{failing}");
        assert_eq!(kinds(&log).last(), Some(&"session.status_idle"));
    }
}

#[tokio::test]
async fn a_failure_that_stays_is_not_tried_again() {
    let world = World::new().await;
    let server = world.server(|_| {});
    for (status, kind) in [
        (400, "model_request_failed_error"),
        (402, "billing_error"),
        (403, "model_request_failed_error"),
    ] {
        let steps = json!([{"error": status}, {"text": "never said"}]);
        let text = script(&format!("once {status}"), &steps);
        let id = server.session("always_allow", &text).await;
        let log = server.log(id).await;
        let errors = of(&log, "session.error");
        assert_eq!(errors.len(), 1, "{status}");
        assert_eq!(errors[0]["error"]["type"], kind);
        assert_eq!(errors[0]["error"]["retry_status"]["type"], "exhausted");
        assert!(said(&log).is_empty());
    }
}

#[tokio::test]
async fn the_providers_retry_after_is_honoured() {
    let world = World::new().await;
    let server = world.server(|_| {});
    let steps = json!([{"error": 429, "retry_after": 100}]);
    let id = server
        .session("always_allow", &script("slow", &steps))
        .await;
    server
        .until(id, "it waits", |s| s.status() == Status::Rescheduling)
        .await;
    let state = server.state(id).await;
    let Phase::Retrying { due_at } = state.primary.phase else {
        panic!("{:?}", state.primary.phase)
    };
    let pause = due_at.0 - state.last_at.0;
    assert!((99_000_000..=101_000_000).contains(&pause), "{pause} µs");
    // Nothing of it is in memory: no run, no lease, only the row.
    until("nobody runs it", || async {
        server.orchestrator.running() == 0
    })
    .await;
    server.send(id, interrupt()).await;
    let log = server.log(id).await;
    assert_eq!(log.last().unwrap()["stop_reason"]["type"], "end_turn");
}

#[tokio::test]
async fn a_turn_that_waits_for_its_next_try_outlives_its_server() {
    let world = World::new().await;
    let first = world.server(|_| {});
    let steps = json!([{"error": 429, "retry_after": 1}, {"text": "told by another"}]);
    let id = first
        .session("always_allow", &script("survive", &steps))
        .await;
    first
        .until(id, "it waits", |s| s.status() == Status::Rescheduling)
        .await;
    first.crash();
    let second = world.server(|_| {});
    assert_eq!(said(&second.log(id).await), ["told by another"]);
}

#[tokio::test]
async fn a_drained_turn_is_taken_up_where_it_was_put_down() {
    let world = World::new().await;
    let first = world.server(|_| {});
    let steps = json!([{"wait": "gate"}, bash("echo one"), {"text": "done"}]);
    let id = first
        .session("always_allow", &script("drain", &steps))
        .await;
    world.asked(1).await;
    let drained = async {
        first.orchestrator.drain(Duration::from_secs(20)).await;
    };
    let released = async {
        crate::support::until("it drains", || async {
            !world.scripted.stats().waiting.is_empty()
        })
        .await;
        world.scripted.release("gate");
    };
    tokio::join!(drained, released);
    assert_eq!(
        world.sandboxes.calls(),
        0,
        "the next step was left unopened"
    );
    let second = world.server(|_| {});
    let log = second.log(id).await;
    assert_eq!(said(&log), ["done"]);
    assert_eq!(world.sandboxes.calls(), 1);
    assert!(
        of(&log, "session.status_rescheduled").is_empty(),
        "nothing was lost"
    );
}
