//! The data directory of each release (and of one build before the first), kept in `tests/data/VERSION`, is
//! opened by this build: everything reads
//! as it did, what waited still waits, what was cut is finished, and work goes on.
//!
//! `cargo nextest run -p longhand keep_the_data --run-ignored only` makes the one of this version: once, when it
//! is released, and never again. `LONGHAND_BIN` names the binary that makes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::api::Api;
use testkit::{script, wait};

use crate::stage::{self, Stage};

/// What makes up a data directory; the rest of it is made anew.
const DATABASE: &str = "longhand.db";
const KEY: &str = "master.key";

/// What a client saw before the directory was put away: the path and the answer.
type Seen = BTreeMap<String, Value>;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// Objects that must read the same, and three sessions: one at rest, one that waits for a confirmation, one
/// whose turn was cut by a kill.
async fn furnish(stage: &mut Stage) -> (Seen, [String; 3]) {
    let api = stage.api();
    let policy = json!({"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}});
    let agent = json!({"name": "Asks", "model": "claude-sonnet-5-5", "tools": [policy], "metadata": {"k": "v"}});
    let agent = api.post("/v1/agents", &agent).await.expect("an agent");
    let environment = json!({"name": "another", "config": {"type": "cloud"}});
    let environment = api.post("/v1/environments", &environment).await;
    let environment = environment.expect("an environment");
    let vault = json!({"display_name": "Keys"});
    let vault = id(&api.post("/v1/vaults", &vault).await.expect("a vault"));
    let auth = json!({"type": "static_bearer", "mcp_server_url": "https://mcp.test/", "token": "sealed-secret"});
    let credential = format!("/v1/vaults/{vault}/credentials");
    let credential = api.post(&credential, &json!({"auth": auth})).await;
    let credential = id(&credential.expect("a credential"));

    let rest = stage.subjects[0].session.clone();
    let steps = json!([script::bash("echo kept > /workspace/file"), {"text": "done"}]);
    stage.play(0, "rest", &steps).await;
    api.idle(&rest).await;

    let session =
        json!({"agent": id(&agent), "environment_id": id(&environment), "vault_ids": [vault]});
    let asks = api.post("/v1/sessions", &session).await.expect("a session");
    let asks = id(&asks);
    let steps = json!([script::bash("echo allowed"), {"text": "confirmed"}]);
    let sent = api.send(&asks, &[script::message("asks", &steps)]).await;
    sent.expect("a send");
    api.idle(&asks).await;

    let paths = [
        format!("/v1/agents/{}", id(&agent)),
        format!("/v1/environments/{}", id(&environment)),
        format!("/v1/vaults/{vault}"),
        format!("/v1/vaults/{vault}/credentials/{credential}"),
        format!("/v1/sessions/{rest}"),
        format!("/v1/sessions/{rest}/events?limit=1000"),
        format!("/v1/sessions/{asks}/events?limit=1000"),
    ];
    let mut seen = Seen::new();
    for path in paths {
        let found = api.get(&path).await.expect("what was made");
        seen.insert(path, found);
    }
    let cut = stage.add().await;
    let steps = json!([{"text": "in two pieces", "chunks": 2, "wait_mid": "never"}]);
    stage.play(cut, "cut", &steps).await;
    stage.model.reached(&["never".to_owned()]).await;
    let cut = stage.subjects[cut].session.clone();
    (seen, [rest, asks, cut])
}

fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes the data of a release; not a test"]
async fn keep_the_data_of_this_release() {
    let mut stage = Stage::new(1).await;
    let to = kept().join(env!("CARGO_PKG_VERSION"));
    fs::create_dir_all(to.parent().expect("a folder")).expect("the folder of all releases");
    fs::create_dir(&to).expect("this release has no data yet");
    let (seen, sessions) = furnish(&mut stage).await;
    let binary =
        testkit::setting::binary().unwrap_or_else(|| env!("CARGO_BIN_EXE_longhand").into());
    let mut backup = tokio::process::Command::new(&binary);
    // It takes no setting that it does not know.
    for name in testkit::setting::of_servers() {
        backup.env_remove(name);
    }
    backup
        .args(["backup", "--json", "--data-dir"])
        .arg(stage.launch.data_dir());
    backup.arg("--to").arg(to.join(DATABASE));
    assert!(backup.status().await.expect("it runs").success());
    // Made for the tests; it opens nothing else.
    fs::copy(stage.launch.data_dir().join(KEY), to.join(KEY)).expect("the master key");
    stage.kill().await;
    let seen = json!({"seen": seen, "sessions": sessions});
    let text = serde_json::to_string_pretty(&seen).expect("JSON");
    fs::write(to.join("seen.json"), text + "\n").expect("what was seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_each_release_opens_and_goes_on() {
    let mut releases = 0;
    for release in fs::read_dir(kept()).expect("the folder of all releases") {
        opens(&release.expect("an entry").path()).await;
        releases += 1;
    }
    assert!(releases > 0, "no release is kept in {}", kept().display());
}

async fn opens(release: &Path) {
    let (launch, _model) = stage::launch().await;
    private(launch.data_dir());
    for name in [DATABASE, KEY] {
        let to = launch.data_dir().join(name);
        fs::copy(release.join(name), &to).expect("a kept file");
        private(&to);
    }
    let text = fs::read_to_string(release.join("seen.json")).expect("what was seen");
    let before: Value = serde_json::from_str(&text).expect("JSON");
    let server = launch.start().await;
    let api = server.api();
    for (path, before) in before["seen"].as_object().expect("paths") {
        let now = api.get(path).await.expect("what was there");
        assert_holds(path, before, &now);
    }
    let session = |at: usize| before["sessions"][at].as_str().expect("a session");
    goes_on(&api, [session(0), session(1), session(2)]).await;
}

/// Whatever was answered then is answered now. There may be more.
fn assert_holds(at: &str, before: &Value, now: &Value) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            // Time goes on.
            for (name, value) in before
                .iter()
                .filter(|(name, _)| *name != "duration_seconds")
            {
                let found = now.get(name).unwrap_or(&Value::Null);
                assert_holds(&format!("{at} {name}"), value, found);
            }
        }
        (Value::Array(before), Value::Array(now)) => {
            assert_eq!(before.len(), now.len(), "{at}");
            for (n, (before, now)) in before.iter().zip(now).enumerate() {
                assert_holds(&format!("{at}[{n}]"), before, now);
            }
        }
        _ => assert_eq!(before, now, "{at}"),
    }
}

async fn goes_on(api: &Api, [rest, asks, cut]: [&str; 3]) {
    let call = api.idle(asks).await;
    let call = call.iter().find(|event| event["type"] == "agent.tool_use");
    let call = id(call.expect("the call that waits"));
    let confirmed =
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"});
    api.send(asks, &[confirmed]).await.expect("a confirmation");
    let more = script::message("more", &json!([{"text": "still here"}]));
    api.send(rest, &[more]).await.expect("a message");
    for (session, words) in [(asks, "confirmed"), (rest, "still here")] {
        wait::until("an answer of the model", || async {
            let log = api.events(session).await.ok()?;
            log.iter()
                .any(|event| event["content"][0]["text"] == words)
                .then_some(())
        })
        .await;
    }
    let log = api
        .events(cut)
        .await
        .expect("the log of the turn that was cut");
    assert!(
        log.iter()
            .any(|event| event["type"] == "session.status_rescheduled"),
        "the turn that was cut is taken up: {log:?}"
    );
}

/// For its owner only, as the server makes it.
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = if path.exists() && path.is_file() {
        0o600
    } else {
        fs::create_dir_all(path).expect("a directory");
        0o700
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode");
}
