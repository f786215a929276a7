//! A database that is full or locked, and one that is copied while it is written: requests fail clearly,
//! nothing acknowledged is lost, and work goes on by itself once the trouble is over.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use testkit::api::Failed;
use testkit::disk::Disk;
use testkit::{script, wait};

use crate::stage::{self, Stage};

/// Sends until the server refuses; what it acknowledged is in the ledger.
async fn send_until_refused(stage: &mut Stage, words: &str) -> (u16, serde_json::Value) {
    for n in 0..2_000 {
        let api = stage.api();
        let subject = &mut stage.subjects[0];
        let token = format!("t{n}-{words}");
        subject.ledger.sent(&token);
        let message = script::message(&token, &json!([{"text": "heard"}]));
        match api.send(&subject.session, &[message]).await {
            Ok(ids) => subject.ledger.acknowledged(ids),
            // A session has room for so many waiting messages; the disk is what is looked for here.
            Err(Failed::Refused { status: 429, .. }) => {
                api.idle(&subject.session).await;
            }
            Err(Failed::Refused { status, body }) => return (status, body),
            Err(Failed::Lost(error)) => panic!("no answer: {error}"),
        }
    }
    panic!("2,000 sends, and the disk is not full");
}

/// Takes all the room there is; the file that has it.
fn fill(disk: &Path) -> std::path::PathBuf {
    let path = disk.join("filler");
    let mut file = fs::File::create(&path).expect("a file");
    for block in [1 << 20, 4_096] {
        let block = vec![1u8; block];
        while file.write_all(&block).is_ok() {}
    }
    // What is still in memory may fail only now.
    let _ = file.sync_all();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_clearly_loses_nothing_and_goes_on_when_there_is_room() {
    let disk =
        Disk::new().expect("this test needs root, loop devices, e2fsprogs, util-linux and python3");
    let (launch, model) = stage::launch().await;
    // Without a floor, so that it is SQLite that finds no room.
    let launch = launch
        .environment("LONGHAND_LIMITS_DISK_FREE_BYTES", "0")
        .placed(&disk.path().join("data"), disk.inside());
    let mut stage = Stage::on(launch, model, 1).await;
    let filler = fill(&disk.outside());
    let (status, body) = send_until_refused(&mut stage, &"x".repeat(20_000)).await;
    assert_eq!(status, 503, "{body}");
    assert!(body["request_id"].is_string(), "{body}");
    let session = stage.subjects[0].session.clone();
    let path = format!("/v1/sessions/{session}/events?limit=1");
    stage.api().get(&path).await.expect("reads go on");
    fs::remove_file(filler).expect("room again");
    stage.subjects[0].ledger.sent("after");
    wait::until("a send to be taken again", || async {
        let message = script::message("after", &json!([{"text": "heard"}]));
        stage.api().send(&session, &[message]).await.ok()
    })
    .await;
    let log = stage.api().idle(&session).await;
    assert_eq!(stage.subjects[0].ledger.audit(&log), Vec::<String>::new());
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_somebody_else_has_locked_is_waited_for_and_then_refused_for_now() {
    let mut stage = Stage::new(1).await;
    let database = stage.launch.data_dir().join("longhand.db");
    let hold = "import sqlite3,sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.readline()
db.execute('ROLLBACK')
print('let go', flush=True)";
    let mut holder = Command::new("python3")
        .args(["-c", hold])
        .arg(&database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut said = std::io::BufReader::new(holder.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("held");
    let session = stage.subjects[0].session.clone();
    let message = || [script::message("m", &json!([{"text": "heard"}]))];
    let refused = stage.api().send(&session, &message()).await;
    assert!(
        matches!(refused, Err(Failed::Refused { status: 503, .. })),
        "{refused:?}"
    );
    stage
        .api()
        .get(&format!("/v1/sessions/{session}"))
        .await
        .expect("reads go on");
    writeln!(holder.stdin.take().expect("piped")).expect("told");
    holder.wait().expect("it ends");
    stage.api().send(&session, &message()).await.expect("taken");
    stage.api().idle(&session).await;
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_working_server_is_whole_and_starts_elsewhere() {
    let mut stage = Stage::new(1).await;
    for n in 0..5 {
        stage
            .play(0, &format!("before{n}"), &json!([{"text": "heard"}]))
            .await;
    }
    let session = stage.subjects[0].session.clone();
    stage.api().idle(&session).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    let data = elsewhere.path().join("data");
    fs::create_dir(&data).expect("a directory");
    for n in 0..20 {
        // The copy may have them or not.
        stage.subjects[0].ledger.sent(&format!("during{n}"));
    }
    let (api, busy) = (stage.api(), session.clone());
    let mut load = tokio::task::JoinSet::new();
    load.spawn(async move {
        for n in 0..20 {
            let message = script::message(&format!("during{n}"), &json!([{"text": "heard"}]));
            api.send(&busy, &[message]).await.expect("sent");
        }
    });
    let binary =
        testkit::setting::binary().unwrap_or_else(|| env!("CARGO_BIN_EXE_longhand").into());
    let made = tokio::process::Command::new(&binary)
        .args(["backup", "--json", "--data-dir"])
        .arg(stage.launch.data_dir())
        .arg("--to")
        .arg(data.join("longhand.db"))
        .output()
        .await
        .expect("it runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    load.join_next()
        .await
        .expect("it was started")
        .expect("the load");
    let key = "master.key";
    assert!(
        !data.join(key).exists(),
        "the master key is never in a backup"
    );
    fs::copy(stage.launch.data_dir().join(key), data.join(key))
        .expect("kept elsewhere by its owner");
    stage.kill().await;
    let (launch, model) = stage::launch().await;
    let launch = launch.placed(&data, Vec::new());
    let restored = launch.start().await;
    let log = restored.api().idle(&session).await;
    assert_eq!(stage.subjects[0].ledger.audit(&log), Vec::<String>::new());
    restored.kill();
    restored.ended().await;
    drop(model);
}
