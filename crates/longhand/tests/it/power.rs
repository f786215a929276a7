//! The power goes, 50 times at seeded moments, while clients send: whatever was acknowledged is there when
//! the server starts again, and the database is whole.
//!
//! Needs root and loop devices, and fails by saying so without them. That the test can fail is a test of its
//! own: with `synchronous=OFF` acknowledged events are lost. `TESTKIT_CUTS` sets the number of cuts.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::api::Failed;
use testkit::disk::Disk;
use testkit::seed::Seed;
use testkit::{database, script, setting, wait};
use tokio::task::JoinSet;

use crate::stage::{self, Stage};

/// Sessions, each with one client that sends as fast as it is answered.
const SESSIONS: usize = 8;

/// What the cuts did.
#[derive(Debug, Default)]
struct Toll {
    acknowledged: usize,
    lost: Vec<String>,
    faults: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let cuts = setting::number("TESTKIT_CUTS", 50);
    let toll = cut(&[], cuts).await;
    eprintln!(
        "{cuts} cuts, {} events acknowledged, {} lost",
        toll.acknowledged,
        toll.lost.len()
    );
    assert!(
        toll.acknowledged > 0,
        "no event was acknowledged, so nothing was shown"
    );
    assert_eq!(toll.lost, Vec::<String>::new());
    assert_eq!(toll.faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_synchronous_commits_a_power_cut_is_seen_to_lose_acknowledged_events() {
    let toll = cut(&["synchronous=off"], 5).await;
    eprintln!(
        "synchronous=off: {} events acknowledged; owed and missing: {}",
        toll.acknowledged,
        toll.lost.len()
    );
    assert!(
        !toll.lost.is_empty(),
        "the cut did not cut: nothing was lost without synchronous commits"
    );
}

/// Cuts so many times; stops at the first loss.
async fn cut(database_options: &[&str], cuts: u64) -> Toll {
    let seed = setting::number("TESTKIT_SEED", 1);
    let mut seeded = Seed::new(seed);
    let disk =
        Disk::new().expect("this test needs root, loop devices, e2fsprogs, util-linux and python3");
    let (launch, model) = stage::launch().await;
    let data_dir = disk.path().join("data");
    let mut launch = launch.placed(&data_dir, disk.inside());
    if !database_options.is_empty() {
        let url = format!(
            "sqlite://{}/longhand.db?{}",
            data_dir.display(),
            database_options.join("&")
        );
        launch = launch.arguments(&["--database-url", &url]);
    }
    let mut stage = Stage::on(launch, model, SESSIONS).await;
    // What the sessions stand on is not what is lost here.
    disk.flush().expect("sync");
    let mut toll = Toll::default();
    for round in 0..cuts {
        one_cut(&mut stage, &disk, round, &mut seeded, &mut toll).await;
        if !toll.lost.is_empty() || !toll.faults.is_empty() {
            eprintln!("TESTKIT_SEED={seed}: lost at cut {round}");
            break;
        }
    }
    toll.acknowledged = stage
        .subjects
        .iter()
        .map(|subject| subject.ledger.promised())
        .sum();
    // The server holds the disk: it must go first.
    if stage.server.is_some() {
        stage.kill().await;
    }
    toll
}

async fn one_cut(stage: &mut Stage, disk: &Disk, round: u64, seed: &mut Seed, toll: &mut Toll) {
    let fuse = disk.fuse().expect("python3");
    let watch = stage.watch().await;
    let mut clients = JoinSet::new();
    for subject in 0..SESSIONS {
        let (api, session) = (stage.api(), stage.subjects[subject].session.clone());
        clients.spawn(async move {
            let mut tokens = Vec::new();
            let mut acknowledged = Vec::new();
            loop {
                let token = format!("r{round}s{subject}n{}", tokens.len());
                tokens.push(token.clone());
                let message = script::message(&token, &json!([{"text": "heard"}]));
                match api.send(&session, &[message]).await {
                    Ok(ids) => acknowledged.push((Instant::now(), ids)),
                    // The server lives on without a disk; no answer and a refusal are both no promise.
                    Err(Failed::Lost(_) | Failed::Refused { .. }) => {
                        return (subject, tokens, acknowledged);
                    }
                }
            }
        });
    }
    wait::pass(seed.moment(Duration::from_millis(150))).await;
    let before = fuse.cut().expect("EXT4_IOC_SHUTDOWN");
    while let Some(client) = clients.join_next().await {
        let (subject, tokens, acknowledged) = client.expect("a client does not panic");
        let ledger = &mut stage.subjects[subject].ledger;
        tokens.iter().for_each(|token| ledger.sent(token));
        let counted = acknowledged.into_iter().filter(|(at, _)| *at < before);
        ledger.acknowledged(counted.flat_map(|(_, ids)| ids));
    }
    stage.kill().await;
    for seen in watch.rest().await {
        if seen.at < before {
            stage.subjects[seen.subject].ledger.seen(&seen.event);
        }
    }
    disk.restore()
        .expect("the disk comes back when nobody holds it");
    toll.faults = database::faults(&disk.outside().join("data/longhand.db"))
        .unwrap_or_else(|e| vec![e.to_string()]);
    if !toll.faults.is_empty() {
        return;
    }
    stage.restart().await;
    for subject in &stage.subjects {
        let gone = stage
            .api()
            .get(&format!("/v1/sessions/{}", subject.session))
            .await
            .is_err();
        if gone {
            toll.lost.push(format!("the session {}", subject.session));
            continue;
        }
        let log = stage.api().idle(&subject.session).await;
        toll.lost.extend(subject.ledger.audit(&log));
    }
}
