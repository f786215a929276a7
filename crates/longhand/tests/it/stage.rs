//! What the tests of this folder stand on: the real server, a scripted model, and sessions with a ledger each.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};
use testkit::api::{Api, Ground, id, texts};
use testkit::ledger::Ledger;
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::script;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Events between the streams and the test; more than any round makes.
const SEEN: usize = 4_096;

/// One session and what it owes.
pub struct Subject {
    pub session: String,
    pub ledger: Ledger,
}

/// The server with its sessions.
pub struct Stage {
    /// The server, unless it was killed just now. First, so that its log is still there when it is dropped.
    pub server: Option<Server>,
    pub launch: Launch,
    pub model: Model,
    pub subjects: Vec<Subject>,
    pub ground: Ground,
}

/// The streams of all subjects, read side by side.
pub struct Watch {
    tasks: JoinSet<()>,
    events: mpsc::Receiver<Seen>,
}

/// An event on a stream.
pub struct Seen {
    pub at: Instant,
    pub subject: usize,
    pub event: Value,
}

/// The server on a new directory, and its model.
pub async fn launch() -> (Launch, Model) {
    let model = Model::start().await.expect("a port of the loopback");
    let launch = Launch::new(env!("CARGO_BIN_EXE_longhand")).expect("a temporary directory");
    (launch.model(&model.base_url()), model)
}

/// The server, whose sandboxes have a network that leads to that address of this host; models are on the loopback. In
/// clear text credentials go too.
pub async fn carried(address: IpAddr) -> (Launch, Model) {
    let (launch, model) = launch().await;
    let reached = format!("{address}/32,127.0.0.0/8");
    let launch = launch
        .environment("LONGHAND_EGRESS_ENABLED", "true")
        .environment("LONGHAND_EGRESS_ALLOW_PRIVATE", &reached)
        .environment("LONGHAND_EGRESS_CLEARTEXT_CREDENTIALS", "true");
    (launch, model)
}

impl Stage {
    /// A server with so many idle sessions.
    pub async fn new(sessions: usize) -> Self {
        let (launch, model) = launch().await;
        Self::on(launch, model, sessions).await
    }

    /// The same, started so.
    pub async fn on(launch: Launch, model: Model, sessions: usize) -> Self {
        let server = launch.start().await;
        let api = server.api();
        let ground = api.ground().await.expect("an agent and an environment");
        let mut stage = Self {
            launch,
            model,
            subjects: Vec::new(),
            server: Some(server),
            ground,
        };
        for _ in 0..sessions {
            stage.add().await;
        }
        stage
    }

    /// One more session; its index.
    pub async fn add(&mut self) -> usize {
        let session = self.api().session(&self.ground).await.expect("a session");
        self.subjects.push(Subject {
            session,
            ledger: Ledger::default(),
        });
        self.subjects.len() - 1
    }

    /// A client of the running server.
    pub fn api(&self) -> Api {
        self.server().api()
    }

    /// The running server.
    pub fn server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("it was started again after the last kill")
    }

    /// A session like the others, with more than an agent and an environment.
    pub async fn session(&self, more: &[(&str, Value)]) -> String {
        let mut body = self.ground.session();
        for (name, value) in more {
            body[name] = value.clone();
        }
        let made = self.api().post("/v1/sessions", &body).await;
        id(&made.expect("a session"))
    }

    /// A vault of that metadata with these credentials; its id, and the path of each.
    pub async fn vault(&self, metadata: Value, credentials: &[Value]) -> (String, Vec<String>) {
        let api = self.api();
        let vault = json!({"display_name": "of a test", "metadata": metadata});
        let vault = id(&api.post("/v1/vaults", &vault).await.expect("a vault"));
        let path = format!("/v1/vaults/{vault}/credentials");
        let mut paths = Vec::new();
        for auth in credentials {
            let made = api.post(&path, &json!({"auth": auth})).await;
            paths.push(format!("{path}/{}", id(&made.expect("a credential"))));
        }
        (vault, paths)
    }

    /// What the agent of a session is told by that command, and the log then.
    pub async fn told(&self, session: &str, token: &str, command: &str) -> (String, Vec<Value>) {
        let steps = json!([script::bash(command), {"text": "heard"}]);
        let message = script::message(token, &steps);
        self.api().send(session, &[message]).await.expect("sent");
        self.heard(session).await
    }

    /// What the agent of a session was told last when its turn is over, and the log then.
    pub async fn heard(&self, session: &str) -> (String, Vec<Value>) {
        let log: Vec<Value> = self.api().idle(session).await;
        let mut results = log.iter().filter(|e| e["type"] == "agent.tool_result");
        let said = texts(results.next_back().expect("the call has a result"));
        (said, log)
    }

    /// Kills the server and waits until it is gone.
    pub async fn kill(&mut self) {
        let server = self
            .server
            .take()
            .expect("it was started again after the last kill");
        server.kill();
        server.ended().await;
    }

    /// Starts it again on the same directory.
    pub async fn restart(&mut self) {
        self.server = Some(self.launch.start().await);
    }

    /// Sends a subject its script; it must be accepted.
    pub async fn play(&mut self, subject: usize, token: &str, steps: &Value) {
        let api = self.api();
        let subject = &mut self.subjects[subject];
        subject.ledger.sent(token);
        let ids = api
            .send(&subject.session, &[script::message(token, steps)])
            .await
            .expect("a send");
        subject.ledger.acknowledged(ids);
    }

    /// Opens every subject's stream.
    pub async fn watch(&self) -> Watch {
        let (seen, events) = mpsc::channel(SEEN);
        let mut tasks = JoinSet::new();
        for (index, subject) in self.subjects.iter().enumerate() {
            let mut stream = self
                .api()
                .stream(&subject.session, false)
                .await
                .expect("a stream");
            let seen = seen.clone();
            tasks.spawn(async move {
                while let Ok(Some(event)) = stream.next().await {
                    let event = Seen {
                        at: Instant::now(),
                        subject: index,
                        event,
                    };
                    if seen.send(event).await.is_err() {
                        return;
                    }
                }
            });
        }
        Watch { tasks, events }
    }

    /// What a subject's workspace says was run, one token a line. It is asked for with one more turn.
    pub async fn ran(&mut self, subject: usize, token: &str) -> Vec<String> {
        let steps =
            json!([script::bash("touch /workspace/ran; cat /workspace/ran"), {"text": "read"}]);
        self.play(subject, token, &steps).await;
        let log = self.api().idle(&self.subjects[subject].session).await;
        let result = log
            .iter()
            .rev()
            .find(|event| event["type"] == "agent.tool_result");
        let result = result.expect("the call that was asked for has a result");
        assert_ne!(
            result["is_error"],
            true,
            "cannot read what was run: {}",
            texts(result)
        );
        texts(result)
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(ToOwned::to_owned)
            .collect()
    }
}

impl Watch {
    /// The next event of any subject; `None` when all streams have ended.
    pub async fn next(&mut self) -> Option<Seen> {
        self.events.recv().await
    }

    /// What else was seen until the streams ended.
    pub async fn rest(mut self) -> Vec<Seen> {
        let mut rest = Vec::new();
        while let Some(seen) =
            testkit::wait::within("streams of a dead server to end", self.events.recv()).await
        {
            rest.push(seen);
        }
        while self.tasks.join_next().await.is_some() {}
        rest
    }
}
