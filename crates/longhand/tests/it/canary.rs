//! One secret of each kind goes in through the API and is used; then everything that the server shows, writes and
//! leaves is searched for it in every form. A planted leak is found in each place.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use serde_json::{Value, json};
use testkit::api::{Api, id};
use testkit::canary::{Canary, FORMS, told};
use testkit::{script, wait};

use crate::stage::{self, Stage};
use crate::terminal::lines;

const SECRETS: [(&str, &str); 7] = [
    ("static_bearer", "bearer/canary+6f1d0a7c94e2"),
    ("access_token", "access/canary+0c8be93a71d5"),
    ("refresh_token", "refresh/canary+d27f5e01b6c8"),
    ("client_secret", "client/canary+93b1e7ac05f4"),
    ("environment_variable", "variable/canary+58e2d90fb713"),
    ("llm key", "llm/canary+e4a01c7d6b95"),
    ("refused value", "refused/canary+17c60d8f4ae3"),
];

/// What is planted where it must be found.
const PLANTED: &str = "planted/canary+b80f23c17d6e";

fn secret(name: &str) -> &'static str {
    let found = SECRETS.iter().find(|(known, _)| *known == name);
    found.expect("one of them").1
}

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

/// Puts secrets of every kind in, and uses them; returns every answer.
async fn traffic(stage: &Stage, planted: &[String]) -> Vec<Value> {
    let (api, mut answers) = (stage.api(), Vec::new());
    let vault = json!({"display_name": "canary"});
    let vault = id(&api.post("/v1/vaults", &vault).await.expect("a vault"));
    let path = format!("/v1/vaults/{vault}/credentials");
    let closed = "http://127.0.0.1:9";
    let bearer = json!({"type": "static_bearer", "token": secret("static_bearer"),
        "mcp_server_url": "https://mcp.example/"});
    let oauth = json!({"type": "mcp_oauth", "access_token": secret("access_token"),
        "mcp_server_url": format!("{closed}/mcp"), "refresh": {"client_id": "me",
        "refresh_token": secret("refresh_token"), "token_endpoint": format!("{closed}/token"),
        "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": secret("client_secret")}}});
    let variable = json!({"type": "environment_variable", "secret_name": "TOKEN",
        "secret_value": secret("environment_variable"), "networking": {"type": "unrestricted"}});
    for auth in [bearer, oauth, variable] {
        let made = api.post(&path, &json!({"auth": auth})).await.expect("made");
        let one = format!("{path}/{}", id(&made));
        answers.push(api.get(&one).await.expect("read"));
        let again = json!({"auth": auth});
        answers.push(json!(format!("{:?}", api.post(&path, &again).await)));
        let validate = format!("{one}/mcp_oauth_validate");
        answers.push(json!(format!(
            "{:?}",
            api.post(&validate, &json!({})).await
        )));
        let renamed = json!({"display_name": "renamed", "auth": {"type": auth["type"]}});
        answers.push(api.post(&one, &renamed).await.expect("changed"));
        answers.push(made);
    }
    answers.extend(refused(&api, &path).await);
    let metadata = json!({"longhand.role": "llm", "longhand.harness": "native",
        "longhand.llm_api": "anthropic", "longhand.llm_base_url": stage.model.base_url()});
    let llm = json!({"display_name": "llm", "metadata": metadata});
    let llm = id(&api.post("/v1/vaults", &llm).await.expect("a vault"));
    let key = json!({"auth": {"type": "static_bearer", "token": secret("llm key")}});
    let key = api
        .post(&format!("/v1/vaults/{llm}/credentials"), &key)
        .await;
    answers.push(key.expect("made"));
    answers.push(turn(&api, &[&llm, &vault], planted).await);
    for path in [
        "/v1/vaults",
        &path,
        "/v1/sessions",
        "/v1/agents",
        "/v1/environments",
    ] {
        answers.push(api.get(path).await.expect("listed"));
    }
    answers
}

/// Requests that hold a secret and are wrong.
async fn refused(api: &Api, path: &str) -> Vec<Value> {
    let secret = secret("refused value");
    let bodies = [
        json!({"auth": {"type": "static_bearer", "token": [secret]}}),
        json!({"auth": {"type": "static_bearer", "token": secret, "mcp_server_url": "x"}}),
        json!({"auth": {"type": "static_bearer", "token": format!("{secret}\n"),
            "mcp_server_url": "https://x.example/"}}),
        json!({"auth": {"type": "environment_variable", "secret_value": secret}}),
    ];
    let mut answers = Vec::new();
    for body in bodies {
        let answer = api.post(path, &body).await;
        assert!(answer.is_err(), "{answer:?}");
        answers.push(json!(format!("{answer:?}")));
    }
    answers
}

/// A turn whose tool call looks for secrets, at the model whose key is in the first vault, with the variables of the
/// other.
async fn turn(api: &Api, vaults: &[&str], planted: &[String]) -> Value {
    let agent = json!({"name": "Canary", "model": "claude-sonnet-5-5", "tools": [{"type": "agent_toolset_20260401"}]});
    let agent = id(&api.post("/v1/agents", &agent).await.expect("an agent"));
    let environment = json!({"name": "canary", "config": {"type": "cloud"}});
    let environment = api.post("/v1/environments", &environment).await;
    let environment = id(&environment.expect("an environment"));
    let body = json!({"agent": agent, "environment_id": environment, "vault_ids": vaults});
    let session = id(&api.post("/v1/sessions", &body).await.expect("a session"));
    let look =
        "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; find / -xdev -name '*.key'";
    let steps = json!([
        {"text": "I shall look.", "tool": "bash", "input": {"command": look}},
        {"text": "There is nothing."},
    ]);
    let message = script::message("canary", &steps);
    api.send(&session, &[message]).await.expect("sent");
    // A message that comes before the first request is read with it, and would be the script in its place.
    api.idle(&session).await;
    for text in planted {
        let message = script::message(text, &json!([{"text": "heard"}]));
        api.send(&session, &[message]).await.expect("sent");
    }
    let mut events = api.idle(&session).await;
    assert!(
        events.iter().any(|e| e["type"] == "agent.tool_result"),
        "{events:?}"
    );
    let results = events.iter().filter(|e| e["type"] == "agent.tool_result");
    let shown: String = results.map(testkit::api::texts).collect();
    let variables = shown.matches("TOKEN=lhph").count();
    assert!(variables >= 1, "the placeholder is there: {shown}");
    for path in ["binding", "timeline", "why"] {
        let path = format!("/v1/x/sessions/{session}/{path}");
        events.push(api.get(&path).await.expect("read"));
    }
    json!(events)
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

async fn everything(stage: &Stage, answers: Vec<Value>) -> Places {
    let mut places = Places::new();
    let dir = stage.launch.data_dir();
    let copied = lines(dir, &["backup", "--json"]).await;
    places.insert("what backup says".into(), json!(copied).to_string().into());
    // The copy lies in the data directory, like the database, its log and the sandboxes.
    files(dir, &mut places);
    files(dir.parent().expect("the log is beside it"), &mut places);
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
    let (launch, model) = stage::launch().await;
    // The decoy stands in the environment in every form, as leaks of the others would.
    let decoys = FORMS.map(|form| String::from_utf8_lossy(&told(form, PLANTED)).into_owned());
    let launch = launch
        .environment("LONGHAND_LOG_LEVEL", "trace")
        .environment("LONGHAND_EGRESS_ENABLED", "true")
        .environment("DECOY", &decoys.join(" "));
    let stage = Stage::on(launch, model, 0).await;
    let answers = traffic(&stage, &decoys).await;
    let places = everything(&stage, answers).await;
    for expected in [
        "longhand.db",
        "longhand.db-wal",
        "/backups/",
        "server.log",
        "metrics",
        "cmdline",
        "environ",
    ] {
        let there = places
            .iter()
            .any(|(name, bytes)| name.contains(expected) && !bytes.is_empty());
        assert!(there, "{expected} was searched: {:?}", places.keys());
    }
    for (name, secret) in SECRETS {
        let canary = Canary::new(name, secret);
        assert_eq!(findings(&canary, &places), Vec::<String>::new());
        each_leak_is_found(&canary, secret, &places);
    }
    let planted = Canary::new("planted", PLANTED);
    let found = findings(&planted, &places);
    for form in FORMS {
        for place in ["answer", "longhand.db", "backups", "environ"] {
            let it = |text: &String| text.contains(place) && text.ends_with(&format!(", {form}"));
            assert!(found.iter().any(it), "{form} in {place}: {found:?}");
        }
    }
    no_core_is_left(stage).await;
}

/// A copy of each place with the secret in its middle, in each form.
fn each_leak_is_found(canary: &Canary, secret: &str, places: &Places) {
    for (place, bytes) in places {
        // What is said of one large file is said of all.
        let (before, after) = bytes.split_at(bytes.len().min(100_000) / 2);
        let after = &after[..after.len().min(50_000)];
        for form in FORMS {
            let leak = [before, &told(form, secret), after].concat();
            assert!(canary.found(&leak).contains(form), "{form} in {place}");
        }
    }
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
