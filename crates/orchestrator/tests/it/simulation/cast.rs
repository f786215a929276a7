//! Who plays in a simulated world: its processes, its sessions, and what they are made from.

use std::path::Path;
use std::sync::Arc;

use contract::agent::{CreateAgent, SessionAgent};
use contract::environment::CreateEnvironment;
use contract::ids::{AgentId, EnvironmentId, SessionId, ThreadId, WorkspaceId};
use model::{BaseUrl, Catalog, Dialect, Endpoint, KeySource, Origin, Secret};
use orchestrator::clock::Clock;
use orchestrator::{Config, Orchestrator, Parts};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use session::Opening;
use session::input::Profile;
use store::Store;
use store::sessions::NewSession;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use vault::Vault;
use vault::master::MasterKey;

use super::books::{self, Fate, below, chance, with};
use super::hands::{Actor, Hands};
use super::line::Wire;
use super::others::{self, Others};

/// A process of the world: as much of it as its clients and its operator can reach.
pub struct Process {
    pub number: usize,
    pub store: Store,
    pub orchestrator: Orchestrator,
    runs: Vec<AbortHandle>,
}

/// Makes one more entry for a process, and its way to the database.
pub fn connect(path: &Path) -> (usize, Store) {
    let number = with(|books| {
        books.processes.push(Fate {
            lives: true,
            drains: false,
            stalled: None,
            trouble: Instant::now(),
            claimed: Default::default(),
            kept: Default::default(),
            presence: Default::default(),
            news: Default::default(),
            watches: Default::default(),
        });
        books.processes.len() - 1
    });
    let store = Store::simulated(path, Arc::new(Wire(number))).unwrap();
    (number, store)
}

impl Process {
    /// Starts one more process on the database.
    pub fn start(path: &Path, tasks: &mut JoinSet<()>, catalog: &Arc<Catalog>) -> Self {
        let (number, store) = connect(path);
        with(|books| books.enters(number));
        let clock = Clock {
            now: books::now,
            entropy: books::entropy,
        };
        let config = Config {
            alone: false,
            clock,
            ..Config::default()
        };
        let parts = Parts {
            store: store.clone(),
            vault: Arc::new(Vault::with(&MasterKey::from_bytes([7; 32]))),
            harness: Arc::new(Actor(number)),
            others: Vec::new(),
            provider: Arc::new(Hands(number)),
            client: model::Client::new(model::ClientConfig::default()).unwrap(),
            catalog: catalog.clone(),
            endpoint: Some(endpoint()),
        };
        let orchestrator = Orchestrator::new(parts, config);
        let running = orchestrator.clone();
        let mut runs = vec![tasks.spawn(async move { running.run().await.unwrap() })];
        if with(|books| books.linked) {
            runs.push(tasks.spawn(store.among(Arc::new(Others(number)))));
            for session in with(|books| books.subjects.iter().map(|s| s.id).collect::<Vec<_>>()) {
                runs.push(tasks.spawn(others::watch(number, store.clone(), session)));
            }
        }
        Self {
            number,
            store,
            orchestrator,
            runs,
        }
    }

    /// Ends it between two awaits: nothing of it reaches the database any more.
    pub fn kill(self) {
        with(|books| {
            let fate = &mut books.processes[self.number];
            fate.lives = false;
            fate.presence.killed = Some(tokio::time::Instant::now());
        });
        self.runs.iter().for_each(AbortHandle::abort);
    }

    /// Ends it once it has drained.
    pub fn end(self) {
        with(|books| books.leaves(self.number));
        self.kill();
    }
}

/// Nobody asks it anything.
fn endpoint() -> Endpoint {
    Endpoint {
        dialect: Dialect::AnthropicMessages,
        base_url: BaseUrl::parse("http://127.0.0.1:1").unwrap(),
        key: Secret::new("key".to_owned()),
        key_source: KeySource("the simulation".to_owned()),
        headers: Default::default(),
        model_map: Default::default(),
        origin: Origin::Operator,
    }
}

/// What sessions are made from.
pub struct Ground {
    agent: AgentId,
    environment: EnvironmentId,
}

fn agent(system: &str, leads: bool) -> serde_json::Value {
    let mut agent = json!({"name": "coder", "model": "claude-sonnet-5-5", "system": system});
    if leads {
        agent["multiagent"] = json!({"type": "coordinator", "agents": [{"type": "self"}]});
    }
    agent
}

fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

/// An agent as a session shows it. Its prompt names the session: so its harness knows which it works for.
pub fn snapshot(id: AgentId, session: SessionId, leads: bool) -> Box<RawValue> {
    let agent = agent(&session.to_string(), leads);
    let create: CreateAgent = contract::parse::parse_value(agent).unwrap();
    let definition = create.resolve().unwrap();
    let snapshot: SessionAgent = definition.session_snapshot(id, 1, None).unwrap();
    raw(&snapshot)
}

impl Ground {
    pub async fn lay(store: &Store) -> Self {
        let ground = Self {
            agent: AgentId::from_bits(books::entropy()),
            environment: EnvironmentId::from_bits(books::entropy()),
        };
        let workspace = WorkspaceId::Default;
        let made = store.create_agent(
            workspace,
            ground.agent,
            raw(&agent("", false)),
            books::now(),
        );
        made.await.unwrap();
        let name = "simulated".to_owned();
        let made = store.create_environment(
            workspace,
            ground.environment,
            name,
            raw(&json!({})),
            books::now(),
        );
        made.await.unwrap();
        ground
    }

    /// Makes a session, perhaps with a budget, perhaps with a message to start on.
    pub async fn session(&self, store: &Store) {
        let session = SessionId::from_bits(books::entropy());
        let create: CreateEnvironment = contract::parse::parse_value(json!({"name": "e"})).unwrap();
        let leads = chance(35);
        let initial = chance(50).then(|| crate::world::message("begin"));
        let new = NewSession {
            workspace: WorkspaceId::Default,
            agent_id: self.agent,
            agent_version: 1,
            agent: snapshot(self.agent, session, leads).into(),
            environment_id: self.environment,
            environment: raw(&create.resolve().unwrap()).into(),
            vault_ids: Vec::new(),
            profile: Profile::default(),
            opening: Opening {
                session,
                thread: ThreadId::from_bits(session.bits()),
                agent_name: "coder".to_owned(),
                rules: if leads {
                    crate::team_world::leads()
                } else {
                    crate::world::rules()
                },
                budget: chance(50).then(|| if leads { 5 + below(40) } else { 1 + below(4) }),
                initial: initial.into_iter().collect(),
            },
        };
        let made = store.create_session(new, books::now(), books::entropy());
        made.await.unwrap();
    }

    pub const fn agent(&self) -> AgentId {
        self.agent
    }
}
