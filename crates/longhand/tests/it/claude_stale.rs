//! A server that stands still for so long that another goes on with its turn, and then moves again: what its claude and
//! its model say to it comes too late, and nothing of it counts.

use std::path::Path;

use serde_json::{Value, json};
use testkit::api::{Api, id, texts};
use testkit::cluster::Cluster;
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::{inside, script, wait};

use crate::claude::{CLAUDE, LONG, bash, install, of, reached, rests, session_of};
use crate::fleet;

/// Two servers on one database, each with claude.
struct Pair {
    servers: Vec<Server>,
    launches: Vec<Launch>,
    model: Model,
    _cluster: Cluster,
    _home: tempfile::TempDir,
}

impl Pair {
    async fn new() -> Self {
        let home = tempfile::Builder::new().prefix("lhpg").tempdir().unwrap();
        let cluster = Cluster::new(&home.path().join("c"));
        let model = Model::start().await.unwrap();
        let (mut servers, mut launches) = (Vec::new(), Vec::new());
        for name in ["r0", "r1"] {
            let launch = fleet::launch(name, &cluster.url(), &model);
            install(launch.data_dir()).await;
            servers.push(launch.start().await);
            launches.push(launch);
        }
        Self {
            servers,
            launches,
            model,
            _cluster: cluster,
            _home: home,
        }
    }

    fn api(&self, server: usize) -> Api {
        self.servers[server].api()
    }

    fn home(&self, server: usize) -> &Path {
        self.launches[server].data_dir()
    }

    /// Whether a claude runs in a sandbox of that server: what is mounted there comes from below its directory.
    fn has_claude(&self, server: usize) -> bool {
        let above = self.home(server).parent().unwrap().file_name();
        let name = above.unwrap().to_str().unwrap();
        !inside::processes(name, CLAUDE).is_empty()
    }

    /// Which of them has a claude.
    async fn runner(&self) -> usize {
        wait::until("a claude to run", || async {
            (0..2).find(|server| self.has_claude(*server))
        })
        .await
    }

    /// Sets the one that stood still going, and returns when it has given up what it was at.
    async fn moves_again(&self, server: usize, session: &str, log: &[Value]) {
        self.servers[server].thaw();
        wait::until("its claude to end", || async {
            (!self.has_claude(server)).then_some(())
        })
        .await;
        wait::until("it says why", || async {
            let said = self.servers[server].tail();
            (said.contains("run put down") && said.contains(session)).then_some(())
        })
        .await;
        for n in 0..2 {
            assert_eq!(self.api(n).events(session).await.unwrap(), log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_a_server_that_stood_still_comes_too_late_and_counts_for_nothing() {
    let pair = Pair::new().await;
    let body = session_of(&pair.api(0), &pair.model.base_url(), "always_allow").await;
    let session = id(&pair.api(0).post("/v1/sessions", &body).await.unwrap());
    let play = async |steps: &Value| {
        let message = script::message("turn", steps);
        pair.api(0).send(&session, &[message]).await.unwrap();
    };

    // What a tool said.
    play(&json!([bash(LONG), {"text": "told without it"}])).await;
    let old = pair.runner().await;
    let workspace = pair
        .home(old)
        .join("sandboxes")
        .join(&session)
        .join("workspace");
    reached(&workspace.join("begun")).await;
    pair.servers[old].freeze();
    let new = 1 - old;
    let log = pair.api(new).idle(&session).await;
    assert_eq!(rests(&log), "end_turn");
    let results = of(&log, "agent.tool_result");
    assert_eq!((results.len(), &results[0]["is_error"]), (1, &json!(true)));
    let binding = format!("/v1/x/sessions/{session}/binding");
    let placed = pair.api(new).get(&binding).await.unwrap()["harness_process"].clone();
    assert_eq!(placed, "rebuilt");
    // It is over, and its server hears so when it moves again.
    std::fs::write(workspace.join("go"), "").unwrap();
    pair.moves_again(old, &session, &log).await;

    // What the model said.
    let (old, new) = (new, old);
    let gate = format!("speaks-{session}");
    play(&json!([{"text": "said once", "wait": gate}])).await;
    pair.model.reached(std::slice::from_ref(&gate)).await;
    pair.servers[old].freeze();
    pair.model.release(&gate);
    let log = pair.api(new).idle(&session).await;
    let said = of(&log, "agent.message");
    let said = said.iter().filter(|one| texts(one) == "said once");
    assert_eq!((rests(&log), said.count()), ("end_turn", 1));
    pair.moves_again(old, &session, &log).await;
}
