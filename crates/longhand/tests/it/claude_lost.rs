//! What becomes of a session whose claude, or its sandbox, is killed, frozen or put to sleep, and of what a claude
//! remembers.

use serde_json::json;
use testkit::api::{id, texts};
use testkit::{inside, wait};

use crate::claude::{CLAUDE, Claudes, LONG, answer, asked, bash, of, reached, rests};
use crate::sandbox_life::timeline;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Process,
    Sandbox,
}

impl Claudes {
    /// `kill -9` of it, and returns when it is gone.
    async fn end(&self, victim: Victim, session: &str) {
        let claude = self.claude(session);
        let ends = match victim {
            Victim::Process => claude,
            // The hand: what it started ends with it.
            Victim::Sandbox => inside::parent(claude).unwrap(),
        };
        inside::kill(ends).unwrap();
        wait::until("it is gone", || async {
            let left = inside::processes(session, CLAUDE);
            (!left.contains(&claude)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_claude_is_killed_goes_on_wherever_it_stood() {
    any_step(Victim::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_sandbox_is_killed_goes_on_wherever_it_stood() {
    any_step(Victim::Sandbox).await;
}

async fn any_step(victim: Victim) {
    let claudes = Claudes::new("always_allow").await;
    let (api, session) = (claudes.api(), claudes.session().await);
    claudes.turn(&session, &json!([{"text": "begun"}])).await;
    assert_eq!(claudes.placed(&session).await, "started");

    // Idle.
    claudes.end(victim, &session).await;
    let log = claudes.turn(&session, &json!([{"text": "again"}])).await;
    assert_eq!(
        (rests(&log), texts(of(&log, "agent.message")[0])),
        ("end_turn", "again".to_owned())
    );
    // By how much it had written when it was killed.
    let placed = claudes.placed(&session).await;
    assert!(placed == "revived" || placed == "rebuilt", "{placed}");

    // While the model speaks: what it says is in the log, whoever hears it.
    let gate = claudes.speaks(&session, "to nobody").await;
    claudes.end(victim, &session).await;
    claudes.stage.model.release(&gate);
    let log = api.idle(&session).await;
    assert_eq!(texts(of(&log, "agent.message").pop().unwrap()), "to nobody");

    // While a tool of it runs: nobody knows how that ended, and the model is told so.
    claudes
        .play(&session, &json!([bash(LONG), {"text": "told"}]))
        .await;
    reached(&claudes.workspace(&session).join("begun")).await;
    claudes.end(victim, &session).await;
    let log = api.idle(&session).await;
    assert_eq!(rests(&log), "end_turn");
    let result = of(&log, "agent.tool_result").pop().unwrap();
    assert_eq!(result["is_error"], true, "{result}");
    let told = claudes.stage.model.last(1).pop().unwrap().to_string();
    assert!(told.contains("to nobody"), "{told}");

    // While it waits for permission: the call runs once, and the next claude knows it.
    let write =
        json!({"tool": "Write", "input": {"file_path": "/workspace/asked", "content": "x"}});
    let log = claudes
        .turn(&session, &json!([write, {"text": "written"}]))
        .await;
    claudes.end(victim, &session).await;
    api.send(&session, &[answer(&asked(&log)[0], "allow")])
        .await
        .unwrap();
    let log = api.idle(&session).await;
    assert_eq!(
        (rests(&log), texts(of(&log, "agent.message").pop().unwrap())),
        ("end_turn", "written".to_owned())
    );
    // If it died between the answer and the call, nobody knows, and that is said.
    let results = of(&log, "agent.tool_result");
    assert_eq!(results.len(), 2, "{results:?}");
    let exists = claudes.workspace(&session).join("asked").exists();
    assert_eq!(results[1]["is_error"] == true, !exists, "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claude_that_is_started_ahead_waits_frozen_and_outlives_its_server() {
    let mut claudes = Claudes::new("always_allow").await;
    claudes.session["metadata"] = json!({"longhand.sandbox": "eager"});
    let (first, second) = (claudes.session().await, claudes.session().await);
    frozen(&claudes, &first).await;
    frozen(&claudes, &second).await;
    let (before, other) = (claudes.claude(&first), claudes.claude(&second));
    let log = claudes.turn(&first, &json!([{"text": "at once"}])).await;
    assert_eq!(
        (rests(&log), texts(of(&log, "agent.message")[0])),
        ("end_turn", "at once".to_owned())
    );
    assert_eq!(claudes.placed(&first).await, "ahead");
    // Frozen and thawed between turns as any other.
    rested(&claudes).await;
    let pause = format!("/v1/x/sandboxes/{first}/pause");
    claudes.api().post(&pause, &json!({})).await.unwrap();
    let log = claudes.turn(&first, &json!([{"text": "thawed"}])).await;
    assert_eq!(texts(of(&log, "agent.message")[0]), "thawed");
    assert_eq!(claudes.claude(&first), before);
    // Put to sleep, it goes on from its own transcript.
    rested(&claudes).await;
    let stop = format!("/v1/x/sandboxes/{first}/stop");
    claudes.api().post(&stop, &json!({})).await.unwrap();
    assert!(inside::processes(&first, CLAUDE).is_empty());
    let log = claudes.turn(&first, &json!([{"text": "awake"}])).await;
    assert_eq!(texts(of(&log, "agent.message")[0]), "awake");
    assert_eq!(claudes.placed(&first).await, "revived");
    // One that nobody has spoken to yet is found by the next server.
    claudes.stage.kill().await;
    claudes.stage.restart().await;
    let log = claudes.turn(&second, &json!([{"text": "here too"}])).await;
    assert_eq!(texts(of(&log, "agent.message")[0]), "here too");
    assert_eq!(claudes.placed(&second).await, "adopted");
    assert_eq!(claudes.claude(&second), other);
}

/// Returns when no turn has anything to do with its claude any more: the log rests before the process does.
pub async fn rested(claudes: &Claudes) {
    let api = claudes.api();
    wait::until("the run is over", || async {
        let request = api.request("GET", "/metrics", None);
        let metrics = api.connect().await.ok()?.exchange(&request).await.ok()?;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        let mut lines = metrics.lines();
        { lines.any(|line| line == "longhand_orchestrator_turns 0") }.then_some(())
    })
    .await;
}

/// Returns when the session's sandbox is there and stands still.
pub async fn frozen(claudes: &Claudes, session: &str) {
    let of = format!("/v1/x/sandboxes/{session}");
    wait::until("the sandbox stands still", || async {
        let sandbox = claudes.api().get(&of).await.ok()?;
        (sandbox["status"] == "paused").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_claude_remembers_is_its_sessions_own_and_how_it_went_on_is_told() {
    let mut claudes = Claudes::new("always_allow").await;
    let session = claudes.session().await;
    let sandboxes = claudes.stage.launch.data_dir().join("sandboxes");
    let state = sandboxes.join(&session).join("harness");
    let remembers = |text: &str| {
        let found = std::process::Command::new("grep")
            .args(["-rqF", text])
            .arg(&state)
            .status();
        found.unwrap().success()
    };
    claudes.turn(&session, &json!([{"text": "word"}])).await;
    wait::until("it is written down", || async {
        remembers("word").then_some(())
    })
    .await;
    // Another session gets the files and not that.
    rested(&claudes).await;
    let api = claudes.api();
    let other = claudes.session().await;
    let fork = format!("/v1/x/sandboxes/{session}/fork");
    api.post(&fork, &json!({"to": other})).await.unwrap();
    let forked = sandboxes.join(&other).join("harness");
    assert_eq!(std::fs::read_dir(forked).unwrap().count(), 0);
    let log = claudes.turn(&other, &json!([{"text": "new"}])).await;
    assert_eq!(rests(&log), "end_turn");
    assert_eq!(claudes.placed(&other).await, "started");

    // Each way is told, in the order in which it was gone.
    claudes.stage.kill().await;
    claudes.stage.restart().await;
    claudes.turn(&session, &json!([{"text": "adopted"}])).await;
    wait::until("it is written down", || async {
        remembers("adopted").then_some(())
    })
    .await;
    claudes.end(Victim::Sandbox, &session).await;
    claudes.turn(&session, &json!([{"text": "revived"}])).await;
    claudes.end(Victim::Process, &session).await;
    std::fs::remove_dir_all(state.join("claude")).unwrap();
    claudes.turn(&session, &json!([{"text": "rebuilt"}])).await;
    let told = timeline(&claudes.stage, &session).await;
    let told = told.iter().filter_map(|what| what.strip_prefix("claude "));
    let ways = ["started", "adopted", "revived", "rebuilt"];
    assert_eq!(told.collect::<Vec<_>>(), ways);
    assert_eq!(claudes.placed(&session).await, "rebuilt");

    // It goes with its session.
    rested(&claudes).await;
    let path = format!("/v1/sessions/{session}");
    let gone = claudes.api().call("DELETE", &path, None).await.unwrap();
    assert_eq!(id(&gone), session);
    wait::until("its sandbox is removed", || async {
        (!state.exists()).then_some(())
    })
    .await;
}
