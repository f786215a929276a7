//! `kill -9`, at least 20 times in each of six windows. After each kill the server starts again on the same
//! directory, and every session must come to rest owing nothing: nothing acknowledged or shown is missing,
//! nothing is there twice, and no call ran that is not recorded, or twice.
//!
//! The windows are reached by gates of the scripted model and seeded times; a kill counts only if the log
//! shows afterwards that it fell into its window. `TESTKIT_KILLS` sets their number,
//! `TESTKIT_SEED` the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::api::{Api, Failed};
use testkit::ledger::{self, Outcome};
use testkit::seed::Seed;
use testkit::{database, script, setting, wait};
use tokio::task::JoinSet;

use crate::stage::{Seen, Stage, Watch};

/// Sessions that are hit by each kill.
const SESSIONS: usize = 4;

/// Clients of each session that send one message after the other, in the window of the unanswered send.
const SENDERS: usize = 2;

/// How long after the last gate a kill falls at most. It adapts to the machine: a kill that came too late
/// shortens it.
const REACH: Duration = Duration::from_millis(6);

/// Calls of one reply, in the window of the uncommitted result: more chances for one kill.
const CALLS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    /// A send has not been answered.
    Send,
    /// The model has asked for a call, which is not yet recorded.
    Unrecorded,
    /// A recorded call runs.
    Running,
    /// A call has done its work, its result is not yet committed.
    Uncommitted,
    /// The model is in the middle of its answer.
    Streaming,
    /// The model has ended its last answer, idle is not yet shown.
    Idle,
}

/// Why a kill counts.
enum Hit {
    /// The log or the client shows it.
    Shown,
    /// It counts if this token turns up in the workspace.
    IfRan(String),
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_before_a_send_is_answered() {
    survives(Window::Send).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_before_a_call_is_recorded() {
    survives(Window::Unrecorded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_while_a_call_runs() {
    survives(Window::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_before_a_result_is_committed() {
    survives(Window::Uncommitted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_while_the_model_streams() {
    survives(Window::Streaming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_kill_while_idle_is_written() {
    survives(Window::Idle).await;
}

async fn survives(window: Window) {
    let wanted = usize::try_from(setting::number("TESTKIT_KILLS", 20)).expect("a small number");
    let seed = setting::number("TESTKIT_SEED", 1);
    eprintln!("{window:?}: {wanted} kills, TESTKIT_SEED={seed}");
    let mut seeded = Seed::new(seed);
    let mut stage = Stage::new(SESSIONS).await;
    if matches!(window, Window::Running | Window::Uncommitted) {
        // The first sandbox on a new directory takes longest; kills would only ever hit its making.
        for subject in 0..SESSIONS {
            stage.ran(subject, &format!("warm{subject}")).await;
        }
    }
    let mut hits = Vec::new();
    let mut landed = 0;
    let mut reach = REACH;
    for batch in 0..6 {
        let missing = wanted - landed;
        for _ in 0..missing {
            let round = hits.len();
            let hit = kill_once(&mut stage, window, round, seeded.moment(reach), &mut seeded).await;
            reach = if hit.is_empty() {
                reach * 3 / 4
            } else {
                REACH.min(reach * 5 / 4)
            };
            hits.push(hit);
        }
        let ran = judge_calls(&mut stage, batch).await;
        landed = hits
            .iter()
            .filter(|round| round.iter().any(|hit| counts(hit, &ran)))
            .count();
        eprintln!(
            "{window:?}: {landed} of {} kills fell into the window",
            hits.len()
        );
        if landed >= wanted {
            break;
        }
    }
    assert!(
        landed >= wanted,
        "only {landed} of {} kills fell into the window",
        hits.len()
    );
    stage.kill().await;
    let faults =
        database::faults(&stage.launch.data_dir().join("longhand.db")).expect("a database");
    assert_eq!(faults, Vec::<String>::new());
}

fn counts(hit: &Hit, ran: &BTreeSet<String>) -> bool {
    match hit {
        Hit::Shown => true,
        Hit::IfRan(token) => ran.contains(token),
    }
}

/// One kill with everything before and after it.
async fn kill_once(
    stage: &mut Stage,
    window: Window,
    round: usize,
    after: Duration,
    seed: &mut Seed,
) -> Vec<Hit> {
    let mut watch = stage.watch().await;
    let mut unanswered = 0;
    let mut idle = BTreeSet::new();
    if window == Window::Send {
        unanswered = sends(stage, round, after).await;
    } else {
        for subject in 0..SESSIONS {
            stage
                .play(
                    subject,
                    &token(round, subject),
                    &steps(window, round, subject),
                )
                .await;
        }
        approach(stage, &mut watch, window, round, after, seed, &mut idle).await;
        stage.kill().await;
    }
    for seen in watch.rest().await {
        note(stage, &seen, &mut idle);
    }
    stage.restart().await;
    for subject in 0..SESSIONS {
        stage.model.release(&gate(round, subject));
    }
    let mut hits = Vec::new();
    if unanswered > 0 {
        hits.push(Hit::Shown);
    }
    for subject in 0..SESSIONS {
        let log = stage.api().idle(&stage.subjects[subject].session).await;
        let wrong = stage.subjects[subject].ledger.audit(&log);
        assert!(
            wrong.is_empty(),
            "{window:?}, round {round}: {wrong:#?}\nlog: {}",
            json!(log)
        );
        let mark = token(round, subject);
        hits.extend(evidence(window, &log, &mark, idle.contains(&subject)));
    }
    hits
}

/// Clients that send as fast as they are answered, and a kill among them; how many got no answer.
async fn sends(stage: &mut Stage, round: usize, after: Duration) -> usize {
    let mut tasks = JoinSet::new();
    for subject in 0..SESSIONS {
        for n in 0..SENDERS {
            let token = format!("{}n{n}", token(round, subject));
            let (api, session) = (stage.api(), stage.subjects[subject].session.clone());
            tasks.spawn(async move { (subject, send_until_lost(&api, &session, &token).await) });
        }
    }
    wait::pass(after).await;
    stage.kill().await;
    let mut unanswered = 0;
    while let Some(sent) = tasks.join_next().await {
        let (subject, (tokens, ids)) = sent.expect("a client does not panic");
        unanswered += tokens.len() - ids.len();
        let ledger = &mut stage.subjects[subject].ledger;
        tokens.iter().for_each(|token| ledger.sent(token));
        ledger.acknowledged(ids);
    }
    unanswered
}

/// What was sent, and what of it was acknowledged.
async fn send_until_lost(api: &Api, session: &str, token: &str) -> (Vec<String>, Vec<String>) {
    let (mut tokens, mut ids) = (Vec::new(), Vec::new());
    loop {
        let token = format!("{token}k{}", tokens.len());
        let message = script::message(&token, &json!([{"text": "heard"}]));
        let mut conn = match api.connect().await {
            Ok(conn) => conn,
            // Nothing was sent: this one cannot have been kept.
            Err(_) => return (tokens, ids),
        };
        tokens.push(token);
        match api.send_on(&mut conn, session, &[message]).await {
            Ok(accepted) => ids.extend(accepted),
            Err(Failed::Lost(_)) => return (tokens, ids),
            Err(refused) => panic!("a send was refused: {refused}"),
        }
    }
}

/// Brings all sessions to the window, and the time to where the kill shall fall.
async fn approach(
    stage: &mut Stage,
    watch: &mut Watch,
    window: Window,
    round: usize,
    after: Duration,
    seed: &mut Seed,
    idle: &mut BTreeSet<usize>,
) {
    let gates = (0..SESSIONS)
        .map(|subject| gate(round, subject))
        .collect::<Vec<_>>();
    match window {
        Window::Send => {}
        Window::Unrecorded | Window::Idle => {
            stage.model.reached(&gates).await;
            for gate in &gates {
                stage.model.release(gate);
            }
            wait::pass(after).await;
        }
        Window::Streaming => {
            stage.model.reached(&gates).await;
            wait::pass(after).await;
        }
        Window::Running => {
            seen_by(stage, watch, "agent.tool_use", SESSIONS, idle).await;
            // Long enough that some commands have begun: the first needs a new sandbox.
            wait::pass(seed.moment(Duration::from_millis(400))).await;
        }
        Window::Uncommitted => {
            // From the first result on, one call follows the other.
            seen_by(stage, watch, "agent.tool_result", 1, idle).await;
            wait::pass(seed.moment(Duration::from_millis(40))).await;
        }
    }
}

/// Waits until so many subjects have shown an event of that type.
async fn seen_by(
    stage: &mut Stage,
    watch: &mut Watch,
    kind: &str,
    enough: usize,
    idle: &mut BTreeSet<usize>,
) {
    let mut subjects = BTreeSet::new();
    while subjects.len() < enough {
        let seen = wait::within(kind, watch.next()).await;
        let seen = seen.expect("the server runs");
        note(stage, &seen, idle);
        if seen.event["type"] == kind {
            subjects.insert(seen.subject);
        }
    }
}

fn note(stage: &mut Stage, seen: &Seen, idle: &mut BTreeSet<usize>) {
    stage.subjects[seen.subject].ledger.seen(&seen.event);
    if seen.event["type"] == "session.status_idle" {
        idle.insert(seen.subject);
    }
}

fn token(round: usize, subject: usize) -> String {
    format!("r{round}s{subject}")
}

fn gate(round: usize, subject: usize) -> String {
    format!("gate-r{round}s{subject}")
}

fn run(token: &str) -> String {
    format!("echo {token} >> /workspace/ran")
}

fn steps(window: Window, round: usize, subject: usize) -> Value {
    let (token, gate) = (token(round, subject), gate(round, subject));
    let said = json!({"text": "said in two pieces", "chunks": 2, "wait_mid": gate});
    let done = json!({"text": "done"});
    match window {
        Window::Send | Window::Streaming | Window::Idle => json!([said]),
        Window::Unrecorded => {
            let mut said = said;
            said["tool"] = json!("bash");
            said["input"] = json!({"command": run(&token)});
            json!([said, done])
        }
        Window::Running => json!([script::bash(&format!("{}; sleep 1", run(&token))), done]),
        Window::Uncommitted => {
            let call =
                |n| json!({"name": "bash", "input": {"command": run(&format!("{token}c{n}"))}});
            json!([{"tools": (0..CALLS).map(call).collect::<Vec<_>>()}, done])
        }
    }
}

/// What the log of the round that begins with the message `mark` says about where the kill fell.
/// The commands of the calls whose results were found after a loss: nothing but the marks of taking the turn up
/// again stands before them.
fn found(turn: &[Value]) -> Vec<String> {
    let is_mark = |event: &Value| {
        let kind = event["type"].as_str().unwrap_or_default();
        kind.starts_with("session.status_") || kind.starts_with("session.thread_status_")
    };
    let losses = (0..turn.len()).filter(|at| turn[*at]["type"] == "session.status_rescheduled");
    let results = losses.filter_map(|at| turn[at..].iter().find(|event| !is_mark(event)));
    let results = results.filter(|event| event["type"] == "agent.tool_result");
    let commands = results.filter_map(|result| {
        let call = turn
            .iter()
            .find(|event| event["id"] == result["tool_use_id"])?;
        Some(call["input"]["command"].as_str()?.to_owned())
    });
    commands.collect()
}

fn evidence(window: Window, log: &[Value], mark: &str, idle_seen: bool) -> Vec<Hit> {
    let begun = log.iter().position(|event| {
        event["type"] == "user.message" && testkit::api::texts(event).lines().next() == Some(mark)
    });
    let turn = &log[begun.unwrap_or(log.len())..];
    let lost_before_a_call = turn
        .iter()
        .take_while(|event| event["type"] != "agent.tool_use")
        .any(|event| event["type"] == "span.model_request_end" && event["is_error"] == true);
    match window {
        Window::Send => Vec::new(),
        Window::Unrecorded | Window::Streaming => lost_before_a_call
            .then_some(Hit::Shown)
            .into_iter()
            .collect(),
        Window::Idle => (!idle_seen).then_some(Hit::Shown).into_iter().collect(),
        Window::Running | Window::Uncommitted => {
            let calls = ledger::calls(turn).expect("the audit has passed");
            let lost = calls
                .into_iter()
                .filter(|(_, outcome)| *outcome == Outcome::Unknown)
                .map(|(command, _)| command);
            let hit =
                |command: String| Some(Hit::IfRan(command.split([' ', ';']).nth(1)?.to_owned()));
            lost.chain(found(turn)).filter_map(hit).collect()
        }
    }
}

/// Compares what was run with what the logs say; all that was run.
async fn judge_calls(stage: &mut Stage, batch: usize) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for subject in 0..SESSIONS {
        let ran = stage.ran(subject, &format!("read{batch}s{subject}")).await;
        let mut times = BTreeMap::<_, u32>::new();
        for token in ran {
            *times.entry(token).or_default() += 1;
        }
        let log = stage.api().idle(&stage.subjects[subject].session).await;
        for (command, outcome) in ledger::calls(&log).expect("the audit has passed") {
            let Some(token) = command
                .strip_prefix("echo ")
                .and_then(|c| c.split([' ', ';']).next())
            else {
                continue;
            };
            let count = times.remove(token).unwrap_or(0);
            match outcome {
                Outcome::Done => assert_eq!(count, 1, "{token} has a result and ran {count} times"),
                Outcome::Unknown => assert!(count <= 1, "{token} ran {count} times"),
                Outcome::Failed => panic!("{token} failed for another reason: {}", json!(log)),
            }
            if count > 0 {
                all.insert(token.to_owned());
            }
        }
        assert!(times.is_empty(), "these ran and no log has them: {times:?}");
    }
    all
}
