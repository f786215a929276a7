//! A gateway over a store in a temporary directory, requests against it, and a runner that can be told
//! what happened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use contract::event::ModelUsage;
use contract::ids::{EventId, SessionId, ThreadId};
use egress::audit::Audit;
use gateway::{Config, Gateway, Parts};
use http_body_util::BodyExt;
use sandbox::Keeper;
use serde_json::{Value, json};
use session::input::ReplyEnd;
use session::{Fact, Input, Pace, ProposedCall, Used};
use store::caps::Caps;
use store::clock;
use store::feed::{Preview, PreviewKind};
use store::runs::Holder;
use store::sessions::{Committed, Scope};
use store::{Options, Store};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use vault::Vault;
use vault::master::MasterKey;
use vault::refresh::Refresher;

pub const BETA: &str = "anthropic-beta";

/// Every beta there is: for tests about something else.
const BETAS: &str = "managed-agents-2026-04-01,agent-memory-2026-07-22,dreaming-2026-04-21,\
                     mcp-tunnels-2026-06-22,user-profiles-2026-08-18,webhooks-2026-10-07,\
                     telemetry-destinations-2026-08-11";

/// One model with a price, and one that takes no system message.
const MODELS: &str = r#"
[[model]]
id = "priced"
display_name = "Priced"
prices = { input = "0.000003", output = "0.000015" }

[[quirks]]
prefix = "deaf"
system_messages = false
"#;

/// Where actions are recorded, in the server's directory.
pub const ACTIONS: &str = "control.db";

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub store: Store,
    pub router: Router,
    pub control: Router,
    /// A key of the default workspace.
    pub key: String,
    pub shutdown: CancellationToken,
    pub sandboxes: Option<Keeper>,
    pub dir: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn lenient() -> Self {
        Self::with(Config {
            lenient_headers: true,
            ..Config::default()
        })
        .await
    }

    pub async fn with(config: Config) -> Self {
        Self::capped(config, Caps::default()).await
    }

    /// With bounds on what a workspace may have.
    pub async fn capped(config: Config, caps: Caps) -> Self {
        Self::whole(config, caps, |_| None, |_| None).await
    }

    /// With an audit that an egress process has left at that path, and a record of actions.
    pub async fn audited(left: std::path::PathBuf) -> Self {
        let left = gateway::Egress::Left(left);
        let caps = Caps::default();
        Self::whole(Config::default(), caps, |_| None, |_| Some(left)).await
    }

    /// With real sandboxes. What a test that is killed leaves ends at once.
    pub async fn with_sandboxes(change: impl FnOnce(&mut sandbox::Settings)) -> Self {
        let mut settings = sandbox::Settings::default();
        change(&mut settings);
        Self::whole(
            Config::default(),
            Caps::default(),
            |dir| {
                let dir = dir.join("sandboxes");
                let mut config = sandbox::Config::beside(&dir);
                config.orphan = Duration::ZERO;
                let local = sandbox::Local::new(dir, config).unwrap();
                let now = || clock::now().0;
                Some(Keeper::new(Arc::new(local), settings, now))
            },
            |_| None,
        )
        .await
    }

    async fn whole(
        config: Config,
        caps: Caps,
        keeper: impl FnOnce(&Path) -> Option<Keeper>,
        reached: impl FnOnce(&Path) -> Option<gateway::Egress>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = keeper(dir.path());
        let options = Options {
            caps,
            ..Options::default()
        };
        let store = Store::open(&dir.path().join("longhand.db"), options).unwrap();
        let shutdown = CancellationToken::new();
        let vault = Arc::new(Vault::with(&MasterKey::from_bytes([7; 32])));
        let settings = vault::refresh::Settings::default();
        let gateway = Gateway::new(Parts {
            store: store.clone(),
            refresher: Refresher::new(store.clone(), vault.clone(), settings).unwrap(),
            vault,
            catalog: Arc::new(model::Catalog::with_operator_file(MODELS).unwrap()),
            clock: clock::now,
            shutdown: shutdown.clone(),
            config,
            metrics: Arc::default(),
            sandboxes: sandboxes.clone(),
            egress: reached(dir.path()),
            control_audit: Some(Arc::new(
                Audit::open(&dir.path().join(ACTIONS), egress::audit::Options::default()).unwrap(),
            )),
        });
        let router = gateway::router(Arc::clone(&gateway));
        let control = gateway::control_router(gateway);
        let mut server = Self {
            store,
            router,
            control,
            key: String::new(),
            shutdown,
            sandboxes,
            dir,
        };
        server.key = server.new_key(json!({"name": "test"})).await;
        server
    }

    /// Makes a key through the control routes.
    pub async fn new_key(&self, request: Value) -> String {
        let answer = self
            .operate(Method::POST, "/v1/x/keys")
            .body(request.to_string())
            .send()
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["key"].as_str().unwrap().to_owned()
    }

    /// A request without any header.
    pub fn bare(&self, method: Method, path: &str) -> Ask {
        Ask::new(self.router.clone(), method, path)
    }

    /// A request with all headers and the test's key.
    pub fn ask(&self, method: Method, path: &str) -> Ask {
        self.bare(method, path)
            .key(&self.key)
            .header(BETA, BETAS)
            .header("anthropic-version", "2026-10-21")
    }

    /// A request on the control socket's router.
    pub fn operate(&self, method: Method, path: &str) -> Ask {
        Ask::new(self.control.clone(), method, path)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path).send().await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path).send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path)
            .body(body.to_string())
            .send()
            .await
    }

    /// Posts and expects an object; returns its id.
    pub async fn create(&self, path: &str, body: Value) -> String {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// An idle session of an agent with the toolset and one custom tool.
    pub async fn session(&self) -> String {
        let agent = self.create("/v1/agents", agent()).await;
        let environment = self.create("/v1/environments", environment()).await;
        self.create(
            "/v1/sessions",
            json!({"agent": agent, "environment_id": environment}),
        )
        .await
    }

    /// Sends one message.
    pub async fn say(&self, session: &str, text: &str) -> Answer {
        let event = json!({"type": "user.message", "content": [{"type": "text", "text": text}]});
        self.post(
            &format!("/v1/sessions/{session}/events"),
            json!({"events": [event]}),
        )
        .await
    }

    /// Takes the open turn of a session, as a runner does.
    pub async fn claim(&self, session: &str) -> Committed {
        let holder = Holder("test".to_owned());
        let (now, entropy) = (clock::now(), clock::entropy());
        self.store
            .claim(session.parse().unwrap(), holder, None, now, entropy)
            .await
            .unwrap()
    }

    /// Reports a model reply to the turn taken by `claimed`.
    pub async fn reply(
        &self,
        claimed: &Committed,
        message: Option<(EventId, &str)>,
        calls: Vec<ProposedCall>,
    ) -> Committed {
        let fact = Fact::Replied {
            span: claimed.state.asking().unwrap(),
            thinking: Vec::new(),
            message: message.map(|(id, text)| (id, vec![text.to_owned()])),
            calls,
            record: serde_json::value::to_raw_value(&json!({})).unwrap(),
            used: Used {
                usage: ModelUsage {
                    input_tokens: 5,
                    output_tokens: 7,
                    ..ModelUsage::default()
                },
                ..Used::default()
            },
            end: ReplyEnd::Complete,
            crowded: false,
        };
        let generation = claimed.state.generation;
        let input = Input::Fact {
            generation,
            thread: claimed.state.primary.id,
            fact: Box::new(fact),
            pace: Pace::Go,
        };
        let (now, entropy) = (clock::now(), clock::entropy());
        self.store
            .submit(Scope::Any, claimed.session, input, now, entropy)
            .await
            .unwrap()
    }

    /// Runs a whole turn: the model says `text`.
    pub async fn turn(&self, session: &str, text: &str) {
        assert_eq!(self.say(session, "go").await.status, 200);
        let claimed = self.claim(session).await;
        let id = EventId::from_bits(clock::id_bits(clock::now()));
        self.reply(&claimed, Some((id, text)), Vec::new()).await;
    }

    /// The primary thread of a session.
    pub async fn thread(&self, session: &str) -> ThreadId {
        let row = self
            .store
            .session(Scope::Any, session.parse().unwrap())
            .await;
        row.unwrap().state.primary.id
    }

    /// Publishes previews of one message: `count` deltas of `bytes` each.
    pub async fn fill_stream(&self, session: &str, count: usize, bytes: usize) {
        let thread = self.thread(session).await;
        let event = EventId::from_bits(clock::id_bits(clock::now()));
        let of = "agent.message";
        let start = json!({"type": "event_start", "event": {"type": of, "id": event}}).to_string();
        let delta = json!({"type": "event_delta", "x": "x".repeat(bytes)}).to_string();
        let session = session.parse().unwrap();
        let preview = |kind, json| Preview {
            thread,
            event,
            of,
            kind,
            json,
        };
        self.store
            .publish_preview(session, preview(PreviewKind::Start, Arc::from(start)));
        let delta: Arc<str> = Arc::from(delta);
        for _ in 0..count {
            let preview = preview(PreviewKind::Delta, Arc::clone(&delta));
            self.store.publish_preview(session, preview);
        }
    }

    /// Everything in the log, as the list shows it.
    pub async fn log(&self, session: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/sessions/{session}/events")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["data"].as_array().unwrap().clone()
    }
}

/// A minimal agent with tools.
pub fn agent() -> Value {
    json!({
        "name": "a", "model": "claude-opus-4-8",
        "tools": [
            {"type": "agent_toolset_20260401"},
            {"type": "custom", "name": "ask_me", "description": "d",
             "input_schema": {"type": "object", "properties": {}}}
        ]
    })
}

/// An environment under a name of its own.
pub fn environment() -> Value {
    json!({"name": format!("e {}", clock::entropy())})
}

pub fn session_id(text: &str) -> SessionId {
    text.parse().unwrap()
}

/// A request being made.
pub struct Ask {
    router: Router,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Ask {
    fn new(router: Router, method: Method, path: &str) -> Self {
        Self {
            router,
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Sets a header, in place of an earlier one of the name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(earlier, _)| earlier != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        if self.headers.iter().all(|(name, _)| name != "content-type") {
            self = self.header("content-type", "application/json");
        }
        self
    }

    /// The response with its body unread: for streams.
    pub async fn open(self) -> axum::response::Response {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = self.body.map_or_else(Body::empty, Body::from);
        let request = request.body(body).unwrap();
        tokio::time::timeout(PATIENCE, self.router.oneshot(request))
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn send(self) -> Answer {
        let (method, path) = (self.method.clone(), self.path.clone());
        let response = self.open().await;
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .unwrap()
            .unwrap();
        let bytes = bytes.to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
        let status = parts.status.as_u16();
        crate::described::check(&method, &path, status, &parts.headers, &body);
        Answer {
            asked: format!("{method} {path}"),
            status,
            headers: parts.headers,
            body,
        }
    }
}

/// An answer that was read.
pub struct Answer {
    pub asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    pub fn code(&self) -> Option<&str> {
        self.body["error"]["details"]["error_code"].as_str()
    }
}

/// `base` with the value at a JSON pointer replaced or added.
pub fn with(base: &Value, pointer: &str, value: Value) -> Value {
    let mut out = base.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    out.pointer_mut(parent).unwrap()[key] = value;
    out
}
