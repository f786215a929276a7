//! How well sandboxes are kept apart: by a server of a user without any right, and what a server that must not
//! run below a level says.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use testkit::api::texts;
use testkit::script;

use crate::stage::{self, Stage};

/// A user that nobody is.
const USER: u32 = 61_235;

/// Words that make who follows them that user, with no right left.
fn without_rights() -> Vec<OsString> {
    let user = USER.to_string();
    let words = [
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        "--",
    ];
    words.iter().map(OsString::from).collect()
}

/// A directory that belongs to it.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(home.path(), Some(USER), Some(USER)).expect("root gives it away");
    home
}

fn run(words: &[OsString], data_dir: &Path, arguments: &[&str]) -> Output {
    let mut words = words
        .iter()
        .cloned()
        .chain([env!("CARGO_BIN_EXE_longhand").into()]);
    let mut command = Command::new(words.next().expect("the binary at least"));
    command
        .args(words)
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir);
    command.output().expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_rights_runs_a_turn_in_a_sandbox_that_says_what_it_lacks() {
    let home = home();
    let (launch, model) = stage::launch().await;
    let launch = launch.placed(&home.path().join("data"), without_rights());
    let mut stage = Stage::on(launch, model, 1).await;
    let look =
        "id -u; cat /proc/self/uid_map; echo kept > f; cat f; cat /etc/shadow 2>&1 | tail -1";
    let steps = json!([script::bash(look), {"text": "seen"}]);
    stage.play(0, "look", &steps).await;
    let session = stage.subjects[0].session.clone();
    let log = stage.api().idle(&session).await;
    let result = log
        .iter()
        .find(|event| event["type"] == "agent.tool_result");
    let seen = texts(result.expect("the call has a result"));
    let seen: Vec<&str> = seen.lines().map(str::trim).collect();
    let one: Vec<_> = seen[1].split_whitespace().collect();
    assert_eq!(
        (seen[0], one[0], one[2], seen[2]),
        ("0", "0", "1", "kept"),
        "{seen:?}"
    );
    assert!(seen[3].contains("No such file"), "{seen:?}");
    let record = stage
        .api()
        .get(&format!("/v1/x/sandboxes/{session}"))
        .await
        .expect("its record");
    let isolation = &record["isolation"];
    assert_eq!(isolation["level"], "basic", "{record}");
    assert_eq!(isolation["own_user_ids"], false);
    assert_eq!(isolation["processes"]["held_by"], "resource limits");
    let said = stage.server().tail();
    assert!(
        said.contains("sandboxes are kept apart less well than they can be"),
        "{said}"
    );
    let doctor = run(&without_rights(), &home.path().join("other"), &["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success(), "{doctor:?}");
    assert!(
        said.contains(&format!("outside it is user {USER}")),
        "{said}"
    );
}

#[test]
fn a_server_that_must_not_run_below_a_level_says_what_is_lacking() {
    let home = home();
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--require-isolation",
        "limits",
    ];
    let refused = run(&without_rights(), &home.path().join("data"), &arguments);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    for lacking in [
        "below the isolation level `limits`",
        "reaches `basic`",
        "no ids of its own",
        "longhand doctor",
    ] {
        assert!(said.contains(lacking), "{said}");
    }
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--require-isolation",
        "most",
    ];
    let unknown = run(&[], &home.path().join("none"), &arguments);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success(), "{said}");
    assert!(said.contains("they are basic, ids, limits, disk"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_disk_for_each_sandbox_reaches_the_highest_level() {
    let (launch, model) = stage::launch().await;
    let launch = launch
        .environment("LONGHAND_SANDBOX_DISK", "image")
        .environment("LONGHAND_SANDBOX_DISK_MIB", "128")
        .arguments(&["--require-isolation", "ids"]);
    let mut stage = Stage::on(launch, model, 1).await;
    stage.ran(0, "warm").await;
    let session = stage.subjects[0].session.clone();
    let record = stage
        .api()
        .get(&format!("/v1/x/sandboxes/{session}"))
        .await
        .expect("its record");
    let isolation = &record["isolation"];
    assert_eq!(
        isolation["disk_bytes"],
        json!({"most": 128 << 20, "held_by": "a file system of its own", "firmly": true})
    );
    assert_eq!(isolation["own_user_ids"], true);
}
