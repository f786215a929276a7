//! Snapshots and forks with the real server: for people at the command line, and while the server is killed or the power
//! goes at seeded moments. What was acknowledged is there and whole; what is listed is whole.
//!
//! Needs what a sandbox needs, and loop devices. `TESTKIT_CUTS` sets the number of cuts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::disk::Disk;
use testkit::seed::Seed;
use testkit::{setting, wait};

use crate::stage::{self, Stage};
use crate::terminal::{self, lines, piped};

#[tokio::test(flavor = "multi_thread")]
async fn people_take_snapshots_fork_and_set_back() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let made = lines(dir, &["sandbox", "create", "first"]).await;
    assert_eq!(made[0]["id"], "first");
    let shell = async |id: &str, script: &str| {
        let ran = piped(dir, &["sandbox", "exec", id, "--", "/bin/sh", "-c", script]).await;
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    };
    shell(
        "first",
        "echo one > file; echo home > /root/here; rm /etc/hosts",
    )
    .await;
    let taken = lines(
        dir,
        &["sandbox", "snapshot", "first", "--note", "as it began"],
    )
    .await;
    let id = taken[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        (&taken[0]["live"], &taken[0]["note"]),
        (&json!(true), &json!("as it began"))
    );
    shell("first", "echo two > file").await;
    let forked = lines(dir, &["sandbox", "fork", "first", "second"]).await;
    assert_eq!(
        (&forked[0]["id"], &forked[0]["status"]),
        (&json!("second"), &json!("stopped"))
    );
    assert_eq!(
        shell("second", "cat file /root/here; ls /etc/hosts").await,
        "two\nhome"
    );
    lines(dir, &["sandbox", "restore", "first", &id]).await;
    assert_eq!(
        shell("first", "cat file /root/here; ls /etc/hosts").await,
        "one\nhome"
    );
    lines(dir, &["sandbox", "restore", "third", &id]).await;
    assert_eq!(shell("third", "cat file").await, "one");
    // It outlives the sandbox that it was taken of.
    lines(dir, &["sandbox", "rm", "first"]).await;
    let all = lines(dir, &["sandbox", "snapshots", "first"]).await;
    assert_eq!(all[0]["id"], json!(id));
    lines(dir, &["sandbox", "rm-snapshot", &id]).await;
    assert!(lines(dir, &["sandbox", "snapshots"]).await.is_empty());
    assert_eq!(shell("third", "cat file").await, "one");
    let none = piped(dir, &["sandbox", "restore", "third", &id]).await;
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(
        !none.status.success() && said.contains("there is no such snapshot"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn people_write_workspaces_to_files_and_make_sandboxes_from_them() {
    let (stage, other) = (Stage::new(0).await, Stage::new(0).await);
    let (here, there) = (stage.launch.data_dir(), other.launch.data_dir());
    lines(here, &["sandbox", "create", "first"]).await;
    let script = "echo one > file; echo home > /root/here; rm /etc/hosts";
    let words = ["sandbox", "exec", "first", "--", "/bin/sh", "-c", script];
    assert!(piped(here, &words).await.status.success());
    let file = here.join("first.tar.zst");
    let file = file.to_str().expect("a name");
    let written = piped(here, &["sandbox", "export", "first", "-o", file]).await;
    assert!(written.status.success(), "{written:?}");
    let taken = lines(here, &["sandbox", "snapshot", "first"]).await;
    let id = taken[0]["id"].as_str().expect("an id");
    // On another server, whose data is its own; from a file and from a pipe.
    let made = lines(there, &["sandbox", "import", "second", file]).await;
    assert_eq!(
        (&made[0]["id"], &made[0]["status"]),
        (&json!("second"), &json!("stopped"))
    );
    let mut export = terminal::command(here, &["sandbox", "export", "--snapshot", id]);
    let mut export = export.stdout(Stdio::piped()).spawn().expect("it starts");
    let pipe: Stdio = export
        .stdout
        .take()
        .expect("a pipe")
        .try_into()
        .expect("a pipe");
    let mut import = terminal::command(there, &["sandbox", "import", "third", "-"]);
    let import = import.stdin(pipe).output();
    let import = wait::within("the import", import).await.expect("it runs");
    assert!(import.status.success(), "{import:?}");
    assert!(export.wait().await.expect("it ends").success());
    for name in ["second", "third"] {
        let look = "cat file /root/here; ls /etc/hosts 2>/dev/null";
        let words = ["sandbox", "exec", name, "--", "/bin/sh", "-c", look];
        let seen = piped(there, &words).await;
        assert_eq!(
            String::from_utf8_lossy(&seen.stdout),
            "one\nhome\n",
            "{name}"
        );
    }
    std::fs::write(file, "nothing of the kind").expect("written");
    let bad = piped(there, &["sandbox", "import", "fourth", file]).await;
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        !bad.status.success() && said.contains("no Longhand export"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn people_make_volumes_attach_them_and_remove_them() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let made = lines(dir, &["volume", "create", "cache", "--size-mib", "64"]).await;
    assert_eq!(
        (&made[0]["name"], &made[0]["size_mib"]),
        (&json!("cache"), &json!(64))
    );
    let words = ["sandbox", "create", "first", "--volume", "cache"];
    lines(dir, &words).await;
    let write = "echo kept > /mnt/volumes/cache/file";
    let words = ["sandbox", "exec", "first", "--", "/bin/sh", "-c", write];
    assert!(piped(dir, &words).await.status.success());
    // Another, at the same time, that only reads.
    let read = "cat /mnt/volumes/cache/file; rm /mnt/volumes/cache/file";
    let words = [
        "sandbox", "run", "--volume", "cache:ro", "--", "/bin/sh", "-c", read,
    ];
    let ran = piped(dir, &words).await;
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "kept\n");
    assert!(!ran.status.success(), "it removed what it may only read");
    let bad = piped(dir, &["sandbox", "create", "--volume", "cache:rw"]).await;
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success() && said.contains("NAME:ro"), "{said}");
    let all = lines(dir, &["volume", "list"]).await;
    assert_eq!(all[0]["sandboxes"], json!(["first"]));
    let refused = piped(dir, &["volume", "remove", "cache"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("in use by first"),
        "{said}"
    );
    lines(dir, &["sandbox", "rm", "first"]).await;
    lines(dir, &["volume", "remove", "cache"]).await;
    assert!(lines(dir, &["volume", "list"]).await.is_empty());
}

/// How the server ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Killed,
    PowerCut,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_acknowledged_survives_a_power_cut_whole() {
    dies(End::PowerCut, setting::number("TESTKIT_CUTS", 6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_between_any_two_steps_leaves_whole_workspaces() {
    dies(End::Killed, setting::number("TESTKIT_CUTS", 6)).await;
}

/// The source, a session that is restored into again and again, and one that looks at what is there afterwards.
const SUBJECTS: [usize; 3] = [0, 1, 2];

/// Shows all that [`write`] has written, which are eleven lines.
pub const LOOK: &str = "cat d/* /root/round /mnt/session/outputs/out; ls /etc/hosts 2>/dev/null";

async fn dies(end: End, rounds: u64) {
    let seed = setting::number("TESTKIT_SEED", 1);
    let mut seeded = Seed::new(seed);
    let disk =
        Disk::new().expect("this test needs root, loop devices, e2fsprogs, util-linux and python3");
    let (launch, model) = stage::launch().await;
    let data_dir = disk.path().join("data");
    let launch = launch.placed(&data_dir, disk.inside());
    let mut stage = Stage::on(launch, model, SUBJECTS.len()).await;
    let mut owed: Vec<(String, u64)> = Vec::new();
    for round in 0..rounds {
        write(&stage, round).await;
        disk.flush().expect("sync");
        let promised = one_end(
            &mut stage,
            &disk,
            end,
            seeded.moment(Duration::from_millis(120)),
        )
        .await;
        owed.extend(promised.into_iter().map(|id| (id, round)));
        if end == End::PowerCut {
            disk.restore()
                .expect("the disk comes back when nobody holds it");
        }
        stage.restart().await;
        audit(&stage, &owed, seed, round).await;
    }
    assert!(
        !owed.is_empty(),
        "no snapshot was acknowledged, so nothing was shown"
    );
    stage.kill().await;
}

pub fn path(stage: &Stage, subject: usize, rest: &str) -> String {
    format!("/v1/x/sandboxes/{}{rest}", stage.subjects[subject].session)
}

/// Runs a script in a subject's sandbox, which is stopped after that: nobody holds the disk.
pub async fn shell(stage: &Stage, subject: usize, script: &str) -> String {
    let api = stage.api();
    let command = json!({"command": ["/bin/sh", "-c", script]});
    let ran = api
        .post(&path(stage, subject, "/exec"), &command)
        .await
        .expect("it runs");
    api.post(&path(stage, subject, "/stop"), &json!({}))
        .await
        .expect("it stops");
    ran["stdout"].as_str().expect("text").trim().to_owned()
}

/// Has the source say everywhere which round it is.
async fn write(stage: &Stage, round: u64) {
    let script = format!(
        "mkdir -p d; for n in 1 2 3 4 5 6 7 8 9; do echo {round} > d/$n; done; echo {round} > /root/round; \
         rm -f /etc/hosts; echo {round} > /mnt/session/outputs/out"
    );
    shell(stage, SUBJECTS[0], &script).await;
}

/// Takes snapshots and restores them until the end comes; those that were acknowledged before it.
async fn one_end(stage: &mut Stage, disk: &Disk, end: End, after: Duration) -> Vec<String> {
    let fuse = disk.fuse().expect("python3");
    let api = stage.api();
    let (take, back) = (
        path(stage, SUBJECTS[0], "/snapshots"),
        path(stage, SUBJECTS[1], "/restore"),
    );
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut taken: Vec<(Instant, String)> = Vec::new();
        while let Ok(one) = api.post(&take, &json!({})).await {
            let id = one["id"].as_str().expect("an id").to_owned();
            taken.push((Instant::now(), id.clone()));
            if api.post(&back, &json!({"snapshot_id": id})).await.is_err() {
                break;
            }
        }
        taken
    });
    wait::pass(after).await;
    let mut before = Instant::now();
    if end == End::PowerCut {
        before = fuse.cut().expect("EXT4_IOC_SHUTDOWN");
    }
    stage.kill().await;
    let taken = tasks
        .join_next()
        .await
        .expect("one task")
        .expect("it does not panic");
    let counted = taken.into_iter().filter(|(at, _)| *at < before);
    counted.map(|(_, id)| id).collect()
}

/// Every snapshot that was promised is listed, and every one that is listed is whole.
async fn audit(stage: &Stage, owed: &[(String, u64)], seed: u64, round: u64) {
    let api = stage.api();
    let all = api.get("/v1/x/snapshots").await.expect("a list");
    let all: Vec<Value> = all["data"].as_array().expect("a list").clone();
    let listed = |id: &str| all.iter().any(|one| one["id"] == id);
    for (id, _) in owed {
        assert!(listed(id), "seed {seed}, round {round}: {id} was promised");
    }
    // The source itself, and what was being restored when the end came, are of one round each.
    for subject in [SUBJECTS[0], SUBJECTS[1]] {
        one_round(&shell(stage, subject, LOOK).await, subject == SUBJECTS[1]);
    }
    for one in all.iter().take(3) {
        let id = one["id"].as_str().expect("an id");
        let restore = json!({"snapshot_id": id});
        api.post(&path(stage, SUBJECTS[2], "/restore"), &restore)
            .await
            .expect("it is restored");
        let seen = one_round(&shell(stage, SUBJECTS[2], LOOK).await, false);
        if let Some((_, round)) = owed.iter().find(|(owed, _)| owed == id) {
            assert_eq!(seen, Some(round.to_string()), "seed {seed}: {id}");
        }
    }
}

/// The one round that all files are of; none if nothing was ever restored there, where that may be.
pub fn one_round(seen: &str, may_be_nothing: bool) -> Option<String> {
    if may_be_nothing && !seen.contains(|digit: char| digit.is_ascii_digit()) {
        return None;
    }
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 11, "{seen}");
    assert!(lines.iter().all(|line| *line == lines[0]), "{seen}");
    Some(lines[0].to_owned())
}
