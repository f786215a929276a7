//! What the tests of this folder stand on: the real server, a scripted model, and sessions with a ledger each.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::api::{Api, Ground, texts};
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
