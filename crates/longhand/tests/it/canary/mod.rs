//! One secret of each kind is spent; then everything that the server shows, writes and leaves, and all that its sandbox
//! had, is searched for it in every form. A planted leak is found in each place.

mod traffic;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use serde_json::{Value, json};
use testkit::canary::{Canary, FORMS, told};
use testkit::wait;

use self::traffic::{Ground, traffic};
use crate::stage::Stage;
use crate::terminal::lines;

/// What is planted where it must be found.
const PLANTED: &str = "planted/canary+b80f23c17d6e";

/// Where a secret may not be, by name.
type Places = BTreeMap<String, Vec<u8>>;

fn findings(canary: &Canary, places: &Places) -> Vec<String> {
    let mut found = Vec::new();
    for (place, bytes) in places {
        for form in canary.found(bytes) {
            found.push(format!("{} in {place}, {form}", canary.name));
        }
    }
    found
}

/// Everything below a directory that is a file.
fn files(dir: &Path, places: &mut Places) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, places),
            Ok(kind) if kind.is_file() => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                places.insert(path.display().to_string(), bytes);
            }
            _ => {}
        }
    }
}

/// Arguments and environment of a process and all it started.
fn processes(root: i32, places: &mut Places) {
    let parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse::<i32>()
            .ok()
    };
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in all {
        let mut above = Some(pid);
        while above.is_some_and(|it| it != root && it > 1) {
            above = above.and_then(parent);
        }
        if above != Some(root) {
            continue;
        }
        for what in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            places.insert(format!("{what} of process {pid}"), bytes);
        }
    }
}

/// The database's log with something in it: a purge may just have emptied it.
async fn written_log(stage: &Stage) -> Vec<u8> {
    let log = stage.launch.data_dir().join("longhand.db-wal");
    wait::until("something in the log of the database", || async {
        let vault = json!({"display_name": "of the log"});
        stage.api().post("/v1/vaults", &vault).await.ok()?;
        std::fs::read(&log).ok().filter(|bytes| !bytes.is_empty())
    })
    .await
}

async fn everything(stage: &Stage, answers: Vec<Value>, mut places: Places) -> Places {
    let dir = stage.launch.data_dir();
    let copied = lines(dir, &["backup", "--json"]).await;
    places.insert("what backup says".into(), json!(copied).to_string().into());
    // The copy lies in the data directory, like the database, its log and the sandboxes.
    files(dir, &mut places);
    files(dir.parent().expect("the log is beside it"), &mut places);
    let log = written_log(stage).await;
    places.insert("longhand.db-wal, once more".into(), log);
    processes(stage.server().pid(), &mut places);
    for (n, answer) in answers.iter().enumerate() {
        places.insert(format!("answer {n}"), answer.to_string().into());
    }
    let mut conn = stage.api().connect().await.expect("connected");
    let request = stage.api().request("GET", "/metrics", None);
    let metrics = conn.exchange(&request).await.expect("an answer");
    assert_eq!(metrics.status, 200);
    places.insert("metrics".into(), metrics.body.to_vec());
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_anywhere_and_every_planted_leak_is() {
    // The decoy stands in the environment in every form, as leaks of the others would.
    let decoys = FORMS.map(|form| String::from_utf8_lossy(&told(form, PLANTED)).into_owned());
    let ground = Ground::new();
    let (stage, mut places) = (ground.stage(&decoys.join(" ")).await, Places::new());
    let (answers, stand_in) = traffic(&stage, &ground, &decoys, &mut places).await;
    let places = everything(&stage, answers, places).await;
    for expected in [
        "longhand.db",
        "longhand.db-wal",
        "/backups/",
        "server.log",
        "metrics",
        "cmdline",
        "environ",
        "memory",
    ] {
        let there = places
            .iter()
            .any(|(name, bytes)| name.contains(expected) && !bytes.is_empty());
        assert!(there, "{expected} was searched: {:?}", places.keys());
    }
    for canary in ground.canaries() {
        assert_eq!(findings(&canary, &places), Vec::<String>::new());
        each_leak_is_found(&canary, &places);
    }
    nobody_else_has(&Canary::new("stand-in", stand_in), &places);
    let planted = Canary::new("planted", PLANTED);
    let found = findings(&planted, &places);
    for form in FORMS {
        for place in [
            "answer",
            "longhand.db",
            "backups",
            "environ",
            "cmdline",
            "memory",
        ] {
            let it = |text: &String| text.contains(place) && text.ends_with(&format!(", {form}"));
            assert!(found.iter().any(it), "{form} in {place}: {found:?}");
        }
    }
    no_core_is_left(stage).await;
}

/// A copy of each place with the secret in its middle, in each form.
fn each_leak_is_found(canary: &Canary, places: &Places) {
    for (place, bytes) in places {
        // What is said of one large file is said of all.
        let (before, after) = bytes.split_at(bytes.len().min(100_000) / 2);
        let after = &after[..after.len().min(50_000)];
        for form in FORMS {
            let leak = [before, canary.leak(form), after].concat();
            assert!(canary.found(&leak).contains(form), "{form} in {place}");
        }
    }
}

/// The stand-in for the model's key is in the sandbox that it is for, and nowhere else.
fn nobody_else_has(stand_in: &Canary, places: &Places) {
    let found = findings(stand_in, places);
    let is_inside = |text: &&String| {
        ["memory of process", "environ of process"]
            .iter()
            .any(|place| text.contains(place))
    };
    assert!(found.iter().any(|it| is_inside(&it)), "{found:?}");
    let outside: Vec<_> = found.iter().filter(|it| !is_inside(it)).collect();
    assert_eq!(outside, Vec::<&String>::new());
}

/// Aborted, the server leaves no core behind and cannot be read before.
async fn no_core_is_left(mut stage: Stage) {
    let pid = stage.server().pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core = core.expect("a limit").split_whitespace().nth(4);
    assert_eq!(core, Some("1"), "{limits}");
    let here = std::env::current_dir().expect("a directory");
    let cores = || {
        let names = std::fs::read_dir(&here).expect("readable").flatten();
        names
            .filter(|f| f.file_name().to_string_lossy().starts_with("core"))
            .count()
    };
    let before = cores();
    let carries = crate::egress::process(&stage).expect("it runs");
    let server = stage.server.take().expect("it runs");
    let target = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(target, rustix::process::Signal::ABORT).expect("aborted");
    let status = wait::within("the server to end", server.ended()).await;
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    assert_eq!(cores(), before);
    crate::egress::kill(carries);
    let dir = stage.launch.data_dir();
    let mut left = Places::new();
    files(dir, &mut left);
    assert!(!left.keys().any(|name| {
        name.rsplit('/')
            .next()
            .is_some_and(|n| n.starts_with("core"))
    }));
}
