//! A workspace that runs all sandboxes it may: its next call waits or is told, and its turn goes on.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_call_that_gets_no_sandbox_is_told_and_its_turn_goes_on() {
    let world = World::new().await;
    let server = world.server(|config| {
        config.sandboxes.most_of_workspace = Some(1);
        config.sandboxes.patience = Duration::from_millis(100);
    });
    let (allow, hangs) = ("always_allow", json!([bash("hang")]));
    let first = server.session(allow, &script("one", &hangs)).await;
    until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    let steps = json!([bash("echo never"), {"text": "heard"}]);
    let second = server.session(allow, &script("two", &steps)).await;
    let log = server.log(second).await;
    let results = of(&log, "agent.tool_result");
    assert_eq!(results.len(), 1, "{log:?}");
    assert_eq!(results[0]["is_error"], true);
    let text = results[0]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("1 sandboxes of this workspace run"), "{text}");
    assert_eq!(of(&log, "agent.message").len(), 1, "the model went on");
    // What is at rest makes room: nobody has to wait for the time when it would stop by itself.
    server.send(first, interrupt()).await;
    server.log(first).await;
    let steps = json!([bash("echo now"), {"text": "heard"}]);
    let third = server.session(allow, &script("three", &steps)).await;
    let log = server.log(third).await;
    assert_ne!(
        of(&log, "agent.tool_result")[0]["is_error"],
        true,
        "{log:?}"
    );
}

#[tokio::test]
async fn a_call_that_waits_for_a_sandbox_is_interrupted_at_once() {
    let world = World::new().await;
    let server = world.server(|config| {
        config.sandboxes.most_of_workspace = Some(1);
        config.sandboxes.patience = Duration::from_secs(3_600);
    });
    let (allow, hangs) = ("always_allow", json!([bash("hang")]));
    server.session(allow, &script("one", &hangs)).await;
    until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    let second = server.session(allow, &script("two", &hangs)).await;
    server
        .until(second, "the call is started", |state| {
            matches!(state.primary.phase, session::Phase::Acting { .. })
        })
        .await;
    server.send(second, interrupt()).await;
    server.log(second).await;
    assert_eq!(world.sandboxes.calls(), 1, "it never ran");
}
