//! The power goes while a sandbox that runs is forked, and while layers that nobody needs are collected: a fork is whole or
//! not there, what was removed stays removed, what was kept is whole, and nothing is leaked.
//!
//! Needs what a sandbox needs, and loop devices. `TESTKIT_CUTS` sets the number of cuts.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::Api;
use testkit::disk::Disk;
use testkit::seed::Seed;
use testkit::{setting, wait};
use tokio::task::JoinSet;

use crate::stage::{self, Stage};
use crate::workspaces::{LOOK, one_round, path, shell};

/// The source, and one that looks at what is there afterwards; what comes behind is forked to.
const SOURCE: usize = 0;
const LOOKS: usize = 1;
/// Forks that are begun at most before a cut.
const FORKS: usize = 6;

/// What was acknowledged, and when.
#[derive(Default)]
struct Told {
    taken: Vec<(Instant, String)>,
    removed: Vec<(Instant, String)>,
    /// Asked to be removed: it may be there or not.
    asked: Vec<String>,
}

/// What was acknowledged so far in a round.
#[derive(Default)]
struct Done {
    forked: AtomicBool,
    removed: AtomicBool,
}

impl Done {
    fn each(&self) -> Option<()> {
        let each = self.forked.load(Ordering::Relaxed) && self.removed.load(Ordering::Relaxed);
        each.then_some(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_in_a_collection_or_in_the_fork_of_one_that_runs_leaves_everything_whole() {
    let seed = setting::number("TESTKIT_SEED", 1);
    let mut seeded = Seed::new(seed);
    let disk =
        Disk::new().expect("this test needs root, loop devices, e2fsprogs, util-linux and python3");
    let (launch, model) = stage::launch().await;
    let launch = launch.placed(&disk.path().join("data"), disk.inside());
    // What runs ends with its server: it holds the disk.
    let launch = launch.environment("LONGHAND_SANDBOX_ORPHAN_SECONDS", "0");
    let mut stage = Stage::on(launch, model, 2).await;
    let (mut removed, mut forked) = (0, 0);
    for round in 0..setting::number("TESTKIT_CUTS", 6) {
        let targets = stage.subjects.len()..stage.subjects.len() + FORKS;
        for _ in targets.clone() {
            stage.add().await;
        }
        write(&stage, round).await;
        disk.flush().expect("sync");
        let fuse = disk.fuse().expect("python3");
        let (mut forks, mut collections) = (JoinSet::new(), JoinSet::new());
        let done = Arc::new(Done::default());
        forks.spawn(forking(&stage, targets.clone(), Arc::clone(&done)));
        let snapshots_of = path(&stage, SOURCE, "/snapshots");
        collections.spawn(collecting(stage.api(), snapshots_of, Arc::clone(&done)));
        // However slow the machine is: one of each, and then a moment that the seed chose.
        wait::until("a fork and a collection", || async { done.each() }).await;
        wait::pass(seeded.moment(Duration::from_millis(120))).await;
        let before = fuse.cut().expect("EXT4_IOC_SHUTDOWN");
        stage.kill().await;
        let told = collections.join_next().await.expect("one task");
        let told = told.expect("it does not panic");
        let acknowledged = forks.join_next().await.expect("one task");
        let acknowledged = acknowledged.expect("it does not panic");
        wait::until("the disk comes back when nobody holds it", || async {
            disk.restore().ok()
        })
        .await;
        stage.restart().await;
        let which = format!("seed {seed}, round {round}");
        removed += snapshots(&stage, &told, before, &which).await;
        forked += acknowledged.iter().filter(|at| **at < before).count();
        for subject in targets {
            one_round(&shell(&stage, subject, LOOK).await, true);
        }
        one_round(&shell(&stage, SOURCE, LOOK).await, false);
        nothing_is_leaked(&stage, &disk.outside().join("data")).await;
    }
    eprintln!("{removed} snapshots removed and {forked} forks made before a cut");
    assert!(
        removed > 0 && forked > 0,
        "nothing was acknowledged, so nothing was shown"
    );
    stage.kill().await;
}

/// Has the source say everywhere which round it is. It runs from then on.
async fn write(stage: &Stage, round: u64) {
    let script = format!(
        "mkdir -p d; for n in 1 2 3 4 5 6 7 8 9; do echo {round} > d/$n; done; echo {round} > /root/round; \
         rm -f /etc/hosts; echo {round} > /mnt/session/outputs/out; mkdir -p /var/more; \
         for n in $(seq 400); do echo $n > /var/more/$n; done"
    );
    let command = json!({"command": ["/bin/sh", "-c", script]});
    let ran = stage
        .api()
        .post(&path(stage, SOURCE, "/exec"), &command)
        .await;
    assert_eq!(ran.expect("it runs")["exit_code"], 0);
}

/// Forks the source, which runs, to one after the other; when each was acknowledged.
fn forking(
    stage: &Stage,
    targets: std::ops::Range<usize>,
    done: Arc<Done>,
) -> impl Future<Output = Vec<Instant>> + use<> {
    let (api, fork) = (stage.api(), path(stage, SOURCE, "/fork"));
    let targets = stage.subjects[targets].iter();
    let targets: Vec<String> = targets.map(|subject| subject.session.clone()).collect();
    async move {
        let mut made = Vec::new();
        for to in targets {
            if api.post(&fork, &json!({"to": to})).await.is_err() {
                break;
            }
            made.push(Instant::now());
            done.forked.store(true, Ordering::Relaxed);
        }
        made
    }
}

/// Takes snapshots and removes the one before each until the end comes: each removal is followed by a collection.
async fn collecting(api: Api, take: String, done: Arc<Done>) -> Told {
    let mut told = Told::default();
    while let Ok(one) = api.post(&take, &json!({})).await {
        let id = one["id"].as_str().expect("an id").to_owned();
        if let Some((_, former)) = told.taken.last() {
            told.asked.push(former.clone());
            let remove = format!("/v1/x/snapshots/{former}");
            if api.call("DELETE", &remove, None).await.is_err() {
                break;
            }
            told.removed.push((Instant::now(), former.clone()));
            done.removed.store(true, Ordering::Relaxed);
        }
        told.taken.push((Instant::now(), id));
    }
    told
}

/// What was taken is there and whole, what was removed is not; how many were removed before the cut.
async fn snapshots(stage: &Stage, told: &Told, before: Instant, which: &str) -> usize {
    let api = stage.api();
    let all = api.get("/v1/x/snapshots").await.expect("a list");
    let all: Vec<Value> = all["data"].as_array().expect("a list").clone();
    let listed = |id: &String| all.iter().any(|one| one["id"] == *id);
    let early = |told: &[(Instant, String)]| -> Vec<String> {
        let early = told.iter().filter(|(at, _)| *at < before);
        early.map(|(_, id)| id.clone()).collect()
    };
    for id in early(&told.taken) {
        assert!(
            listed(&id) || told.asked.contains(&id),
            "{which}: {id} was promised"
        );
    }
    let removed = early(&told.removed);
    for id in &removed {
        assert!(!listed(id), "{which}: {id} came back");
    }
    for one in &all {
        let id = one["id"].as_str().expect("an id");
        let restore = json!({"snapshot_id": id});
        let restored = api.post(&path(stage, LOOKS, "/restore"), &restore).await;
        restored.expect("it is restored");
        one_round(&shell(stage, LOOKS, LOOK).await, false);
        let gone = api
            .call("DELETE", &format!("/v1/x/snapshots/{id}"), None)
            .await;
        gone.expect("it is removed");
    }
    removed.len()
}

/// Every layer is referred to, and nothing unfinished lies among the sandboxes, as soon as garbage was collected.
async fn nothing_is_leaked(stage: &Stage, data: &Path) {
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(data.join(dir)).expect("a directory");
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    };
    wait::until("everything that nobody needs is collected", || async {
        // A removal is followed by a collection, unless somebody makes something just then.
        let take = path(stage, SOURCE, "/snapshots");
        let one = stage
            .api()
            .post(&take, &json!({}))
            .await
            .expect("a snapshot");
        let one = format!("/v1/x/snapshots/{}", one["id"].as_str().expect("an id"));
        let gone = stage.api().call("DELETE", &one, None).await;
        gone.expect("it is removed");
        let stacks = names("sandboxes").into_iter().filter_map(|name| {
            let stack = std::fs::read_link(data.join("sandboxes").join(name).join("stack"));
            Some(stack.ok()?.to_string_lossy().into_owned())
        });
        let stacks: String = stacks.collect();
        let is_known = |layer: &String| stacks.contains(layer.as_str());
        let is_whole = !names("sandboxes")
            .iter()
            .any(|name| name.starts_with(".new-"));
        (names("snapshots/layers").iter().all(is_known) && is_whole).then_some(())
    })
    .await;
}
