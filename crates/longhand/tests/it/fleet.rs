//! Several servers on one database, each with a way of its own to it, for the tests of this folder.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use testkit::api::Api;
use testkit::cable::Cable;
use testkit::cluster::Cluster;
use testkit::ledger::Ledger;
use testkit::model::Model;
use testkit::process::{Launch, Server};
use testkit::{script, wait};

/// 32 bytes in hexadecimal: they must all have the same.
pub const MASTER_KEY: &str = "5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d5f1d";

/// A server of that name on the database of that URL, not started, with a directory of its own.
pub fn launch(name: &str, url: &str, model: &Model) -> Launch {
    let launch = Launch::new(env!("CARGO_BIN_EXE_longhand")).expect("a temporary directory");
    launch
        .model(&model.base_url())
        .environment("LONGHAND_SERVER_DATABASE_URL", url)
        .environment("LONGHAND_SERVER_REPLICA", name)
        .environment("LONGHAND_EGRESS_ENABLED", "false")
        .environment("LONGHAND_MASTER_KEY", MASTER_KEY)
        .environment("LONGHAND_MASTER_KEY_NEXT", &MASTER_KEY.replace('5', "7"))
}

/// Servers on one database.
pub struct Fleet {
    pub servers: Vec<Option<Server>>,
    pub launches: Vec<Launch>,
    pub model: Model,
    /// The way of each to the database.
    pub cables: Vec<Cable>,
    pub cluster: Cluster,
    /// How they are reached, for clients beside the test: each has another port after a restart.
    pub apis: Arc<Mutex<Vec<Api>>>,
    home: tempfile::TempDir,
}

impl Fleet {
    /// So many servers, named `r0` and so on.
    pub async fn new(servers: usize) -> Self {
        Self::with(servers, |_, launch| launch).await
    }

    /// The same, each launched as `change` has it.
    pub async fn with(servers: usize, change: impl Fn(usize, Launch) -> Launch) -> Self {
        let home = tempfile::Builder::new().prefix("lhpg").tempdir();
        let home = home.expect("a directory");
        let cluster = Cluster::new(&home.path().join("c"));
        let model = Model::start().await.expect("a port of the loopback");
        let mut fleet = Self {
            servers: Vec::new(),
            launches: Vec::new(),
            model,
            cables: Vec::new(),
            cluster,
            apis: Arc::default(),
            home,
        };
        for n in 0..servers {
            let name = format!("r{n}");
            let way = fleet.home.path().join(&name);
            let cable = Cable::new(&way, fleet.cluster.home()).expect("a socket");
            let launch = change(n, fleet.launch_on(&name, &cable.url()));
            let server = launch.start().await;
            fleet.apis().push(server.api());
            fleet.servers.push(Some(server));
            fleet.launches.push(launch);
            fleet.cables.push(cable);
        }
        fleet.tell();
        fleet
    }

    /// Where everything of it lies.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where they are reached, for programs beside the test.
    pub fn addresses(&self) -> PathBuf {
        self.home.path().join("addresses")
    }

    fn tell(&self) {
        let all = self
            .servers
            .iter()
            .enumerate()
            .map(|(n, server)| match server {
                Some(server) => format!("http://{}", server.address()),
                // Nobody listens there.
                None => format!("http://127.0.0.1:{}", n + 1),
            });
        let new = self.home.path().join("addresses.new");
        std::fs::write(&new, json!(all.collect::<Vec<_>>()).to_string()).expect("a file");
        std::fs::rename(new, self.addresses()).expect("renamed");
    }

    /// A server of that name on the database of that URL, not started, with a directory of its own.
    pub fn launch_on(&self, name: &str, url: &str) -> Launch {
        launch(name, url, &self.model)
    }

    pub fn server(&self, n: usize) -> &Server {
        self.servers[n].as_ref().expect("it runs")
    }

    pub fn api(&self, n: usize) -> Api {
        self.server(n).api()
    }

    pub async fn kill(&mut self, n: usize) {
        let server = self.servers[n].take().expect("it runs");
        server.kill();
        server.ended().await;
    }

    pub async fn restart(&mut self, n: usize) {
        let server = self.launches[n].start().await;
        self.apis()[n] = server.api();
        self.servers[n] = Some(server);
        self.tell();
    }

    pub fn apis(&self) -> MutexGuard<'_, Vec<Api>> {
        self.apis.lock().expect("nobody panicked")
    }

    /// The server that runs the session.
    pub async fn runner(&self, of: &Api, session: &str) -> usize {
        let names = wait::until("the session to have a runner", || async {
            let body = of
                .get(&format!("/v1/x/sessions/{session}/binding"))
                .await
                .ok()?;
            let runner = body["binding"]["runner"]
                .as_str()
                .or(body["runner"].as_str())?;
            let sql = format!("SELECT name FROM replicas WHERE holder = '{runner}'");
            let name = self.cluster.sql(&sql);
            name.trim().strip_prefix('r')?.parse().ok()
        });
        names.await
    }
}

/// One message that was acknowledged.
pub async fn play(api: &Api, session: &str, ledger: &mut Ledger, token: &str, steps: &Value) {
    ledger.sent(token);
    let ids = api.send(session, &[script::message(token, steps)]).await;
    ledger.acknowledged(ids.expect("sent"));
}
