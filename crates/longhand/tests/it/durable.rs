//! What of a sandbox's files is there after the power went: what a program inside has synced, at once; what a turn
//! wrote, when the server has brought it to the disk. Without either it is seen to be lost, so the cut cuts.
//!
//! Needs what a sandbox needs, and loop devices.

use serde_json::json;
use testkit::disk::Disk;
use testkit::{script, wait};

use crate::stage::{self, Stage};

/// Turns that may pass without a loss before it counts as shown that nothing is lost.
const TRIES: u32 = 5;

/// A server on a disk that loses its power, whose sandboxes end with it.
async fn stage(disk: &Disk, sync: bool) -> Stage {
    let (launch, model) = stage::launch().await;
    let launch = launch
        .placed(&disk.path().join("data"), disk.inside())
        .environment("LONGHAND_SANDBOX_ORPHAN_SECONDS", "0")
        .environment("LONGHAND_SANDBOX_SYNC_AFTER_TURN", &sync.to_string());
    Stage::on(launch, model, 1).await
}

fn disk() -> Disk {
    Disk::new().expect("this test needs root, loop devices, e2fsprogs, util-linux and python3")
}

/// What a script in the subject's sandbox prints.
async fn shell(stage: &Stage, script: &str) -> String {
    let path = format!("/v1/x/sandboxes/{}/exec", stage.subjects[0].session);
    let command = json!({"command": ["/bin/sh", "-c", script]});
    let ran = stage.api().post(&path, &command).await.expect("it runs");
    ran["stdout"].as_str().expect("text").trim().to_owned()
}

async fn stop(stage: &Stage) {
    let path = format!("/v1/x/sandboxes/{}/stop", stage.subjects[0].session);
    stage.api().post(&path, &json!({})).await.expect("it stops");
}

/// The power goes, and comes back.
async fn cut(stage: &mut Stage, disk: &Disk) {
    let fuse = disk.fuse().expect("python3");
    fuse.cut().expect("EXT4_IOC_SHUTDOWN");
    stage.kill().await;
    // The sandbox ends when it sees that its server has gone, and lets go of the disk.
    wait::until("nobody holds the disk", || async { disk.restore().ok() }).await;
    stage.restart().await;
}

/// Writes a file in each place that is kept, and has it on the disk as a database does: file, then directory.
const SYNCED: &str = "for d in /workspace /root /mnt/session/outputs /opt; do \
    python3 -c \"import os,sys; d,r=sys.argv[1:]; f=os.open(d+'/kept',os.O_CREAT|os.O_WRONLY); \
    os.write(f,r.encode()*5000); os.fsync(f); g=os.open(d,os.O_RDONLY); os.fsync(g)\" $d";
const SUM: &str =
    "cat /workspace/kept /root/kept /mnt/session/outputs/kept /opt/kept 2>/dev/null | cksum";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_has_synced_in_a_sandbox_is_there_after_a_power_cut() {
    let disk = disk();
    let mut stage = stage(&disk, false).await;
    for round in 0..4 {
        if round == 2 {
            // From here on the workspace lies on a layer.
            stop(&stage).await;
            let path = format!("/v1/x/sandboxes/{}/snapshots", stage.subjects[0].session);
            stage
                .api()
                .post(&path, &json!({}))
                .await
                .expect("a snapshot");
        }
        shell(
            &stage,
            &format!("rm -f /workspace/kept; {SYNCED} {round}; done"),
        )
        .await;
        let wrote = shell(&stage, SUM).await;
        assert!(wrote.ends_with(" 20000"), "{wrote}");
        cut(&mut stage, &disk).await;
        assert_eq!(shell(&stage, SUM).await, wrote, "round {round}");
        stop(&stage).await;
        disk.flush().expect("sync");
    }
    stage.kill().await;
}

/// A turn writes without a word to the disk. What it wrote.
async fn turn(stage: &mut Stage, round: u32) -> String {
    let write = format!(
        "mkdir -p many; for n in $(seq 200); do echo {round} > many/$n; done; echo {round} > /root/kept; \
         head -c 3000000 /dev/zero | tr '\\0' {round} > large"
    );
    let steps = json!([script::bash(&write), {"text": "written"}]);
    stage.play(0, &format!("turn-{round}"), &steps).await;
    stage.api().idle(&stage.subjects[0].session).await;
    format!("200 {round}\n1 {round}\n3000000")
}

const LOOK: &str = "cat many/* | sort | uniq -c | sed 's/^ *//'; uniq -c /root/kept | sed 's/^ *//'; \
    tr -cd \"$(cat /root/kept)\" < large | wc -c";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_turn_wrote_is_there_after_a_power_cut_once_it_was_brought_to_the_disk() {
    let disk = disk();
    let mut stage = stage(&disk, true).await;
    for round in 1..=3 {
        let wrote = turn(&mut stage, round).await;
        // The next server counts anew.
        let synced = || async { (syncs(&stage).await > 0).then_some(()) };
        wait::until("it is on the disk", synced).await;
        cut(&mut stage, &disk).await;
        assert_eq!(shell(&stage, LOOK).await, wrote, "round {round}");
        stop(&stage).await;
    }
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_files_nobody_brought_to_the_disk_is_seen_to_lose_them() {
    let disk = disk();
    let mut stage = stage(&disk, false).await;
    let mut lost = false;
    for round in 1..=TRIES {
        let wrote = turn(&mut stage, round).await;
        cut(&mut stage, &disk).await;
        lost = shell(&stage, LOOK).await != wrote;
        stop(&stage).await;
        if lost {
            break;
        }
    }
    stage.kill().await;
    assert!(lost, "nothing was lost, so the other test shows nothing");
}

/// After how many turns the server brought to the disk what they wrote.
async fn syncs(stage: &Stage) -> u64 {
    let api = stage.api();
    let request = api.request("GET", "/metrics", None);
    let mut conn = api.connect().await.expect("a connection");
    let answer = conn.exchange(&request).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("longhand_sandbox_syncs_total "));
    let count = line.and_then(|count| count.trim().parse().ok());
    count.expect("it is counted")
}
