//! What becomes of a session's sandbox over the life of several servers, as people, metrics and the timeline tell it.

use serde_json::{Value, json};
use testkit::{script, wait};

use crate::stage::Stage;
use crate::terminal::lines;

/// What the timeline says of the sandbox, oldest first.
pub async fn timeline(stage: &Stage, session: &str) -> Vec<String> {
    let path = format!("/v1/x/sessions/{session}/timeline");
    let timeline = stage.api().get(&path).await.expect("a timeline");
    let entries = timeline["data"].as_array().expect("a list").iter();
    let of_sandboxes = entries.filter(|entry| entry["spent"] == "sandbox");
    let what = |entry: &Value| entry["detail"]["what"].as_str().expect("what").to_owned();
    of_sandboxes.map(what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_sandbox_is_told_across_servers() {
    let mut stage = Stage::new(1).await;
    let session = stage.subjects[0].session.clone();
    let steps = json!([script::bash("echo >here"), {"text": "Done."}]);
    stage.play(0, "one", &steps).await;
    stage.api().idle(&session).await;
    assert_eq!(timeline(&stage, &session).await, ["created"]);
    stage.kill().await;
    stage.restart().await;
    let dir = stage.launch.data_dir().to_owned();
    let what = async |wanted: &str| {
        wait::until("it is written down", || async {
            let logs = lines(&dir, &["sandbox", "logs", &session]).await;
            (logs.last()?["what"] == wanted).then_some(logs)
        })
        .await
    };
    // Without anybody who uses it.
    what("adopted").await;
    lines(&dir, &["sandbox", "stop", &session]).await;
    let logs = what("stopped").await;
    assert_eq!(logs[2]["why"], "somebody stopped it from outside");
    stage
        .play(
            0,
            "two",
            &json!([script::bash("cat here"), {"text": "Done."}]),
        )
        .await;
    stage.api().idle(&session).await;
    let told = timeline(&stage, &session).await;
    assert_eq!(told, ["created", "adopted", "stopped", "restored"]);
}
