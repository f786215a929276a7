//! The harness `claude` from outside: the real program in real sandboxes behind the real server. The same turns as with
//! `native`, and what is killed on the way.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::api::{Api, id, texts};
use testkit::{inside, script, wait};

use crate::stage::{self, Stage};
use crate::terminal::{lines, piped};

/// A server on which claude is installed, and what sessions behind it are made of.
pub struct Claudes {
    pub stage: Stage,
    pub session: Value,
}

/// What the command line of a claude holds.
pub const CLAUDE: &str = "run/longhand/claude";

/// The provider's.
const KEY: &str = "sk-real-0123456789abcdef";

pub fn bash(command: &str) -> Value {
    json!({"tool": "Bash", "input": {"command": command}})
}

/// Runs until the file `go` is there.
pub const LONG: &str = "touch begun; until test -e go; do sleep 0.01; done; echo over";

/// Installs claude where that server looks for it.
pub async fn install(data_dir: &Path) {
    // Kept from run to run: the package is large.
    let kept = testkit::cache::directory("harness");
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::create_dir_all(data_dir).unwrap();
    std::os::unix::fs::symlink(&kept, data_dir.join("harness")).unwrap();
    let installed = piped(data_dir, &["harness", "install", "claude"]).await;
    assert!(installed.status.success(), "{installed:?}");
}

/// What creates a session of claude, which asks that model and whose bash has this policy.
pub async fn session_of(api: &Api, model: &str, policy: &str) -> Value {
    let vault = api.llm_vault("claude", model, KEY).await.unwrap();
    let policy = json!([{"name": "bash", "permission_policy": {"type": policy}},
        {"name": "write", "permission_policy": {"type": "always_ask"}}]);
    let weather = json!({"type": "custom", "name": "weather", "description": "Says how it is.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}});
    let agent = json!({"name": "Tester", "model": "claude-sonnet-5-5", "tools": [
        {"type": "agent_toolset_20260401", "configs": policy}, weather]});
    let agent = id(&api.post("/v1/agents", &agent).await.unwrap());
    let environment = json!({"name": "claudes", "config": {"type": "cloud"}});
    let environment = id(&api.post("/v1/environments", &environment).await.unwrap());
    json!({"agent": agent, "environment_id": environment, "vault_ids": [vault]})
}

impl Claudes {
    /// Agents whose bash has this policy.
    pub async fn new(policy: &str) -> Self {
        let (launch, model) = stage::launch().await;
        install(launch.data_dir()).await;
        let stage = Stage::on(launch, model, 0).await;
        let session = session_of(&stage.api(), &stage.model.base_url(), policy).await;
        Self { stage, session }
    }

    pub fn api(&self) -> Api {
        self.stage.api()
    }

    pub async fn session(&self) -> String {
        id(&self
            .api()
            .post("/v1/sessions", &self.session)
            .await
            .unwrap())
    }

    pub async fn play(&self, session: &str, steps: &Value) {
        let message = script::message("turn", steps);
        self.api().send(session, &[message]).await.unwrap();
    }

    /// Begins a turn of these words, and returns when the model is about to say them: what it waits for.
    pub async fn speaks(&self, session: &str, text: &str) -> String {
        let gate = format!("speaks-{session}");
        self.play(session, &json!([{"text": text, "wait": gate}]))
            .await;
        let gates = std::slice::from_ref(&gate);
        self.stage.model.reached(gates).await;
        gate
    }

    /// One turn to its end; what it added to the log.
    pub async fn turn(&self, session: &str, steps: &Value) -> Vec<Value> {
        let before = self.api().events(session).await.unwrap().len();
        self.play(session, steps).await;
        self.api().idle(session).await.split_off(before)
    }

    pub fn workspace(&self, session: &str) -> std::path::PathBuf {
        let sandboxes = self.stage.launch.data_dir().join("sandboxes");
        sandboxes.join(session).join("workspace")
    }

    /// How its claude came to be there, as far as this turn had to see to that.
    pub async fn placed(&self, session: &str) -> Value {
        let binding = format!("/v1/x/sessions/{session}/binding");
        self.api().get(&binding).await.unwrap()["harness_process"].clone()
    }

    /// The host's number of its claude.
    pub fn claude(&self, session: &str) -> i32 {
        let all = inside::processes(session, CLAUDE);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    /// The processes of claude in that session's sandbox.
    async fn processes(&self, session: &str) -> Vec<i64> {
        let all = lines(self.stage.launch.data_dir(), &["sandbox", "ps", session]).await;
        let all = all
            .iter()
            .filter(|one| one["command"].to_string().contains(CLAUDE));
        all.map(|one| one["pid"].as_i64().unwrap()).collect()
    }
}

pub fn of<'a>(log: &'a [Value], kind: &str) -> Vec<&'a Value> {
    log.iter().filter(|event| event["type"] == kind).collect()
}

/// Why the log rests.
pub fn rests(log: &[Value]) -> &str {
    let last = log.last().unwrap();
    assert_eq!(last["type"], "session.status_idle", "{last}");
    last["stop_reason"]["type"].as_str().unwrap()
}

/// The calls that the log waits for.
pub fn asked(log: &[Value]) -> Vec<String> {
    let last = log.last().unwrap()["stop_reason"]["event_ids"].as_array();
    let ids = last.unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

pub fn answer(call: &str, result: &str) -> Value {
    let mut answer =
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": result});
    if result == "deny" {
        answer["deny_message"] = json!("rather not");
    }
    answer
}

pub async fn reached(path: &Path) {
    wait::until("the call runs", || async { path.exists().then_some(()) }).await;
}

#[tokio::test]
async fn a_harness_that_is_installed_is_listed_and_one_that_is_not_says_how_it_is() {
    let (bare, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listed = piped(bare.path(), &["harness", "list"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("native") && listed.contains("longhand harness install claude"),
        "{listed}"
    );
    install(home.path()).await;
    let listed = lines(home.path(), &["harness", "list", "--json"]).await;
    let listed = listed[0]["data"].as_array().unwrap().iter();
    let used = listed
        .filter(|one| one["in_use"] == true)
        .collect::<Vec<_>>();
    assert_eq!(used.len(), 1, "{used:?}");
    assert_eq!(used[0]["harness"], "claude");
    let integrity = used[0]["integrity"].as_str().unwrap();
    assert!(integrity.starts_with("sha512-"), "{integrity}");
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_of_claude_are_those_of_native() {
    let claudes = Claudes::new("always_allow").await;
    let (api, session) = (claudes.api(), claudes.session().await);

    // Plain, with deltas.
    let mut stream = api.stream(&session, true).await.unwrap();
    let log = claudes
        .turn(&session, &json!([{"text": "hello there", "chunks": 4}]))
        .await;
    assert_eq!(rests(&log), "end_turn");
    assert_eq!(texts(of(&log, "agent.message")[0]), "hello there");
    let usage = &of(&log, "span.model_request_end")[0]["model_usage"];
    assert!(
        usage["input_tokens"].as_u64().unwrap() > 0 && usage["output_tokens"].as_u64().unwrap() > 0
    );
    let mut shown = String::new();
    loop {
        let event = wait::within("the stream", stream.next())
            .await
            .unwrap()
            .unwrap();
        match event["type"].as_str().unwrap() {
            "event_delta" => shown.push_str(event["delta"]["content"]["text"].as_str().unwrap()),
            "session.status_idle" => break,
            _ => {}
        }
    }
    assert_eq!(shown, "hello there");
    let binding = api
        .get(&format!("/v1/x/sessions/{session}/binding"))
        .await
        .unwrap();
    assert_eq!(binding["harness"], "claude", "{binding}");
    let first = claudes.processes(&session).await;
    assert_eq!(first.len(), 1, "{first:?}");

    tools(&claudes, &session).await;
    // All of it was one process.
    assert_eq!(claudes.processes(&session).await, first);
    interrupts(&claudes, &session).await;
    fails(&claudes, &session).await;
}

/// The model fails: the session says so and tries again, with a process that knows what the log says.
async fn fails(claudes: &Claudes, session: &str) {
    let log = claudes
        .turn(
            session,
            &json!([{"error": 529, "retry_after": 1}, {"text": "in the end"}]),
        )
        .await;
    assert_eq!(rests(&log), "end_turn");
    // The scripted model fails once for each way to say what was before. A process that was revived may say it otherwise
    // than the one that is made from the log for the retry: then that one meets the failure as well.
    let errors = of(&log, "session.error");
    assert!((1..=2).contains(&errors.len()), "{errors:?}");
    for error in errors.iter().map(|it| &it["error"]) {
        assert_eq!(error["type"], "model_overloaded_error");
        assert_eq!(error["retry_status"]["type"], "retrying");
    }
    let rescheduled = of(&log, "session.status_rescheduled").len();
    assert!((1..=errors.len()).contains(&rescheduled), "{rescheduled}");
    let said = of(&log, "agent.message");
    assert_eq!((said.len(), texts(said[0])), (1, "in the end".to_owned()));
}

/// Thinking, tools of one reply, a tool of the client's.
async fn tools(claudes: &Claudes, session: &str) {
    let api = claudes.api();
    let log = claudes
        .turn(
            session,
            &json!([
                {"thinking": "let me see", "tools": [
                    {"name": "Bash", "input": {"command": "echo one > f; echo done"}},
                    {"name": "Read", "input": {"file_path": "/workspace/f"}},
                    {"name": "Bash", "input": {"command": "cat f; exit 3"}},
                ]},
                {"text": "seen"},
            ]),
        )
        .await;
    assert_eq!(rests(&log), "end_turn");
    let calls = of(&log, "agent.tool_use");
    let names: Vec<_> = calls
        .iter()
        .map(|call| call["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["bash", "read", "bash"]);
    assert_eq!(
        calls[0]["input"],
        json!({"command": "echo one > f; echo done"})
    );
    let results = of(&log, "agent.tool_result");
    let failed: Vec<_> = results
        .iter()
        .map(|result| result["is_error"] == true)
        .collect();
    assert_eq!(failed, [false, false, true], "{results:?}");
    assert!(texts(results[2]).contains("one"));
    assert_eq!(of(&log, "agent.thinking").len(), 1);

    // A tool of the client's.
    let log = claudes
        .turn(
            session,
            &json!([{"tool": "weather", "input": {"city": "Oslo"}}, {"text": "sunny"}]),
        )
        .await;
    assert_eq!(rests(&log), "requires_action");
    let call = id(of(&log, "agent.custom_tool_use")[0]);
    let answer = json!({"type": "user.custom_tool_result", "custom_tool_use_id": call,
        "content": [{"type": "text", "text": "it is sunny in Oslo"}]});
    api.send(session, &[answer]).await.unwrap();
    assert_eq!(rests(&api.idle(session).await), "end_turn");
    let asked = claudes.stage.model.last(1).pop().unwrap();
    assert!(asked.to_string().contains("it is sunny in Oslo"), "{asked}");
}

/// An interrupt while the model speaks, while a tool runs, and a message in the middle of a turn.
async fn interrupts(claudes: &Claudes, session: &str) {
    let api = claudes.api();
    let gate = claudes.speaks(session, "never").await;
    let interrupt = [json!({"type": "user.interrupt"})];
    api.send(session, &interrupt).await.unwrap();
    assert_eq!(rests(&api.idle(session).await), "end_turn");
    claudes.stage.model.release(&gate);

    let workspace = claudes.workspace(session);
    claudes
        .play(session, &json!([bash(LONG), {"text": "never"}]))
        .await;
    reached(&workspace.join("begun")).await;
    api.send(session, &interrupt).await.unwrap();
    let log = api.idle(session).await;
    assert_eq!(rests(&log), "end_turn");
    let result = of(&log, "agent.tool_result").pop().unwrap();
    assert_eq!(result["is_error"], true, "{result}");
    // It is over, with its tool.
    std::fs::remove_file(workspace.join("begun")).unwrap();

    claudes
        .play(session, &json!([bash(LONG), {"text": "heard both"}]))
        .await;
    reached(&workspace.join("begun")).await;
    api.send(session, &[script::said("one thing more")])
        .await
        .unwrap();
    std::fs::write(workspace.join("go"), "").unwrap();
    let log = api.idle(session).await;
    assert_eq!(rests(&log), "end_turn");
    let asked = claudes.stage.model.last(1).pop().unwrap().to_string();
    assert!(
        asked.contains("one thing more") && asked.contains("over"),
        "{asked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_of_one_reply_are_one_pause_of_one_process() {
    let claudes = Claudes::new("always_ask").await;
    let session = claudes.session().await;
    let both = json!([{"tools": [
        {"name": "Bash", "input": {"command": "echo a >> runs; cat runs"}},
        {"name": "Bash", "input": {"command": "echo b >> runs; cat runs"}},
    ]}, {"text": "after"}]);

    // The same process goes on.
    let log = claudes.turn(&session, &both).await;
    assert_eq!(rests(&log), "requires_action");
    let calls = asked(&log);
    assert_eq!(calls.len(), 2);
    let before = claudes.processes(&session).await;
    let answers = [answer(&calls[0], "allow"), answer(&calls[1], "deny")];
    claudes.api().send(&session, &answers).await.unwrap();
    let log = claudes.api().idle(&session).await;
    assert_eq!(rests(&log), "end_turn");
    let results = of(&log, "agent.tool_result");
    let (failed, went): (Vec<_>, Vec<_>) = results.iter().partition(|one| one["is_error"] == true);
    assert_eq!((failed.len(), went.len()), (1, 1), "{results:?}");
    assert_eq!(texts(went[0]), "a");
    assert_eq!(claudes.processes(&session).await, before);
    let told = claudes.stage.model.last(1).pop().unwrap().to_string();
    assert!(told.contains("rather not"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_of_a_turn_of_claude_goes_on_with_it() {
    let mut claudes = Claudes::new("always_allow").await;
    let session = claudes.session().await;
    // While a tool runs: it goes on, and how it ends is found out.
    claudes
        .play(&session, &json!([bash(LONG), {"text": "told"}]))
        .await;
    reached(&claudes.workspace(&session).join("begun")).await;
    let before = claudes.processes(&session).await;
    claudes.stage.kill().await;
    std::fs::write(claudes.workspace(&session).join("go"), "").unwrap();
    claudes.stage.restart().await;
    let log = claudes.api().idle(&session).await;
    assert_eq!(rests(&log), "end_turn");
    let results = of(&log, "agent.tool_result");
    assert_eq!(results.len(), 1);
    assert_eq!(texts(results[0]), "over", "{results:?}");
    assert_eq!(claudes.processes(&session).await, before);
    assert_eq!(claudes.placed(&session).await, "adopted");
    // While the model speaks.
    let gate = claudes.speaks(&session, "after all").await;
    claudes.stage.kill().await;
    claudes.stage.restart().await;
    claudes.stage.model.release(&gate);
    let log = claudes.api().idle(&session).await;
    assert_eq!(texts(of(&log, "agent.message").pop().unwrap()), "after all");
    // Between turns.
    claudes.stage.kill().await;
    claudes.stage.restart().await;
    let log = claudes
        .turn(&session, &json!([{"text": "still here"}]))
        .await;
    assert_eq!(texts(of(&log, "agent.message")[0]), "still here");
    // The key is nowhere in what was kept.
    let home = claudes.stage.launch.data_dir();
    let found = Command::new("grep")
        .args(["-rlF", KEY])
        .arg(home.join("sandboxes"))
        .output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_stops_a_turn_of_claude_between_requests_and_a_higher_one_resumes_it() {
    let mut claudes = Claudes::new("always_allow").await;
    let cents = |amount: &str| json!({"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}});
    claudes.session["budget"] = cents("1");
    let session = claudes.session().await;
    // So many words are dear enough.
    let words = "word ".repeat(4_000);
    let mut first = bash("echo paid");
    first["text"] = json!(words);
    let log = claudes
        .turn(&session, &json!([first, {"text": "later"}]))
        .await;
    assert_eq!(rests(&log), "budget_reached");
    assert_eq!(texts(of(&log, "agent.tool_result")[0]), "paid");
    assert_eq!(claudes.stage.model.asked(), 1);
    let higher = json!({"budget": cents("100000")});
    let path = format!("/v1/sessions/{session}");
    claudes.api().post(&path, &higher).await.unwrap();
    let log = wait::until("it goes on", || async {
        let log = claudes.api().events(&session).await.ok()?;
        let last = &log.last()?["stop_reason"]["type"];
        (last == "end_turn").then_some(log)
    })
    .await;
    assert_eq!(texts(of(&log, "agent.message").pop().unwrap()), "later");
    assert_eq!(of(&log, "agent.tool_result").len(), 1, "nothing runs twice");
}
