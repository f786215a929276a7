//! `claude`: the real program in a real sandbox, against the scripted model. No network but the model path.

use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::client_event::Confirmation;
use contract::content::Block;
use contract::ids::EventId;
use harness::claude::Claude;
use harness::install;
use harness::{EntryBody, Harness as _, Plane as _, Preview, Step};
use model::ToolSpec;
use scripted::Running;
use serde_json::{Value, json};
use session::UserEvent;
use session::policy::{ToolRule, ToolRules};

use crate::cache;
use crate::plane::MemoryPlane;

/// A session with a claude behind it.
struct World {
    plane: MemoryPlane,
    scripted: Running,
    claude: Claude,
    programs: PathBuf,
    home: tempfile::TempDir,
}

/// Runs until the file `go` is there.
const LONG: &str =
    "echo run >> runs; touch begun; until test -e go; do sleep 0.01; done; echo over";

/// The program, installed from the registry that npm is set to and kept from run to run: without it there is nothing
/// to test, and that is a failure.
async fn programs() -> PathBuf {
    let programs = cache::directory("harness");
    let registry = std::env::var_os("npm_config_registry");
    let registry = registry.map(|url| url.to_string_lossy().into_owned());
    let registry = registry.unwrap_or_else(|| install::DEFAULT_REGISTRY.to_owned());
    let client = dial::client(&dial::Mode::Exempt, &dial::Options::default()).unwrap();
    let version = install::CLAUDE_TESTED;
    let registry = install::Registry::open(registry);
    let installed = install::claude(&client, &registry, version, &programs).await;
    installed.unwrap_or_else(|error| panic!("claude cannot be installed: {error}"));
    programs
}

fn script(steps: &Value) -> String {
    format!("SCRIPT: {steps}")
}

impl World {
    /// A session under these rules, and the first turn of it.
    async fn new(rules: &[(&str, ToolRule)], steps: &Value) -> Self {
        dial::install_crypto_provider();
        let scripted = scripted::Scripted::start_local().await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let rules = rules.iter().map(|(name, rule)| ((*name).to_owned(), *rule));
        let rules = ToolRules(rules.collect());
        let programs = programs().await;
        let (plane, first) = MemoryPlane::having(
            &script(steps),
            &scripted.base_url(),
            home.path(),
            rules,
            Some(programs.clone()),
            |brief| {
                brief.custom.push(ToolSpec {
                    name: "weather".to_owned(),
                    description: "Says how the weather is.".to_owned(),
                    input_schema: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
                });
            },
        )
        .await;
        let world = Self {
            plane,
            scripted,
            claude: new_claude(&programs),
            programs,
            home,
        };
        world.run(first).await;
        world
    }

    /// The server is killed: in the middle of a turn that begins with `step`, when it has come so far.
    async fn lose_server_in(&mut self, step: Step, so_far: impl Fn(&Self) -> bool) {
        let run = self.claude.run(&self.plane, step);
        tokio::select! {
            ended = run => panic!("the turn was over first: {ended:?}"),
            () = async { until(|| so_far(self)).await; self.plane.lose_server().await } => {}
        }
        self.claude = new_claude(&self.programs);
    }

    /// The server is killed between turns.
    async fn lose_server(&mut self) {
        self.plane.lose_server().await;
        self.claude = new_claude(&self.programs);
    }

    fn workspace(&self) -> PathBuf {
        self.home.path().join("sandboxes/sesn_test/workspace")
    }

    /// Whether the file is in the workspace.
    fn has(&self, name: &str) -> bool {
        self.workspace().join(name).exists()
    }

    async fn run(&self, first: Step) {
        let run = self.claude.run(&self.plane, first);
        tokio::time::timeout(Duration::from_secs(120), run)
            .await
            .unwrap()
            .unwrap();
    }

    /// One more turn.
    async fn turn(&self, steps: &Value) {
        self.run(self.plane.say(&script(steps))).await;
    }

    /// The events since `from`.
    fn since(&self, from: usize) -> Vec<&'static str> {
        self.plane.kinds()[from..].to_vec()
    }

    /// The results of calls, oldest first.
    fn results(&self) -> Vec<(String, bool)> {
        let entries = self.plane.entries();
        let results = entries.into_iter().filter_map(|entry| match entry.body {
            EntryBody::Result {
                content, is_error, ..
            } => Some((texts(&content), is_error)),
            _ => None,
        });
        results.collect()
    }

    /// The calls that the session waits for.
    fn asked(&self) -> Vec<EventId> {
        let state = self.plane.state();
        state.primary.calls().iter().map(|call| call.id).collect()
    }

    /// The processes of claude in the sandbox.
    async fn processes(&self) -> Vec<i32> {
        let sandbox = self.plane.sandbox().await.unwrap();
        let running = sandbox.processes().await.unwrap().into_iter();
        let running = running.filter(|one| one.command.contains("run/longhand/claude"));
        running.map(|one| one.pid).collect()
    }

    /// A command of the test's own in the sandbox.
    async fn bash(&self, command: &str) {
        let sandbox = self.plane.sandbox().await.unwrap();
        let command = sandbox::Command::new(["/bin/bash", "-c", command]);
        let process = sandbox.spawn(command).await.unwrap();
        process.wait().await.unwrap();
    }

    /// `kill -9`.
    async fn end_claude(&self) {
        let all = self.processes().await.into_iter();
        let all = all.map(|pid| pid.to_string()).collect::<Vec<_>>();
        self.bash(&format!("kill -9 {}", all.join(" "))).await;
        let gone = async { while !self.processes().await.is_empty() {} };
        { tokio::time::timeout(Duration::from_secs(120), gone).await }.expect("it stays");
        // And whoever drives it has heard.
        until(|| self.claude.waiting() == 0).await;
    }

    /// Since then it was one process, which was told everything once.
    async fn went_on(&self, before: &[i32], placed: usize) {
        let placed = self.plane.placed_so_far().split_off(placed);
        assert!(placed.iter().all(|how| *how == "adopted"), "{placed:?}");
        assert_eq!(self.processes().await, before);
    }

    /// What the model was asked last.
    fn last_request(&self) -> Value {
        self.scripted.requests().pop().unwrap().body
    }
}

/// Returns when it holds.
async fn until(holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(120), held).await;
    held.expect("waited in vain");
}

fn new_claude(programs: &Path) -> Claude {
    let client = model::Client::new(model::ClientConfig::default()).unwrap();
    Claude::new(client, programs.to_owned())
}

fn texts(content: &[Block]) -> String {
    let texts = content.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[tokio::test]
async fn a_plain_turn_of_claude_is_what_one_of_native_is() {
    let world = World::new(&[], &json!([{"text": "hello there", "chunks": 4}])).await;
    let order = [
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ];
    let kinds = world.plane.kinds();
    assert_eq!(kinds[kinds.len() - order.len()..], order);
    let previews = world.plane.previews();
    let said = previews.iter().filter_map(|preview| match preview {
        Preview::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(said.collect::<String>(), "hello there");
    let before = world.processes().await;
    assert_eq!(before.len(), 1);
    // The same process goes on.
    let from = world.plane.kinds().len();
    world.turn(&json!([{"text": "again"}])).await;
    assert_eq!(world.since(from).last(), Some(&"session.status_idle"));
    let said = |asked: &Value| -> Vec<String> {
        let messages = asked["messages"].as_array().unwrap().iter();
        let messages = messages.filter(|message| message["role"] == "assistant");
        let said =
            messages.map(|message| message["content"][0]["text"].as_str().unwrap().to_owned());
        said.collect()
    };
    assert_eq!(said(&world.last_request()), ["hello there"]);
    assert_eq!(world.scripted.requests().len(), 2);
    assert_eq!(world.processes().await, before);
    // One that died is replaced by one that knows as much.
    let victim = before.first().copied().unwrap();
    world.bash(&format!("kill -9 {victim}")).await;
    world.turn(&json!([{"text": "once more"}])).await;
    assert_ne!(world.processes().await, before);
    assert_eq!(said(&world.last_request()), ["hello there", "again"]);
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));
}

#[tokio::test]
async fn calls_of_claude_are_decided_before_they_run() {
    let rules = [
        ("bash", ToolRule::Allow),
        ("read", ToolRule::Allow),
        ("write", ToolRule::Ask),
        ("weather", ToolRule::Custom),
    ];
    let bash = |command: &str| json!({"tool": "Bash", "input": {"command": command}});
    let world = World::new(
        &rules,
        &json!([bash("echo $((6 * 7)); exit 3"), {"text": "forty-two it is"}]),
    )
    .await;
    let (said, failed) = world.results().pop().unwrap();
    assert!(said.contains("42") && failed, "{said}");
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));

    beside_one_another(&world).await;
    asked_for(&world).await;
    a_tool_of_the_clients(&world).await;
    let breaks = world.scripted.stats().prefix_breaks;
    assert!(breaks.is_empty(), "{breaks:?}");
}

/// Calls of one reply, one after another.
async fn beside_one_another(world: &World) {
    world
        .turn(&json!([
            {"tools": [
                {"name": "Bash", "input": {"command": "echo one > f"}},
                {"name": "Bash", "input": {"command": "cat f"}},
                {"name": "Read", "input": {"file_path": "/workspace/f"}},
            ]},
            {"text": "both"},
        ]))
        .await;
    let results = world.results();
    let [.., first, second, third] = results.as_slice() else {
        panic!("{results:?}")
    };
    assert!(
        !first.1 && second.0.contains("one") && third.0.contains("one"),
        "{results:?}"
    );
}

/// Asks of one reply are one pause; one is let, one is not.
async fn asked_for(world: &World) {
    let write = |name: &str| json!({"name": "Write", "input": {"file_path": format!("/workspace/{name}"), "content": "x"}});
    world
        .turn(&json!([{"tools": [write("yes"), write("no")]}, {"text": "written"}]))
        .await;
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));
    let asked = world.asked();
    assert_eq!(asked.len(), 2);
    let answer = |call, result, message: Option<&str>| UserEvent::ToolConfirmation {
        call,
        result,
        deny_message: message.map(str::to_owned),
        thread: None,
    };
    let step = world.plane.send(vec![
        answer(asked[0], Confirmation::Allow, None),
        answer(asked[1], Confirmation::Deny, Some("not that one")),
    ]);
    let requests = world.scripted.requests().len();
    world.run(step).await;
    let results = world.results();
    assert_eq!(
        results.iter().filter(|(_, failed)| *failed).count(),
        2,
        "{results:?}"
    );
    assert_eq!(world.scripted.requests().len(), requests + 1);
    let told = world.last_request().to_string();
    assert!(told.contains("not that one"), "{told}");
}

async fn a_tool_of_the_clients(world: &World) {
    world
        .turn(&json!([{"tool": "weather", "input": {"city": "Oslo"}}, {"text": "sunny it is"}]))
        .await;
    let asked = world.asked();
    assert_eq!(asked.len(), 1);
    let step = world.plane.send(vec![UserEvent::CustomToolResult {
        call: asked[0],
        content: vec![Block::text("it is sunny")],
        is_error: None,
        thread: None,
    }]);
    world.run(step).await;
    assert!(world.last_request().to_string().contains("it is sunny"));
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));
}

#[tokio::test]
async fn a_claude_whose_server_is_killed_goes_on_with_the_next_one() {
    let rules = [("bash", ToolRule::Allow), ("write", ToolRule::Ask)];
    let mut world = World::new(&rules, &json!([{"text": "begun"}])).await;
    assert_eq!(world.plane.placed_so_far(), ["started"]);

    // Between turns.
    world.lose_server().await;
    world.turn(&json!([{"text": "still here"}])).await;
    assert_eq!(world.plane.placed_so_far(), ["started", "adopted"]);

    // While the model speaks.
    let step = world
        .plane
        .say(&script(&json!([{"text": "after all", "wait": "speaks"}])));
    let requests = world.scripted.requests().len();
    { world.lose_server_in(step, |world| world.scripted.requests().len() > requests) }.await;
    world.scripted.release("speaks");
    world.run(world.plane.claim_again()).await;
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));
    // Whether a request that was cut is made again is the program's own choice.
    let (before, placed) = (world.processes().await, world.plane.placed_so_far().len());

    // While a tool of it runs; how it ends while nobody is there is not lost, and it ran once.
    let bash = json!({"tool": "Bash", "input": {"command": LONG}});
    let step = world.plane.say(&script(&json!([bash, {"text": "told"}])));
    world.lose_server_in(step, |world| world.has("begun")).await;
    std::fs::write(world.workspace().join("go"), "").unwrap();
    world.run(world.plane.claim_again()).await;
    assert_eq!(world.results().pop().unwrap(), ("over".to_owned(), false));
    let runs = std::fs::read_to_string(world.workspace().join("runs")).unwrap();
    assert_eq!(runs, "run\n");
    world.went_on(&before, placed).await;

    // When the result is there, and nobody has stored it. The request with it may be cut, and then it is as above.
    world.plane.hold_result();
    let bash = json!({"tool": "Bash", "input": {"command": "echo twice >> once; cat once"}});
    let step = world.plane.say(&script(&json!([bash, {"text": "heard"}])));
    { world.lose_server_in(step, |world| world.plane.has_held()) }.await;
    world.run(world.plane.claim_again()).await;
    assert_eq!(world.results().pop().unwrap(), ("twice".to_owned(), false));
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));

    // While it waits for permission.
    let write =
        json!({"tool": "Write", "input": {"file_path": "/workspace/asked", "content": "x"}});
    world.turn(&json!([write, {"text": "written"}])).await;
    let asked = world.asked();
    let (before, placed) = (world.processes().await, world.plane.placed_so_far().len());
    world.lose_server().await;
    let step = world.plane.send(vec![UserEvent::ToolConfirmation {
        call: asked[0],
        result: Confirmation::Allow,
        deny_message: None,
        thread: None,
    }]);
    world.run(step).await;
    assert!(world.has("asked"));
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));

    world.went_on(&before, placed).await;

    // Before the model request. Where it is unknown whether it was told, the next one is made from the log.
    let step = world.plane.say(&script(&json!([{"text": "at last"}])));
    world.lose_server_in(step, |_| true).await;
    world.run(world.plane.claim_again()).await;
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));
}

#[tokio::test]
async fn a_claude_that_died_is_revived_from_its_own_transcript_unless_that_differs_from_the_log() {
    let rules = [("bash", ToolRule::Allow), ("write", ToolRule::Ask)];
    let world = World::new(&rules, &json!([{"text": "begun"}])).await;
    // It writes behind what it says.
    let written = r#"until grep -q '"type":"user"' /var/lib/longhand/claude/projects/session/*.jsonl; do sleep 0.01; done"#;
    world.bash(written).await;
    world.end_claude().await;
    world
        .turn(&json!([{"tool": "Bash", "input": {"command": "echo one"}}, {"text": "two"}]))
        .await;
    assert_eq!(world.plane.placed_so_far(), ["started", "revived"]);
    // While it waits for permission: the call is run all the same, and the next one knows it.
    let write =
        json!({"tool": "Write", "input": {"file_path": "/workspace/asked", "content": "x"}});
    world.turn(&json!([write, {"text": "written"}])).await;
    world.end_claude().await;
    let step = world.plane.send(vec![UserEvent::ToolConfirmation {
        call: world.asked()[0],
        result: Confirmation::Allow,
        deny_message: None,
        thread: None,
    }]);
    world.run(step).await;
    assert!(world.has("asked"));
    assert_eq!(
        world.plane.placed_so_far(),
        ["started", "revived", "revived"]
    );
    // Somebody inside changed what it remembers.
    world.end_claude().await;
    world
        .bash("sed -i s/begun/forged/g /var/lib/longhand/claude/projects/session/*.jsonl")
        .await;
    world.turn(&json!([{"text": "as it was"}])).await;
    assert_eq!(world.plane.placed_so_far().last(), Some(&"rebuilt"));
    let asked = world.last_request().to_string();
    assert!(
        asked.contains("begun") && !asked.contains("forged"),
        "{asked}"
    );
    // Nothing is left of it.
    world.end_claude().await;
    world.bash("rm -rf /var/lib/longhand/claude").await;
    world.turn(&json!([{"text": "for the last time"}])).await;
    assert_eq!(world.plane.placed_so_far().last(), Some(&"rebuilt"));
    assert_eq!(world.plane.kinds().last(), Some(&"session.status_idle"));
}
