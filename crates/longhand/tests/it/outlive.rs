//! A call that runs when its server ends: killed, or stopped in order and told to leave its sandboxes. The next
//! server finds it, and what it then answers is what the model hears.

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::api::texts;
use testkit::{script, wait};

use crate::stage::{self, Stage};

/// Runs until the file `go` is there.
const LONG: &str =
    "x=kept; touch begun; until test -e go; do sleep 0.01; done; echo the real result; exit 7";

fn workspace(stage: &Stage) -> PathBuf {
    let session = &stage.subjects[0].session;
    let sandboxes = stage.launch.data_dir().join("sandboxes");
    sandboxes.join(session).join("workspace")
}

/// A session whose call runs.
async fn begun(stage: &mut Stage) {
    let steps = json!([script::bash(LONG), {"text": "heard"}]);
    stage.play(0, "long", &steps).await;
    let begun = workspace(stage).join("begun");
    wait::until("the call runs", || async { begun.exists().then_some(()) }).await;
}

/// Ends the call, and gives its result as the log has it.
async fn result(stage: &Stage) -> Value {
    std::fs::write(workspace(stage).join("go"), "").expect("the workspace is there");
    let log = stage.api().idle(&stage.subjects[0].session).await;
    let results = log.iter().filter(|e| e["type"] == "agent.tool_result");
    let results: Vec<_> = results.collect();
    assert_eq!(results.len(), 1, "{results:?}");
    assert_eq!(stage.subjects[0].ledger.audit(&log), Vec::<String>::new());
    results[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ran_when_the_server_was_killed_gives_its_real_result_to_the_next() {
    let mut stage = Stage::new(1).await;
    begun(&mut stage).await;
    stage.kill().await;
    stage.restart().await;
    let result = result(&stage).await;
    assert_eq!(texts(&result), "the real result");
    assert_eq!(result["is_error"], true, "its status is told too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_ready_before_the_server_ran_again_is_found() {
    let mut stage = Stage::new(1).await;
    begun(&mut stage).await;
    stage.kill().await;
    std::fs::write(workspace(&stage).join("go"), "").expect("the workspace is there");
    stage.restart().await;
    assert_eq!(texts(&result(&stage).await), "the real result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_its_sandboxes_leaves_what_runs_in_them() {
    let (launch, model) = stage::launch().await;
    let launch = launch
        .environment("LONGHAND_SANDBOX_LEAVE_RUNNING", "true")
        .environment("LONGHAND_SERVER_DRAIN_SECONDS", "0");
    let mut stage = Stage::on(launch, model, 1).await;
    begun(&mut stage).await;
    let server = stage.server.take().expect("it runs");
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    stage.restart().await;
    assert_eq!(texts(&result(&stage).await), "the real result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_in_order_ends_its_sandboxes() {
    let mut stage = Stage::new(1).await;
    stage.ran(0, "warm").await;
    let socket = workspace(&stage).join("../control.sock");
    assert!(socket.exists(), "it runs");
    let server = stage.server.take().expect("it runs");
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(!socket.exists(), "it outlives an orderly end");
}
