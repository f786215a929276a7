//! Several servers on one database, as processes: any of them answers and streams any session, what one of them held
//! when it was killed, frozen or cut off goes on elsewhere, and nothing is lost or done twice in silence.
//!
//! `TESTKIT_REPLICA_SECONDS` sets how long the servers are tormented, `TESTKIT_SEED` by what. `TESTKIT_LOADERS` names
//! programs that send as well: `cargo xtask replicas` has those of the official SDKs do it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::api::{Api, Ground, texts};
use testkit::ledger::Ledger;
use testkit::process::{KEY, Launch};
use testkit::seed::Seed;
use testkit::{script, setting, wait};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{Instant, timeout};

use crate::fleet::{Fleet, play};
use crate::terminal::lines;

/// The longest that a request may take before its sender goes elsewhere.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_goes_on_elsewhere_after_a_kill_a_freeze_and_a_cut() {
    let mut fleet = Fleet::new(3).await;
    let api = fleet.api(0);
    let ground = api.ground().await.expect("an agent and an environment");
    let session = api.session(&ground).await.expect("a session");
    let mut ledger = Ledger::default();
    let mut stream = fleet
        .api(2)
        .stream(&session, false)
        .await
        .expect("a stream");
    play(
        &api,
        &session,
        &mut ledger,
        "first",
        &json!([{"text": "heard"}]),
    )
    .await;
    let log = fleet.api(1).idle(&session).await;
    assert_eq!(ledger.audit(&log), Vec::<String>::new());
    // Another server than the one that ran it has streamed it all.
    for event in &log {
        let shown = async {
            loop {
                let seen = stream
                    .next()
                    .await
                    .expect("it goes on")
                    .expect("it goes on");
                // What waits is announced before.
                if !seen["processed_at"].is_null() {
                    return seen;
                }
            }
        };
        let seen = wait::within("the stream", shown).await;
        assert_eq!(seen["id"], event["id"]);
    }
    for (n, what) in ["kill", "freeze", "cut"].into_iter().enumerate() {
        let gate = format!("gate-{n}");
        let steps = json!([{"text": "said in the end", "wait": gate}]);
        play(&fleet.api(n), &session, &mut ledger, what, &steps).await;
        fleet.model.reached(std::slice::from_ref(&gate)).await;
        let victim = fleet.runner(&fleet.api(n), &session).await;
        match what {
            "kill" => fleet.kill(victim).await,
            "freeze" => fleet.server(victim).freeze(),
            _ => fleet.cables[victim].cut(),
        }
        let began = Instant::now();
        let other = (0..3).find(|n| *n != victim && fleet.servers[*n].is_some());
        let other = other.expect("three servers");
        // The one that takes it over asks the model once more, and is answered at once.
        fleet.model.release(&gate);
        let log = fleet.api(other).idle(&session).await;
        eprintln!("after a {what}: {:?}", began.elapsed());
        assert_eq!(ledger.audit(&log), Vec::<String>::new(), "{what}");
        let runner = fleet.runner(&fleet.api(other), &session).await;
        assert_ne!(runner, victim, "{what}");
        if what == "kill" {
            fleet.restart(victim).await;
        } else {
            fleet.server(victim).thaw();
            fleet.cables[victim].mend();
            // What it had in flight when it froze comes to nothing.
            let thawed = fleet.api(victim);
            wait::until("the one that was away to answer", || async {
                thawed.get(&format!("/v1/sessions/{session}")).await.ok()
            })
            .await;
            assert_eq!(thawed.events(&session).await.expect("a log"), log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_listed_rotate_their_key_together_and_a_workspace_is_in_one_place() {
    let fleet = Fleet::new(2).await;
    let homes = fleet
        .launches
        .iter()
        .map(Launch::data_dir)
        .collect::<Vec<_>>();
    let listed = wait::until("both to say where they listen", || async {
        let listed = lines(homes[1], &["replicas", "--json"]).await;
        listed
            .iter()
            .all(|one| one["address"].is_string())
            .then_some(listed)
    })
    .await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for (n, one) in listed.iter().enumerate() {
        assert_eq!(one["name"], format!("r{n}"));
        assert_eq!(
            (&one["status"], &one["own"]),
            (&json!("live"), &json!(n == 1))
        );
        assert_eq!(
            one["address"],
            format!("http://{}", fleet.server(n).address())
        );
        assert!(
            one["heartbeat_at"].is_string() && one["version"].is_string(),
            "{one}"
        );
    }
    let rotated = lines(homes[0], &["keys", "master", "rotate", "--json"]).await;
    assert_eq!(rotated[0]["version"], 2);
    wait::until("the other to have the new key alone", || async {
        let shown = lines(homes[1], &["keys", "master", "show", "--json"]).await;
        (shown[0]["version"] == 2 && shown[0]["rotating"] == false).then_some(())
    })
    .await;
    // By hand on one, before the first turn: it stays there, and the turn goes there.
    let (api, other) = (fleet.api(0), fleet.api(1));
    let ground = api.ground().await.expect("an agent and an environment");
    let session = api.session(&ground).await.expect("a session");
    let path = format!("/v1/x/sandboxes/{session}/exec");
    let wrote = json!({"command": ["sh", "-c", "echo by hand > /workspace/note"]});
    let wrote = other.post(&path, &wrote).await.expect("run");
    assert_eq!(wrote["exit_code"], 0, "{wrote}");
    let elsewhere = api.post(&path, &json!({"command": ["true"]})).await;
    let elsewhere = elsewhere.expect_err("it is on the other").to_string();
    assert!(elsewhere.contains("r1"), "{elsewhere}");
    let mut ledger = Ledger::default();
    let steps = json!([script::bash("cat /workspace/note"), {"text": "read"}]);
    play(&api, &session, &mut ledger, "read", &steps).await;
    let log = api.idle(&session).await;
    assert_eq!(ledger.audit(&log), Vec::<String>::new());
    let result = log
        .iter()
        .find(|event| event["type"] == "agent.tool_result");
    assert!(
        texts(result.expect("a result")).contains("by hand"),
        "{log:?}"
    );
    assert_eq!(fleet.runner(&api, &session).await, 1);
}

/// What one client does with one session until it is told to stop: messages, one after the other, each to the next
/// server. Only what was acknowledged is owed.
async fn client(
    session: String,
    apis: Arc<Mutex<Vec<Api>>>,
    stop: Arc<AtomicBool>,
) -> (String, Ledger) {
    let mut ledger = Ledger::default();
    let mut n = 0_usize;
    while !stop.load(Ordering::Acquire) {
        let token = format!("{session}-{n}");
        ledger.sent(&token);
        let steps = json!([{"text": "one", "delay_ms": 50, "chunks": 3}]);
        let message = [script::message(&token, &steps)];
        let api = apis.lock().expect("nobody panicked")[n % 3].clone();
        let sent = api.send(&session, &message);
        if let Ok(Ok(ids)) = timeout(PATIENCE, sent).await {
            ledger.acknowledged(ids);
        }
        n += 1;
        wait::pass(Duration::from_millis(50)).await;
    }
    (session, ledger)
}

/// What a program beside the test does with one session until its standard input ends: messages, one after the other.
/// It says what it sends, and what was acknowledged, a line each.
async fn loader(
    words: Vec<String>,
    session: String,
    addresses: PathBuf,
    stop: Arc<AtomicBool>,
) -> (String, Ledger) {
    let mut command = tokio::process::Command::new(&words[0]);
    command
        .args(&words[1..])
        .arg(addresses)
        .args([KEY, &session]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("a program that loads");
    let mut input = child.stdin.take();
    let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut ledger = Ledger::default();
    while let Some(line) = said.next_line().await.expect("its output") {
        let told = serde_json::from_str::<Value>(&line).expect("JSON");
        if let Some(token) = told["sent"].as_str() {
            ledger.sent(token);
        }
        let ids = told["acknowledged"].as_array().into_iter().flatten();
        ledger.acknowledged(ids.filter_map(|id| id.as_str().map(ToOwned::to_owned)));
        if stop.load(Ordering::Acquire) {
            input = None;
        }
    }
    drop(input);
    let ended = child.wait().await.expect("it ends");
    assert!(ended.success(), "{words:?}: {ended}");
    (session, ledger)
}

/// The longest time in which nothing happened in a turn, in seconds.
fn longest_stand(log: &[Value]) -> f64 {
    let at = |event: &Value| {
        let text = event["processed_at"].as_str()?;
        let time = text.get(11..)?.strip_suffix('Z')?;
        let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
        parts.try_fold(0.0, |sum, part| Some(sum * 60.0 + part?))
    };
    let turns = log
        .windows(2)
        .filter(|pair| pair[0]["type"] != "session.status_idle");
    let gaps = turns.filter_map(|pair| Some((at(&pair[1])? - at(&pair[0])?).rem_euclid(86_400.0)));
    gaps.fold(0.0, f64::max)
}

/// How long a turn may stand at the most: what a server that is cut off may cost, and 5 s; twice that, as all tests
/// of this machine run beside.
fn longest_allowed() -> f64 {
    f64::from(2 * (15 + 5) * setting::patience())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_servers_are_killed_frozen_and_cut_off_and_the_database_restarts() {
    let seconds = setting::number("TESTKIT_REPLICA_SECONDS", 60);
    let seed = setting::number("TESTKIT_SEED", 1);
    eprintln!("TESTKIT_REPLICA_SECONDS={seconds} TESTKIT_SEED={seed}");
    let mut fleet = Fleet::new(3).await;
    let ground = fleet
        .api(0)
        .ground()
        .await
        .expect("an agent and an environment");
    let stop = Arc::<AtomicBool>::default();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let session = session(&fleet.api(0), &ground).await;
        clients.spawn(client(session, Arc::clone(&fleet.apis), Arc::clone(&stop)));
    }
    for words in setting::loaders() {
        eprintln!("{words:?} sends as well");
        let session = session(&fleet.api(0), &ground).await;
        let (addresses, stop) = (fleet.addresses(), Arc::clone(&stop));
        clients.spawn(loader(words, session, addresses, stop));
    }
    torment(&mut fleet, Duration::from_secs(seconds), Seed::new(seed)).await;
    stop.store(true, Ordering::Release);
    let (mut owed, mut stood) = (0, 0.0_f64);
    while let Some(done) = clients.join_next().await {
        let (session, ledger) = done.expect("no panic");
        owed += ledger.promised();
        assert!(ledger.promised() > 0, "{session} was never served");
        let log = fleet.api(0).idle(&session).await;
        assert_eq!(ledger.audit(&log), Vec::<String>::new(), "{session}");
        for n in 1..3 {
            assert_eq!(fleet.api(n).events(&session).await.expect("a log"), log);
        }
        stood = stood.max(longest_stand(&log));
    }
    eprintln!("{owed} messages were acknowledged and are there; a turn stood {stood:.1} s at most");
    assert!(stood < longest_allowed(), "a turn stood {stood} s");
}

async fn session(api: &Api, ground: &Ground) -> String {
    api.session(ground).await.expect("a session")
}

/// Every few seconds something happens to a server or, twice, to the database.
async fn torment(fleet: &mut Fleet, time: Duration, mut seed: Seed) {
    let began = Instant::now();
    let mut restarts = [time / 3, time * 2 / 3].into_iter().peekable();
    while began.elapsed() < time {
        let victim = usize::try_from(seed.below(3)).expect("a small number");
        if restarts.next_if(|at| began.elapsed() > *at).is_some() {
            eprintln!("{:?}: the database restarts", began.elapsed());
            fleet.cluster.stop();
            fleet.cluster.start();
        } else {
            hurt(
                fleet,
                victim,
                ["kill", "freeze", "cut"][seed.below(3) as usize],
                began,
            )
            .await;
        }
        wait::pass(Duration::from_secs(2)).await;
    }
}

/// Something happens to a server, and then it is well again.
async fn hurt(fleet: &mut Fleet, victim: usize, how: &str, began: Instant) {
    eprintln!("{:?}: {how} r{victim}", began.elapsed());
    match how {
        "kill" => {
            fleet.kill(victim).await;
            wait::pass(Duration::from_secs(1)).await;
            fleet.restart(victim).await;
        }
        "freeze" => {
            fleet.server(victim).freeze();
            wait::pass(Duration::from_secs(6)).await;
            fleet.server(victim).thaw();
        }
        _ => {
            fleet.cables[victim].cut();
            wait::pass(Duration::from_secs(7)).await;
            fleet.cables[victim].mend();
        }
    }
}
