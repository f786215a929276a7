//! `kill -9` in each step of a delegation: while the coordinator's model is asked, while a thread works, while it waits for
//! a confirmation, while its answer is heard, while an advisor is asked, and at any moment of it all; and in each step of
//! the grading of what a team has made: while a thread works towards the outcome, while a grader is asked, while the
//! coordinator revises. After each kill the
//! server starts again on the same directory; every task is answered once, and every session comes to rest.
//!
//! `TESTKIT_KILLS` sets the number of kills: a quarter of it in each of the nine windows.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::api::{Api, texts};
use testkit::seed::Seed;
use testkit::{database, script, setting, wait};

use crate::stage::Stage;

/// Sessions that are hit by each kill.
const SESSIONS: usize = 3;

/// How long after its beginning a delegation is killed at most, if it is killed anywhere.
const REACH: Duration = Duration::from_millis(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// The coordinator's model is about to give work.
    Giving,
    /// The model of a thread is asked.
    Working,
    /// A call of a thread waits for a confirmation.
    Asked,
    /// The coordinator's model has heard the answer.
    Heard,
    /// An advisor is asked.
    Advised,
    /// A thread works, and its coordinator rests with an outcome open.
    Awaited,
    /// A grader is asked about what the team has made.
    Graded,
    /// The coordinator revises it.
    Revised,
    /// Anywhere.
    Anywhere,
}

impl Window {
    /// Whether the team works towards an outcome.
    const fn has_outcome(self) -> bool {
        matches!(self, Self::Awaited | Self::Graded | Self::Revised)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_a_coordinator_was_about_to_give_is_given_after_a_kill() {
    survives(Window::Giving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_whose_work_a_kill_cut_goes_on() {
    survives(Window::Working).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_a_thread_waits_through_a_kill() {
    survives(Window::Asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_heard_before_a_kill_is_heard_once() {
    survives(Window::Heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advisor_that_a_kill_cut_is_asked_again() {
    survives(Window::Advised).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_a_thread_works_towards_outlives_a_kill() {
    survives(Window::Awaited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grading_of_a_team_s_work_that_a_kill_cut_is_taken_over() {
    survives(Window::Graded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_a_kill_cut_goes_on_to_its_verdict() {
    survives(Window::Revised).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_is_killed_anywhere_is_answered_once() {
    survives(Window::Anywhere).await;
}

struct Subject {
    session: String,
    gate: String,
}

async fn survives(window: Window) {
    let kills = setting::number("TESTKIT_KILLS", 20).div_ceil(4);
    let mut seed = Seed::new(setting::number("TESTKIT_SEED", 1));
    let mut stage = Stage::new(0).await;
    let ground = ground(&stage.api()).await;
    for round in 0..kills {
        let mut subjects = Vec::new();
        for n in 0..SESSIONS {
            let gate = format!("gate-{window:?}-{round}-{n}");
            subjects.push(begin(&stage.api(), window, &ground, gate).await);
        }
        approach(&stage, window, &subjects, &mut seed).await;
        stage.kill().await;
        stage.restart().await;
        for subject in &subjects {
            stage.model.release(&subject.gate);
            finish(&stage.api(), window, subject).await;
        }
    }
    stage.kill().await;
    let faults =
        database::faults(&stage.launch.data_dir().join("longhand.db")).expect("a database");
    assert_eq!(faults, Vec::<String>::new());
}

/// A coordinator of a coder, whose calls ask, with an advisor.
async fn ground(api: &Api) -> Value {
    let config = json!({"permission_policy": {"type": "always_ask"}});
    let tools = json!([{"type": "agent_toolset_20260401", "default_config": config}]);
    let model = "claude-sonnet-5-5";
    let coder = json!({"name": "coder", "model": model, "tools": tools});
    let coder = api.post("/v1/agents", &coder).await.expect("a coder");
    let advisor = json!({"type": "advisor", "model": model});
    let team = json!({"type": "coordinator", "agents": [coder["id"], advisor]});
    let lead = json!({"name": "lead", "model": model, "multiagent": team});
    let lead = api.post("/v1/agents", &lead).await.expect("a coordinator");
    let environment = json!({"name": "teams", "config": {"type": "cloud"}});
    let environment = api.post("/v1/environments", &environment).await;
    let environment = environment.expect("an environment");
    json!({"agent": lead["id"], "environment_id": environment["id"]})
}

async fn begin(api: &Api, window: Window, ground: &Value, gate: String) -> Subject {
    let session = api.post("/v1/sessions", ground).await.expect("a session");
    let session = session["id"].as_str().expect("an id").to_owned();
    let at = |own: Window| (window == own).then(|| gate.clone());
    let mut work = json!([{"text": "forty-two"}]);
    if let Some(gate) = at(Window::Working).or(at(Window::Awaited)) {
        work[0]["wait"] = gate.into();
    }
    if window == Window::Asked {
        work = json!([script::bash("true"), {"text": "forty-two"}]);
    }
    let task = format!("SCRIPT: {work}");
    let send = json!({"name": "send_to_agent", "input": {"agent": "coder", "message": task}});
    let mut give = json!({"tools": [send]});
    if let Some(gate) = at(Window::Giving) {
        give["wait"] = gate.into();
    }
    let mut heard = json!({"text": "heard it"});
    if let Some(gate) = at(Window::Heard) {
        heard["wait"] = gate.into();
    }
    let mut steps = vec![give, json!({"text": "I wait"}), heard];
    if window == Window::Advised {
        let question = format!(
            "SCRIPT: {}",
            json!([{"text": "mind the gap", "wait": gate}])
        );
        let ask = json!({"name": "ask_advisor", "input": {"question": question}});
        steps.insert(0, json!({"tools": [ask]}));
    }
    if window == Window::Graded {
        steps.push(json!({"on": "grade", "wait": gate, "text": "too late"}));
    }
    if window == Window::Revised {
        let verdict = json!({"verdict": "needs_revision", "explanation": "too short"});
        steps.push(json!({"text": "longer", "wait": gate}));
        steps.push(json!({"on": "grade", "text": verdict.to_string()}));
    }
    let message = if window.has_outcome() {
        outcome(&gate, &json!(steps))
    } else {
        script::message(&gate, &json!(steps))
    };
    api.send(&session, &[message]).await.expect("a send");
    Subject { session, gate }
}

/// An outcome whose work and whose grader are scripted.
fn outcome(token: &str, steps: &Value) -> Value {
    json!({
        "type": "user.define_outcome",
        "description": format!("{token}\n\nSCRIPT: {steps}"),
        "rubric": {"type": "text", "content": "It is done."},
    })
}

/// Brings all sessions to the window.
async fn approach(stage: &Stage, window: Window, subjects: &[Subject], seed: &mut Seed) {
    let api = stage.api();
    if window == Window::Anywhere {
        wait::pass(seed.moment(REACH)).await;
        return;
    }
    for subject in subjects {
        if window == Window::Asked {
            api.idle(&subject.session).await;
        } else {
            let gate = std::slice::from_ref(&subject.gate);
            stage.model.reached(gate).await;
        }
    }
}

/// Answers what is asked, waits for rest, and looks at everything.
async fn finish(api: &Api, window: Window, subject: &Subject) {
    let mut log = api.idle(&subject.session).await;
    if window == Window::Asked {
        let call = log
            .iter()
            .find(|e| e["type"] == "agent.tool_use" && !e["session_thread_id"].is_null());
        let call = call.expect("a call that waits")["id"].clone();
        let allow =
            json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"});
        api.send(&subject.session, &[allow])
            .await
            .expect("an answer");
        log = api.idle(&subject.session).await;
    }
    let shown = || format!("{window:?} {}\nlog: {}", subject.gate, json!(log));
    let of = |kind: &str| log.iter().filter(|e| e["type"] == kind).collect::<Vec<_>>();
    let advised = usize::from(window == Window::Advised);
    let advice = |e: &&&Value| e["from_agent_name"] == "anthropic.advisor";
    let received = of("agent.thread_message_received");
    assert_eq!(
        received.iter().filter(advice).count(),
        advised,
        "{}",
        shown()
    );
    let answers = received.iter().filter(|e| !advice(e));
    let answers = answers.map(|e| texts(e)).collect::<Vec<_>>();
    assert_eq!(answers, ["forty-two"], "answered once: {}", shown());
    assert_eq!(of("agent.thread_message_sent").len(), 1, "{}", shown());
    assert_eq!(
        of("session.thread_created").len(),
        1 + advised,
        "{}",
        shown()
    );
    let last = log.last().expect("a log");
    assert_eq!(last["stop_reason"]["type"], "end_turn", "{}", shown());
    let ends = of("span.outcome_evaluation_end");
    let results = ends
        .iter()
        .map(|e| e["result"].as_str().unwrap_or_default());
    let expected: &[&str] = match window {
        Window::Revised => &["needs_revision", "satisfied"],
        Window::Awaited | Window::Graded => &["satisfied"],
        _ => &[],
    };
    assert_eq!(results.collect::<Vec<_>>(), expected, "{}", shown());
    let starts = of("span.outcome_evaluation_start").len();
    assert_eq!(starts, expected.len(), "a grading begins once: {}", shown());
    // A kill may put the answer before the request that would have been made without it.
    let after = log.iter().skip_while(|e| texts(e) != "forty-two");
    let mut after = after.filter(|e| e["type"] == "agent.message");
    assert!(after.next().is_some(), "it is heard: {}", shown());
    let threads = format!("/v1/sessions/{}/threads", subject.session);
    let threads = api.get(&threads).await.expect("threads");
    let threads = threads["data"].as_array().expect("a list").clone();
    let states = threads
        .iter()
        .map(|t| t["status"].as_str().unwrap_or_default());
    assert!(
        states.clone().all(|s| s == "idle" || s == "terminated"),
        "{}",
        shown()
    );
    assert_eq!(threads.len(), 2 + advised, "{}", shown());
}
