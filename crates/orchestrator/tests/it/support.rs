//! A world with a database and a scripted model, and servers in it. They decide nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::agent::{CreateAgent, SessionAgent};
use contract::content::Block;
use contract::environment::CreateEnvironment;
use contract::ids::{AgentId, EnvironmentId, SessionId, ThreadId, WorkspaceId};
use harness::native::Native;
use model::{BaseUrl, Catalog, Client, ClientConfig, Dialect, Endpoint, KeySource, Origin, Secret};
use orchestrator::{Config, Orchestrator, Parts};
use sandbox::Provider;
use scripted::{Running, Scripted};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use session::input::Profile;
use session::policy::ToolRules;
use session::{Command, Input, Opening, State, UserEvent};
use store::sessions::{NewSession, Scope};
use store::{Options, Store, Synchronous, clock};
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use vault::Vault;
use vault::master::MasterKey;

use crate::pretend::Pretend;

/// What may take so long at most before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Models with small windows beside the embedded ones: 2,000 and 4,000 tokens, 100 of them for a reply.
const MODELS: &str = r#"
[[model]]
id = "tiny"
display_name = "Tiny"
max_input_tokens = 2000
max_tokens = 100
prices = { input = "0.000002", output = "0.00001" }

[[model]]
id = "small"
display_name = "Small"
max_input_tokens = 4000
max_tokens = 100
"#;

pub struct World {
    home: tempfile::TempDir,
    pub scripted: Running,
    pub sandboxes: Pretend,
    pub catalog: Arc<Catalog>,
    /// The model of its sessions.
    pub model: &'static str,
    /// How it is spoken to.
    pub dialect: Dialect,
}

impl World {
    pub async fn new() -> Self {
        dial::install_crypto_provider();
        Self {
            home: tempfile::tempdir().unwrap(),
            scripted: Scripted::start_local().await.unwrap(),
            sandboxes: Pretend::default(),
            catalog: Arc::new(Catalog::with_operator_file(MODELS).unwrap()),
            model: "claude-sonnet-5-5",
            dialect: Dialect::AnthropicMessages,
        }
    }

    pub async fn with_model(model: &'static str) -> Self {
        Self {
            model,
            ..Self::new().await
        }
    }

    pub async fn speaking(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::new().await
        }
    }

    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// A server that takes leases as if others used the database too.
    pub fn server(&self, change: impl FnOnce(&mut Config)) -> Server {
        self.server_with(Arc::new(self.sandboxes.clone()), change)
    }

    pub fn server_with(
        &self,
        provider: Arc<dyn Provider>,
        change: impl FnOnce(&mut Config),
    ) -> Server {
        let options = Options {
            synchronous: Synchronous::Off,
            readers: 2,
            ..Options::default()
        };
        let store = Store::open(&self.home.path().join("t.db"), options).unwrap();
        let mut config = Config {
            alone: false,
            ..Config::default()
        };
        change(&mut config);
        let parts = Parts {
            store: store.clone(),
            vault: Arc::new(Vault::with(&MasterKey::from_bytes([7; 32]))),
            harness: Arc::new(Native::new(Client::new(ClientConfig::default()).unwrap())),
            others: Vec::new(),
            provider,
            client: Client::new(ClientConfig::default()).unwrap(),
            catalog: self.catalog.clone(),
            endpoint: Some(self.endpoint()),
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let orchestrator = Orchestrator::new(parts, config);
        let tasks = TaskTracker::new();
        let runs = orchestrator.clone();
        tasks.spawn_on(async move { runs.run().await.unwrap() }, runtime.handle());
        Server {
            store,
            orchestrator,
            runtime: Some(runtime),
            model: self.model,
            catalog: self.catalog.clone(),
        }
    }

    fn endpoint(&self) -> Endpoint {
        let base_url = match self.dialect {
            Dialect::AnthropicMessages => self.scripted.base_url(),
            Dialect::OpenAiChat | Dialect::OpenAiResponses => {
                format!("{}/v1", self.scripted.base_url())
            }
        };
        Endpoint {
            dialect: self.dialect,
            base_url: BaseUrl::parse(&base_url).unwrap(),
            key: Secret::new("key".to_owned()),
            key_source: KeySource("the test".to_owned()),
            headers: Vec::new(),
            model_map: BTreeMap::new(),
            origin: Origin::Operator,
        }
    }

    /// Waits until the model has been asked `count` times.
    pub async fn asked(&self, count: usize) {
        until("the model is asked", || async {
            self.scripted.requests().len() >= count
        })
        .await;
    }
}

/// One server: an orchestrator with a store and a runtime of its own, as a process has them.
pub struct Server {
    pub store: Store,
    pub orchestrator: Orchestrator,
    runtime: Option<Runtime>,
    model: &'static str,
    catalog: Arc<Catalog>,
}

impl Server {
    /// Ends everything it does between two instructions.
    pub fn crash(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// A session whose tools have this policy, started on a message.
    pub async fn session(&self, policy: &str, text: &str) -> SessionId {
        let agent = agent(self.model, policy);
        let (agent_id, environment_id) = self.definitions(&agent).await;
        let agent: SessionAgent = {
            let create: CreateAgent = contract::parse::parse_value(agent).unwrap();
            let definition = create.resolve().unwrap();
            definition.session_snapshot(agent_id, 1, None).unwrap()
        };
        let create: CreateEnvironment = contract::parse::parse_value(json!({"name": "e"})).unwrap();
        let session = SessionId::from_bits(clock::id_bits(clock::now()));
        let new = NewSession {
            workspace: WorkspaceId::Default,
            agent_id,
            agent_version: 1,
            agent: raw(&agent).into(),
            environment_id,
            environment: raw(&create.resolve().unwrap()).into(),
            vault_ids: Vec::new(),
            profile: Profile::default(),
            opening: Opening {
                session,
                thread: ThreadId::from_bits(session.bits()),
                agent_name: "a".to_owned(),
                rules: ToolRules::of(&agent.tools),
                budget: None,
                initial: vec![message(text)],
            },
        };
        let made = self
            .store
            .create_session(new, clock::now(), clock::entropy());
        made.await.unwrap();
        session
    }

    async fn definitions(&self, agent: &Value) -> (AgentId, EnvironmentId) {
        let bits = || clock::id_bits(clock::now());
        let (agent_id, environment_id) =
            (AgentId::from_bits(bits()), EnvironmentId::from_bits(bits()));
        let workspace = WorkspaceId::Default;
        let made = self
            .store
            .create_agent(workspace, agent_id, raw(agent), clock::now());
        made.await.unwrap();
        let name = environment_id.to_string();
        let made = self.store.create_environment(
            workspace,
            environment_id,
            name,
            raw(&json!({})),
            clock::now(),
        );
        made.await.unwrap();
        (agent_id, environment_id)
    }

    pub async fn send(&self, session: SessionId, events: Vec<UserEvent>) {
        let input = Input::Command(Command::Send(events));
        let (now, entropy) = (clock::now(), clock::entropy());
        let sent = self.store.submit(Scope::Any, session, input, now, entropy);
        sent.await.unwrap();
    }

    pub async fn state(&self, session: SessionId) -> State {
        let row = self.store.session(Scope::Any, session).await;
        row.unwrap().state
    }

    /// Waits until the session's state is as wanted.
    pub async fn until(&self, session: SessionId, what: &str, holds: impl Fn(&State) -> bool) {
        until(what, || async { holds(&self.state(session).await) }).await;
    }

    /// Waits until no turn is open, and gives the log.
    pub async fn log(&self, session: SessionId) -> Vec<Value> {
        self.until(session, "the session rests", |s| !s.is_open())
            .await;
        let events = self.store.events_after(session, 0, 1_000).await.unwrap();
        let events = events
            .iter()
            .map(|e| serde_json::from_str(&e.json).unwrap());
        events.collect()
    }

    /// What the spans of a log cost at list prices, in picodollars; priced as one request each.
    pub fn cost_of(&self, log: &[Value]) -> u64 {
        let spans = of(log, "span.model_request_end");
        let cost = |span: &Value| {
            let number = |key: &str| span["model_usage"][key].as_u64().unwrap();
            let usage = model::Usage {
                input: number("input_tokens"),
                output: number("output_tokens"),
                cache_read: number("cache_read_input_tokens"),
                cache_creation_5m: number("cache_creation_input_tokens"),
                cache_creation_1h: 0,
            };
            self.catalog.price(self.model, &usage).unwrap().0
        };
        spans.into_iter().map(cost).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// An agent whose tools have this policy, or with `asking` may run and stand beside one of the client.
fn agent(model: &str, policy: &str) -> Value {
    let asking = policy == "asking";
    let policy = if asking { "always_allow" } else { policy };
    let mut agent = json!({
        "name": "a",
        "model": model,
        "tools": [{
            "type": "agent_toolset_20260401",
            "default_config": {"permission_policy": {"type": policy}},
        }],
    });
    if asking {
        let schema = json!({"type": "object"});
        let ask = json!({"type": "custom", "name": "ask", "description": "Asks.", "input_schema": schema});
        agent["tools"].as_array_mut().unwrap().push(ask);
    }
    agent
}

fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

pub fn message(text: &str) -> UserEvent {
    UserEvent::Message {
        content: vec![Block::text(text)],
    }
}

pub fn interrupt() -> Vec<UserEvent> {
    vec![UserEvent::Interrupt { thread: None }]
}

pub fn script(words: &str, steps: &Value) -> String {
    format!("{words} SCRIPT: {steps}")
}

pub fn bash(command: &str) -> Value {
    json!({"tool": "bash", "input": {"command": command}})
}

pub fn of<'a>(log: &'a [Value], kind: &str) -> Vec<&'a Value> {
    log.iter().filter(|event| event["type"] == kind).collect()
}

pub fn kinds(log: &[Value]) -> Vec<&str> {
    log.iter().map(|e| e["type"].as_str().unwrap()).collect()
}

/// The texts of the model's messages.
pub fn said(log: &[Value]) -> Vec<&str> {
    let messages = of(log, "agent.message");
    messages
        .into_iter()
        .map(|m| m["content"][0]["text"].as_str().unwrap())
        .collect()
}

/// Waits until `holds`, or fails.
pub async fn until<F, R>(what: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
