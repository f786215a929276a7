//! A session with the real claude behind it: its sandbox, its plane, its scripted model. No network but the model path.

use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::client_event::Confirmation;
use contract::content::Block;
use contract::ids::EventId;
use harness::claude::Claude;
use harness::install;
use harness::{EntryBody, Harness as _, Plane as _, Step};
use model::ToolSpec;
use scripted::Running;
use serde_json::{Value, json};
use session::UserEvent;
use session::policy::{ToolRule, ToolRules};

use crate::plane::{MemoryPlane, SANDBOX};
use crate::{cache, inside};

/// A session with a claude behind it.
pub struct World {
    pub plane: MemoryPlane,
    pub scripted: Running,
    claude: Claude,
    programs: PathBuf,
    home: tempfile::TempDir,
}

/// What a test takes from a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Server,
    Process,
    Sandbox,
}

/// What the command line of a claude holds.
const CLAUDE: &str = "run/longhand/claude";

/// Where it keeps what it remembers.
pub const TRANSCRIPTS: &str = "/run/harness/claude/projects/session/*.jsonl";

/// Ends when there is something in the input of claude.
const WAS_TOLD: &str = r"
import array, fcntl, os, termios, time
def told(pid):
    if not os.readlink(f'/proc/{pid}/exe').endswith('/claude'): return False
    count, pipe = array.array('i', [0]), os.open(f'/proc/{pid}/fd/0', os.O_RDONLY | os.O_NONBLOCK)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    os.close(pipe)
    return count[0] > 0
def any_told():
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if told(pid): return True
        except OSError: pass
while not any_told(): time.sleep(0.01)
";

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

pub fn script(steps: &Value) -> String {
    format!("SCRIPT: {steps}")
}

pub fn bash(command: &str) -> Value {
    json!({"tool": "Bash", "input": {"command": command}})
}

impl World {
    /// A session under these rules, and the first turn of it.
    pub async fn new(rules: &[(&str, ToolRule)], steps: &Value) -> Self {
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

    /// Loses it while nothing is under way, and returns when that is known.
    pub async fn lose(&mut self, victim: Victim) {
        self.end(victim).await;
        match victim {
            Victim::Server => self.claude = new_claude(&self.programs),
            // Whoever drives it has heard.
            _ => until(|| self.claude.waiting() == 0).await,
        }
    }

    /// Loses it in a turn that begins with `step`, when that has come so far; `then` lets the turn go on, to its end.
    pub async fn lose_in(
        &mut self,
        victim: Victim,
        step: Step,
        so_far: impl AsyncFn(&Self),
        then: impl AsyncFn(&Self),
    ) {
        let run = self.claude.run(&self.plane, step);
        let losing = async {
            so_far(self).await;
            self.end(victim).await;
        };
        if victim == Victim::Server {
            // What it had in flight goes with it.
            tokio::select! {
                ended = run => panic!("the turn was over first: {ended:?}"),
                () = losing => {}
            }
            then(self).await;
            self.claude = new_claude(&self.programs);
            self.run(self.plane.claim_again()).await;
        } else {
            let losing = async {
                losing.await;
                then(self).await;
            };
            let both = async { tokio::join!(run, losing) };
            let both = tokio::time::timeout(Duration::from_secs(120), both).await;
            both.unwrap().0.unwrap();
        }
    }

    /// `kill -9`, but of the server, of which nothing is heard any more; returns when it is gone.
    async fn end(&self, victim: Victim) {
        if victim == Victim::Server {
            return self.plane.lose_server().await;
        }
        let sandbox = self.plane.sandbox().await.unwrap();
        let claude = self.process();
        match victim {
            Victim::Sandbox => inside::kill(inside::parent(claude).unwrap()).unwrap(),
            _ => inside::kill(claude).unwrap(),
        }
        until(|| !self.processes().contains(&claude)).await;
        if victim == Victim::Sandbox {
            until(|| !sandbox.is_alive()).await;
        }
    }

    /// The host's numbers of all claudes in its sandbox.
    pub fn processes(&self) -> Vec<i32> {
        // What is mounted in its sandbox comes from a directory of this name.
        let home = self.home.path().file_name().unwrap().to_str().unwrap();
        inside::processes(home, CLAUDE)
    }

    /// The host's number of its claude.
    pub fn process(&self) -> i32 {
        let all = self.processes();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    /// Has its claude stand still until it is sent `CONT`; its number.
    pub fn freeze(&self) -> i32 {
        let claude = self.process();
        inside::signal(claude, "STOP").unwrap();
        claude
    }

    /// Returns when something was said to a claude that stands still.
    pub async fn was_told(&self) {
        let sandbox = self.plane.sandbox().await.unwrap();
        let command = sandbox::Command::new(["/usr/bin/python3", "-c", WAS_TOLD]);
        let process = sandbox.spawn(command).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(120), process.wait()).await;
        ended.expect("it is told something").unwrap();
    }

    pub fn workspace(&self) -> PathBuf {
        self.home
            .path()
            .join("sandboxes")
            .join(SANDBOX)
            .join("workspace")
    }

    /// Whether the file is in the workspace.
    pub fn has(&self, name: &str) -> bool {
        self.workspace().join(name).exists()
    }

    pub async fn run(&self, first: Step) {
        let run = self.claude.run(&self.plane, first);
        tokio::time::timeout(Duration::from_secs(120), run)
            .await
            .unwrap()
            .unwrap();
    }

    /// One more turn.
    pub async fn turn(&self, steps: &Value) {
        self.run(self.plane.say(&script(steps))).await;
    }

    /// The client lets the one call run that waits for it, and the turn goes on.
    pub fn allow(&self) -> Step {
        self.plane.send(vec![confirmed(self.asked()[0], None)])
    }

    /// The same for a tool of the client's.
    pub fn answer(&self, text: &str) -> Step {
        self.plane.send(vec![UserEvent::CustomToolResult {
            call: self.asked()[0],
            content: vec![Block::text(text)],
            is_error: None,
            thread: None,
        }])
    }

    /// Whether the session is at rest.
    pub fn rests(&self) -> bool {
        self.plane.kinds().last() == Some(&"session.status_idle")
    }

    /// The events since `from`.
    pub fn since(&self, from: usize) -> Vec<&'static str> {
        self.plane.kinds()[from..].to_vec()
    }

    /// The results of calls, oldest first.
    pub fn results(&self) -> Vec<(String, bool)> {
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
    pub fn asked(&self) -> Vec<EventId> {
        let state = self.plane.state();
        state.primary.calls().iter().map(|call| call.id).collect()
    }

    /// A command of the test's own in the sandbox, to its end.
    pub async fn bash(&self, command: &str) {
        let sandbox = self.plane.sandbox().await.unwrap();
        let command = sandbox::Command::new(["/bin/bash", "-c", command]);
        let process = sandbox.spawn(command).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(120), process.wait()).await;
        ended.expect("a command that ends").unwrap();
    }

    /// Returns when claude has written down that its model said this: it writes behind what it says.
    pub async fn remembers(&self, said: &str) {
        // Its rows; those in which it remembers its requests have no parent.
        let row = format!(r#"'"parentUuid":.*{said}.*"role":"assistant"'"#);
        let command = format!("until grep -q {row} {TRANSCRIPTS}; do sleep 0.01; done");
        self.bash(&command).await;
    }

    /// What the model was asked last.
    pub fn last_request(&self) -> Value {
        self.scripted.requests().pop().unwrap().body
    }
}

/// The client's word about a call: it may run, or may not, for this reason.
pub fn confirmed(call: EventId, denied: Option<&str>) -> UserEvent {
    let result = match denied {
        None => Confirmation::Allow,
        Some(_) => Confirmation::Deny,
    };
    UserEvent::ToolConfirmation {
        call,
        result,
        deny_message: denied.map(str::to_owned),
        thread: None,
    }
}

/// Returns when it holds.
pub async fn until(holds: impl Fn() -> bool) {
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
