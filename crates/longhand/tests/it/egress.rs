//! The network of sandboxes through the real egress process of the real server. Nothing is dialled here: all that
//! is asked for is refused, and the refusal shows that it was heard.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::api::texts;
use testkit::{script, wait};

use crate::stage::{self, Stage};

/// Asks for the metadata service of a cloud.
const ASK: &str = "curl -sS -i --max-time 20 http://169.254.169.254/latest/meta-data/";

pub async fn carried() -> Stage {
    let (launch, model) = stage::launch().await;
    let launch = launch.environment("LONGHAND_EGRESS_ENABLED", "true");
    Stage::on(launch, model, 1).await
}

/// What the agent is told when it asks.
pub async fn told(stage: &mut Stage, token: &str) -> String {
    let steps = json!([script::bash(ASK), {"text": "heard"}]);
    stage.play(0, token, &steps).await;
    let log = stage.api().idle(&stage.subjects[0].session).await;
    let mut results = log.iter().filter(|e| e["type"] == "agent.tool_result");
    texts(results.next_back().expect("the call has a result"))
}

/// The egress process of that server.
pub fn process(stage: &Stage) -> Option<i32> {
    let dir = stage.launch.data_dir().join("egress");
    let dir = dir.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains("egress-host") && line.contains(dir)).then_some(pid)
        })
}

pub fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Ends what would otherwise wait a minute for a server.
pub async fn end(mut stage: Stage) {
    let server = stage.server.take().expect("it runs");
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    // One that this server took over is no child of its own: it ends by itself, just behind it.
    wait::until("it ends with its server", || async {
        process(&stage).is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_is_recorded() {
    let mut stage = carried().await;
    let said = told(&mut stage, "ask").await;
    assert!(
        said.contains("HTTP/1.1 403") && said.contains("only the operator"),
        "{said}"
    );
    let pid = process(&stage).expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    let log = asked(&stage, &["egress", "log"]);
    let session = &stage.subjects[0].session;
    assert!(
        log.contains("\"always-denied\"") && log.contains(session.as_str()),
        "{log}"
    );
    let verified = asked(&stage, &["audit", "verify"]);
    assert_eq!(
        verified.matches("the chain is whole").count(),
        2,
        "{verified}"
    );
    let actions = asked(&stage, &["audit", "log"]);
    assert!(
        actions.contains("egress rules sha256:") && actions.contains("POST /v1/environments"),
        "{actions}"
    );
    explained(&stage, session);
    followed(&mut stage).await;
    end(stage).await;
}

fn explained(stage: &Stage, session: &str) {
    let metadata = [
        "egress",
        "explain",
        session,
        "http://169.254.169.254/latest",
    ];
    let explained = serde_json::from_str::<serde_json::Value>(&asked(stage, &metadata)).unwrap();
    assert_eq!(
        (&explained["allowed"], &explained["rule"]),
        (&json!(false), &json!("always-denied"))
    );
    let wrong = command(stage, &["egress", "explain", session, "ftp://a.test"])
        .output()
        .unwrap();
    let wrong = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.contains("`url`") && wrong.contains("ftp"), "{wrong}");
}

/// Whoever follows sees what is there and what comes, also when another egress process records it.
async fn followed(stage: &mut Stage) {
    let mut follow = command(stage, &["egress", "log", "--follow", "--action", "denied"]);
    let mut child = follow.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let (seen, mut lines) = tokio::sync::mpsc::channel(100);
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        for line in std::io::BufRead::lines(out).map_while(Result::ok) {
            if seen.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut places = Vec::new();
    for round in 0..3 {
        let line = wait::within("a record", lines.recv()).await.unwrap();
        let record = serde_json::from_str::<serde_json::Value>(&line).unwrap();
        assert_eq!(
            (&record["action"], &record["rule"]),
            (&json!("denied"), &json!("always-denied"))
        );
        places.push(record["seq"].as_u64().unwrap());
        if round == 1 {
            kill(process(stage).expect("it runs"));
        }
        if round < 2 {
            told_until(stage, &format!("follow {round}")).await;
        }
    }
    assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lines);
    reader.join().unwrap();
}

/// Has the agent ask until it is told by an egress process that carries.
async fn told_until(stage: &mut Stage, token: &str) {
    let deadline = std::time::Instant::now() + wait::deadline();
    for again in 0.. {
        if told(stage, &format!("{token} {again}"))
            .await
            .contains("HTTP/1.1 403")
        {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "it never carries again"
        );
    }
}

pub fn command(stage: &Stage, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
    command
        .args(words)
        .arg("--data-dir")
        .arg(stage.launch.data_dir());
    command
}

/// What a command prints that succeeds.
pub fn asked(stage: &Stage, words: &[&str]) -> String {
    let ran = command(stage, words).output().unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_egress_process_is_replaced_and_a_killed_server_finds_its_own_again() {
    let mut stage = carried().await;
    assert!(told(&mut stage, "first").await.contains("HTTP/1.1 403"));
    let first = process(&stage).expect("it runs");
    kill(first);
    told_until(&mut stage, "second").await;
    let second = wait::until("another one runs", || async {
        process(&stage).filter(|pid| *pid != first)
    })
    .await;
    stage.kill().await;
    assert_eq!(process(&stage), Some(second), "it outlives its server");
    stage.restart().await;
    assert!(told(&mut stage, "third").await.contains("HTTP/1.1 403"));
    assert_eq!(
        process(&stage),
        Some(second),
        "the next server takes it over"
    );
    end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_there_is_no_network() {
    let mut stage = Stage::new(1).await;
    let said = told(&mut stage, "off").await;
    assert!(said.contains("curl: (7)"), "{said}");
    assert_eq!(process(&stage), None);
}

#[test]
fn a_policy_is_tried_offline_and_says_which_case_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let tried = |policy: &str, cases: &str| {
        std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
        std::fs::write(dir.path().join("cases.toml"), cases).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.args(["egress", "test", "policy.toml", "cases.toml"]);
        let ran = command.current_dir(dir.path()).output().unwrap();
        let [said, wrong] = [ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap());
        (ran.status.success(), said, wrong)
    };
    let policy = "networking = { type = 'limited', allowed_hosts = ['api.example.com'] }\n";
    let holds = "[[cases]]\nto = 'https://api.example.com/v1'\nexpect = 'allow'\n";
    let (passed, said, _) = tried(policy, holds);
    assert!(passed && said.starts_with("ok     https://api"), "{said}");
    let other = "[[cases]]\nto = 'https://other.test/'\nexpect = 'allow'\n";
    let (passed, said, wrong) = tried(policy, &format!("{holds}{other}"));
    assert!(
        !passed && said.contains("FAILED https://other.test/: expected allow"),
        "{said}"
    );
    assert!(wrong.contains("not what the cases expect"), "{wrong}");
    let wildcard = "networking = { type = 'limited', allowed_hosts = ['a.*.test'] }\n";
    let (passed, _, wrong) = tried(wildcard, holds);
    assert!(
        !passed && wrong.contains("allowed_hosts[0]") && wrong.contains("wildcard"),
        "{wrong}"
    );
}
