//! A workspace whose host is gone: another server brings back what was exported of it last, or tells the model that it is
//! lost; with real servers, each with a data directory of its own, and one directory that they share.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::api::{Api, texts};
use testkit::ledger::Ledger;
use testkit::{script, wait};

use crate::fleet::{Fleet, play};

/// What the command of one more turn prints.
async fn run(api: &Api, session: &str, ledger: &mut Ledger, token: &str, command: &str) -> String {
    let steps = json!([script::bash(command), {"text": "done"}]);
    play(api, session, ledger, token, &steps).await;
    let log = api.idle(session).await;
    assert_eq!(ledger.audit(&log), Vec::<String>::new(), "{token}");
    let is_result = |event: &&Value| event["type"] == "agent.tool_result";
    texts(log.iter().rfind(is_result).expect("a result"))
}

/// The archives of a session.
fn archives(shared: &Path, session: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(shared.join(session))
        .into_iter()
        .flatten();
    let files = files.flatten().map(|file| file.path());
    files
        .filter(|file| file.extension().is_some_and(|end| end == "zst"))
        .collect()
}

/// The turn that has ended now is exported, after `before`.
async fn exported(shared: &Path, session: &str, before: &[PathBuf]) -> Vec<PathBuf> {
    wait::until("the workspace to be exported", || async {
        let now = archives(shared, session);
        (now.len() == 1 && now != before).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_whose_host_is_gone_comes_back_from_its_last_export() {
    let shared = tempfile::tempdir().expect("a directory");
    let at = shared.path().to_str().expect("a plain path").to_owned();
    let mut fleet = Fleet::with(2, |_, launch| {
        launch.environment("LONGHAND_SANDBOX_EXPORTS", &at)
    })
    .await;
    let ground = fleet
        .api(0)
        .ground()
        .await
        .expect("an agent and an environment");
    let session = fleet.api(0).session(&ground).await.expect("a session");
    let mut ledger = Ledger::default();
    let write = "echo one > /workspace/note; mkdir -p d && chmod 700 d && ln -s ../note d/link";
    run(&fleet.api(0), &session, &mut ledger, "first", write).await;
    let first = fleet.runner(&fleet.api(0), &session).await;
    let before = exported(shared.path(), &session, &[]).await;
    let other = 1 - first;
    fleet.kill(first).await;
    let api = fleet.api(other);
    let said = run(
        &api,
        &session,
        &mut ledger,
        "second",
        "cat d/link; stat -c %a d; echo two > note",
    )
    .await;
    assert!(said.contains("one\n700"), "{said}");
    assert!(
        said.contains(&format!("the host r{first} ")) && said.contains("The files are back"),
        "{said}"
    );
    assert_eq!(fleet.runner(&api, &session).await, other);
    let before = exported(shared.path(), &session, &before).await;
    // It is told once, and the one that comes back has no say any more: its files are older.
    fleet.restart(first).await;
    let said = run(
        &fleet.api(first),
        &session,
        &mut ledger,
        "third",
        "cat note; echo three > note",
    )
    .await;
    assert_eq!(said.trim(), "two");
    assert_eq!(fleet.runner(&api, &session).await, other);
    exported(shared.path(), &session, &before).await;
    fleet.kill(other).await;
    let api = fleet.api(first);
    let said = run(&api, &session, &mut ledger, "fourth", "cat note").await;
    assert!(
        said.contains("three") && said.contains(&format!("the host r{other} ")),
        "{said}"
    );
    // What is exported goes with its session.
    api.call("DELETE", &format!("/v1/sessions/{session}"), None)
        .await
        .expect("deleted");
    wait::until("its archives to go", || async {
        archives(shared.path(), &session).is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_export_the_model_is_told_that_the_workspace_is_new_and_empty() {
    let mut fleet = Fleet::new(2).await;
    let ground = fleet
        .api(0)
        .ground()
        .await
        .expect("an agent and an environment");
    let session = fleet.api(0).session(&ground).await.expect("a session");
    let mut ledger = Ledger::default();
    run(
        &fleet.api(0),
        &session,
        &mut ledger,
        "first",
        "echo one > note",
    )
    .await;
    let first = fleet.runner(&fleet.api(0), &session).await;
    fleet.kill(first).await;
    let api = fleet.api(1 - first);
    // A turn that uses none leaves it untold.
    play(
        &api,
        &session,
        &mut ledger,
        "second",
        &json!([{"text": "heard"}]),
    )
    .await;
    api.idle(&session).await;
    let said = run(&api, &session, &mut ledger, "third", "ls -A; echo listed").await;
    assert!(
        said.contains(&format!("the host r{first} ")) && said.contains("new and empty"),
        "{said}"
    );
    let said = run(&api, &session, &mut ledger, "fourth", "ls -A; echo listed").await;
    assert_eq!(said.trim(), "listed", "it is told once");
}
