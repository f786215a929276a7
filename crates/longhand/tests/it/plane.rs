//! `kill -9` where the session plane waits for somebody: for a confirmation or while one is sent, for the next try,
//! for a judgement, for a summary, for a verdict, and with messages that wait their turn. After each kill the server starts again
//! on the same directory; every session must come to rest owing nothing, its call run once or said to be unknown.
//!
//! `TESTKIT_KILLS` sets the number of kills: half of it in each of the seven windows.

use serde_json::{Value, json};
use testkit::api::{Api, Failed, texts};
use testkit::ledger::{self, Ledger, Outcome};
use testkit::seed::Seed;
use testkit::{database, script, setting, wait};
use tokio::task::JoinSet;

use crate::stage::Stage;

/// Sessions that are hit by each kill.
const SESSIONS: usize = 3;

/// How long after a confirmation was sent a kill falls at most.
const REACH: std::time::Duration = std::time::Duration::from_millis(6);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// A call waits for a confirmation.
    Asked,
    /// A confirmation is under way, or has just been answered.
    Confirmed,
    /// The model was overloaded: the turn waits for the next try.
    Retrying,
    /// The model is asked whether a call may run.
    Judging,
    /// The model is asked for a summary of what does not fit any more.
    Condensing,
    /// A grader is asked for its verdict on an outcome.
    Grading,
    /// The model speaks, and two messages wait.
    Queued,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_a_confirmation_waits_through_a_kill_and_runs_once() {
    survives(Window::Asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_a_kill_meets_is_kept_or_can_be_sent_again() {
    survives(Window::Confirmed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_try_comes_although_a_kill_fell_before_it() {
    survives(Window::Retrying).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judgement_that_a_kill_cut_is_asked_for_again() {
    survives(Window::Judging).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_a_kill_cut_is_asked_for_again() {
    survives(Window::Condensing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_a_kill_cut_is_asked_for_again_in_the_same_evaluation() {
    survives(Window::Grading).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_behind_a_turn_outlive_a_kill() {
    survives(Window::Queued).await;
}

/// A session of one round.
struct Subject {
    session: String,
    token: String,
    gate: String,
    ledger: Ledger,
    /// The call that waits for a confirmation.
    call: Option<String>,
    /// Whether that was confirmed, as far as the client knows.
    confirmed: bool,
}

async fn survives(window: Window) {
    let kills = setting::number("TESTKIT_KILLS", 20).div_ceil(2);
    let mut seed = Seed::new(setting::number("TESTKIT_SEED", 1));
    let mut stage = Stage::new(0).await;
    let ground = ground(&stage.api(), window).await;
    for round in 0..kills {
        let mut subjects = Vec::new();
        for n in 0..SESSIONS {
            let token = format!("{window:?}-{round}-{n}");
            subjects.push(begin(&stage.api(), window, &ground, token).await);
        }
        approach(&stage, window, &mut subjects).await;
        if window == Window::Confirmed {
            confirmed_into_the_kill(&mut stage, &mut subjects, &mut seed).await;
        } else {
            stage.kill().await;
        }
        stage.restart().await;
        for subject in &mut subjects {
            stage.model.release(&subject.gate);
            finish(&stage.api(), window, subject).await;
        }
    }
    stage.kill().await;
    let faults =
        database::faults(&stage.launch.data_dir().join("longhand.db")).expect("a database");
    assert_eq!(faults, Vec::<String>::new());
}

/// The body of a session whose tools have the policy that the window needs.
async fn ground(api: &Api, window: Window) -> Value {
    let policy = match window {
        Window::Asked | Window::Confirmed => "always_ask",
        Window::Judging => "auto",
        Window::Retrying | Window::Condensing | Window::Grading | Window::Queued => "always_allow",
    };
    let config = json!({"permission_policy": {"type": policy}});
    let tools = json!([{"type": "agent_toolset_20260401", "default_config": config}]);
    let agent = json!({"name": "Plane", "model": "claude-sonnet-5-5", "tools": tools});
    let agent = api.post("/v1/agents", &agent).await.expect("an agent");
    let environment = json!({"name": "plane", "config": {"type": "cloud"}});
    let environment = api.post("/v1/environments", &environment).await;
    let environment = environment.expect("an environment");
    json!({"agent": agent["id"], "environment_id": environment["id"]})
}

async fn begin(api: &Api, window: Window, ground: &Value, token: String) -> Subject {
    let session = api.post("/v1/sessions", ground).await.expect("a session");
    let gate = format!("gate-{token}");
    let command = format!("echo {token} >> /workspace/ran; cat /workspace/ran");
    let (call, done) = (script::bash(&command), json!({"text": "done"}));
    let steps = match window {
        Window::Asked | Window::Confirmed => json!([call, done]),
        Window::Retrying => json!([{"error": 529, "retry_after": 1}, call, done]),
        Window::Judging => json!([
            call, done,
            {"on": "judge", "wait": gate, "text": "allow"}, {"on": "judge", "text": "allow", "times": 0},
        ]),
        Window::Condensing => json!([
            call, {"too_long": true}, done,
            {"on": "summary", "wait": gate, "text": "too late"},
        ]),
        Window::Grading => json!([call, done, {"on": "grade", "wait": gate, "text": "too late"}]),
        Window::Queued => json!([call, {"text": "in two pieces", "chunks": 2, "wait_mid": gate}]),
    };
    let mut subject = Subject {
        session: session["id"].as_str().expect("an id").to_owned(),
        token,
        gate,
        ledger: Ledger::default(),
        call: None,
        confirmed: false,
    };
    let token = subject.token.clone();
    if window == Window::Grading {
        let sent = api.send(&subject.session, &[outcome(&token, &steps)]).await;
        subject.ledger.acknowledged(sent.expect("a send"));
    } else {
        say(api, &mut subject, &token, &steps).await;
    }
    subject
}

/// An outcome whose work and whose grader are scripted.
fn outcome(token: &str, steps: &Value) -> Value {
    json!({
        "type": "user.define_outcome",
        "description": format!("{token}\n\nSCRIPT: {steps}"),
        "rubric": {"type": "text", "content": "It is done."},
    })
}

async fn say(api: &Api, subject: &mut Subject, token: &str, steps: &Value) {
    subject.ledger.sent(token);
    let message = script::message(token, steps);
    let sent = api.send(&subject.session, &[message]).await;
    subject.ledger.acknowledged(sent.expect("a send"));
}

/// Brings all sessions to the window.
async fn approach(stage: &Stage, window: Window, subjects: &mut [Subject]) {
    let api = stage.api();
    for subject in subjects {
        match window {
            Window::Asked | Window::Confirmed => {
                let log = api.idle(&subject.session).await;
                let call = log.iter().find(|event| event["type"] == "agent.tool_use");
                let call = call.expect("a call that waits")["id"].as_str();
                subject.call = call.map(str::to_owned);
            }
            Window::Retrying => has(&api, &subject.session, "session.status_rescheduled").await,
            Window::Judging | Window::Condensing | Window::Grading => {
                stage
                    .model
                    .reached(std::slice::from_ref(&subject.gate))
                    .await;
            }
            Window::Queued => {
                stage
                    .model
                    .reached(std::slice::from_ref(&subject.gate))
                    .await;
                for n in 0..2 {
                    let token = format!("{}-behind{n}", subject.token);
                    say(&api, subject, &token, &json!([{"text": "heard"}])).await;
                }
            }
        }
    }
}

async fn has(api: &Api, session: &str, kind: &str) {
    wait::until(kind, || async {
        let log = api.events(session).await.ok()?;
        log.iter().any(|event| event["type"] == kind).then_some(())
    })
    .await;
}

fn allow(call: &str) -> Value {
    json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"})
}

/// Confirms everything at once and kills the server at some moment from then on.
async fn confirmed_into_the_kill(stage: &mut Stage, subjects: &mut [Subject], seed: &mut Seed) {
    let mut sends = JoinSet::new();
    for (n, subject) in subjects.iter().enumerate() {
        let call = subject.call.clone().expect("it waits for one");
        let (api, session) = (stage.api(), subject.session.clone());
        sends.spawn(async move { (n, api.send(&session, &[allow(&call)]).await) });
    }
    wait::pass(seed.moment(REACH)).await;
    stage.kill().await;
    while let Some(sent) = sends.join_next().await {
        match sent.expect("a client does not panic") {
            (n, Ok(ids)) => {
                subjects[n].ledger.acknowledged(ids);
                subjects[n].confirmed = true;
            }
            (_, Err(Failed::Lost(_))) => {}
            (_, Err(refused)) => panic!("a confirmation was refused: {refused}"),
        }
    }
}

/// Does what the client owes, waits for rest, and looks at everything.
async fn finish(api: &Api, window: Window, subject: &mut Subject) {
    if let Some(call) = subject.call.clone().filter(|_| !subject.confirmed) {
        match api.send(&subject.session, &[allow(&call)]).await {
            Ok(ids) => subject.ledger.acknowledged(ids),
            // The first one was kept although its answer was lost.
            Err(Failed::Refused { status: 400, .. }) if window == Window::Confirmed => {}
            Err(failed) => panic!("{window:?}: the confirmation is not taken: {failed}"),
        }
    }
    let log = api.idle(&subject.session).await;
    let shown = || format!("{window:?} {}\nlog: {}", subject.token, json!(log));
    assert_eq!(
        subject.ledger.audit(&log),
        Vec::<String>::new(),
        "{}",
        shown()
    );
    let last = log.last().expect("a log");
    assert_eq!(last["stop_reason"]["type"], "end_turn", "{}", shown());
    let calls = ledger::calls(&log).expect("calls with results");
    assert_eq!(calls.len(), 1, "one call, run once: {}", shown());
    let result = log
        .iter()
        .find(|event| event["type"] == "agent.tool_result");
    match calls[0].1 {
        Outcome::Done => {
            let result = texts(result.expect("the result"));
            assert_eq!(result.trim(), subject.token, "it ran once: {}", shown());
        }
        // Only there a call may have been running.
        Outcome::Unknown => assert_eq!(window, Window::Confirmed, "{}", shown()),
        Outcome::Failed => panic!("the call failed: {}", shown()),
    }
    if window == Window::Grading {
        let of = |kind: &str| log.iter().filter(|e| e["type"] == kind).collect::<Vec<_>>();
        let ends = of("span.outcome_evaluation_end");
        let starts = of("span.outcome_evaluation_start");
        assert_eq!((starts.len(), ends.len()), (1, 1), "{}", shown());
        assert_eq!(ends[0]["result"], "satisfied", "{}", shown());
    }
    let words = if window == Window::Queued {
        "heard"
    } else {
        "done"
    };
    let said = log.iter().filter(|event| event["type"] == "agent.message");
    assert!(
        said.clone().any(|event| texts(event) == words),
        "{}",
        shown()
    );
}
