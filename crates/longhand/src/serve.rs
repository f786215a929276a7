//! `longhand serve`: puts the parts together, says where it listens, and ends in order.
//!
//! Shutdown, in this order: readiness off and streams ended; no new turns, running ones reach a commit;
//! sandboxes stopped; the listener closed and its answers finished; the store flushed. A second signal
//! ends the process at once: whatever was in flight is settled by the next start.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::egress::audit::Audit;
use anyhow::{Context, bail};
use axum::Router;
use contract::ids::WorkspaceId;
use contract::secret::Secret;
use gateway::{Front, Gateway, Metrics, Tls};
use harness::claude::Claude;
use harness::native::Native;
use model::{Catalog, Endpoint};
use orchestrator::Orchestrator;
use orchestrator::network::Networks;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use sandbox::{Keeper, Provider as _};
use store::Store;
use store::keys::KeyRole;
use store::replica::Replica;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vault::Vault;
use vault::refresh::Refresher;

use crate::config::Config;
use crate::data_dir::{DataDir, Lock};
use crate::database::{self, Place};
use crate::edge;
use crate::egress;
use crate::signals::{Hangups, Signals};
use crate::{isolation, master, provider};

/// Runs the server until it is told to end.
///
/// # Errors
/// It cannot start; the text says what to do.
pub async fn run(config: &Config, data_dir: DataDir) -> anyhow::Result<()> {
    let model = provider::from_environment(&config.model)?;
    if model.is_none() {
        tracing::warn!(
            "no default model: sessions need an LLM vault, or start with ANTHROPIC_API_KEY or OPENAI_API_KEY set"
        );
    }
    let mut signals = Signals::take()?;
    let mut hangups = Hangups::take(config.server.tls_cert.is_some())?;
    let server = Server::start(config, data_dir, model).await?;
    server.first_key().await?;
    println!(
        "{}",
        serde_json::json!({"listening": server.url(), "data_dir": server.data_dir})
    );
    tracing::info!(url = server.url(), "listening");
    tokio::select! {
        () = signals.next() => {}
        never = hangups.answer() => match never {},
    }
    tracing::info!("draining; a second signal ends at once");
    tokio::select! {
        done = server.stop(Duration::from_secs(config.server.drain_seconds)) => done,
        () = signals.next() => bail!("ended by a second signal; turns in flight are settled at the next start"),
    }
}

/// A running server.
pub struct Server {
    url: String,
    data_dir: PathBuf,
    store: Store,
    vault: Arc<Vault>,
    orchestrator: Orchestrator,
    /// What sandboxes reach, if anything.
    networks: Option<Arc<Networks>>,
    leave_sandboxes: bool,
    /// Readiness off, streams ended.
    leaving: CancellationToken,
    /// Listeners closed.
    closed: CancellationToken,
    tasks: TaskTracker,
    _lock: Lock,
}

impl Server {
    /// Starts everything; when it returns, the server answers.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub async fn start(
        config: &Config,
        data_dir: DataDir,
        model: Option<Endpoint>,
    ) -> anyhow::Result<Self> {
        let tls = edge::tls(&config.server)?;
        let lock = data_dir.lock()?;
        guard_memory()?;
        let replica = database::replica(&config.server, &data_dir)?;
        let core = Core::open(config, &data_dir, Some(replica)).await?;
        let client = provider::client(config, core.catalog.clone())?;
        let (tasks, closed) = (TaskTracker::new(), CancellationToken::new());
        let networks = egress::networks(
            &config.egress,
            &data_dir,
            (&core.store, &core.vault, &core.refresher, &core.audit),
            model.as_ref().map(|model| model.dialect),
            (&tasks, closed.clone()),
        )
        .await?;
        let network = networks.clone().map(|it| it as Arc<dyn sandbox::Network>);
        let provider = Arc::new(local_provider(&data_dir, &config.sandbox, network)?);
        isolation::require(&provider, &config.sandbox).await?;
        let orchestrator = Orchestrator::new(
            orchestrator::Parts {
                store: core.store.clone(),
                vault: core.vault.clone(),
                harness: Arc::new(Native::new(client.clone())),
                others: vec![Arc::new(Claude::new(client.clone(), data_dir.programs()?))],
                client,
                provider: provider.clone(),
                catalog: core.catalog.clone(),
                endpoint: model,
            },
            orchestrator::Config {
                operator_prompt: config.prompt.extra.clone(),
                network: networks.is_some() && egress::can_be_had(&provider).await,
                sandboxes: sandbox::Settings {
                    most_of_workspace: config.limits.sandboxes(),
                    ..config.sandbox.keeping()
                },
                leave_sandboxes: config.sandbox.leave_running,
                exports: config.sandbox.exports_there()?,
                ..Default::default()
            },
        );
        let listener = listen(config.server.listen)
            .with_context(|| format!("cannot listen on {}", config.server.listen))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        core.store.reached_at(&url);
        let control = control_socket(&data_dir.join("control.sock"))?;
        let server = Self {
            url,
            data_dir: data_dir.path().to_owned(),
            store: core.store.clone(),
            vault: core.vault.clone(),
            orchestrator,
            networks,
            leave_sandboxes: config.sandbox.leave_running,
            leaving: CancellationToken::new(),
            closed,
            tasks,
            _lock: lock,
        };
        server.spawn(config, &core, (listener, tls), control)?;
        server.tasks.spawn(try_sandboxes(provider));
        Ok(server)
    }

    fn spawn(
        &self,
        config: &Config,
        core: &Core,
        (listener, tls): (TcpListener, Option<Arc<Tls>>),
        control: UnixListener,
    ) -> anyhow::Result<()> {
        let metrics = Arc::new(Metrics::new());
        edge::count_turns(&metrics, &self.orchestrator);
        let sandboxes = self.orchestrator.keeper().clone();
        let carrier = self.networks.as_ref().map(|it| it.carrier().clone());
        let gateway = core.gateway(
            config,
            self.leaving.clone(),
            Arc::clone(&metrics),
            sandboxes,
            carrier.map(gateway::Egress::Process),
        )?;
        let (router, operators) = (
            gateway::router(gateway.clone()),
            gateway::control_router(gateway),
        );
        let (closed, limits) = (self.closed.clone(), config.limits.edge());
        if let Some(tls) = &tls {
            let fresh = edge::keep_fresh(Arc::clone(tls), closed.clone());
            self.tasks.spawn(fresh);
        }
        let front = Front {
            tls,
            metrics: Some(metrics),
        };
        self.tasks.spawn(gateway::serve_edge(
            listener,
            router,
            closed.clone(),
            limits.clone(),
            front,
        ));
        self.tasks
            .spawn(gateway::serve_unix(control, operators, closed, limits));
        let (refresher, stop) = (core.refresher.clone(), self.closed.clone());
        self.tasks.spawn(async move { refresher.run(stop).await });
        self.tasks
            .spawn(master::end_rotation(core.vault.clone(), core.store.clone()));
        let (vault, stop) = (core.vault.clone(), self.closed.clone());
        self.tasks
            .spawn(master::follow(vault, core.store.clone(), stop));
        let orchestrator = self.orchestrator.clone();
        self.tasks.spawn(async move {
            if let Err(error) = orchestrator.run().await {
                tracing::error!(error = %error, "the orchestrator cannot run");
            }
        });
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes an API key in the default workspace and returns it, for the only time.
    ///
    /// # Errors
    /// The store cannot take it.
    pub async fn new_key(&self, name: &str) -> anyhow::Result<Secret> {
        let (name, role) = (name.to_owned(), KeyRole::Workspace);
        let made = self.vault.create_api_key(
            &self.store,
            WorkspaceId::Default,
            name,
            role,
            store::clock::now(),
        );
        Ok(made.await?.1)
    }

    /// Seeds the key of `LONGHAND_API_KEY`; without it, the first start makes one and prints it.
    async fn first_key(&self) -> anyhow::Result<()> {
        if let Some(key) = std::env::var_os("LONGHAND_API_KEY") {
            let key = Secret::new(key.to_string_lossy().trim().to_owned());
            let seeded = self
                .vault
                .seed_api_key(&self.store, &key, store::clock::now())
                .await;
            return seeded.map(|_| ()).context("LONGHAND_API_KEY");
        }
        if self.store.api_keys(None).await?.is_empty() {
            let key = self.new_key("first start").await?;
            eprintln!(
                "API key of workspace wrkspc_default (shown this once): {}",
                key.expose()
            );
        }
        Ok(())
    }

    /// Ends in order.
    ///
    /// # Errors
    /// None today; what could not be finished is logged.
    pub async fn stop(&self, patience: Duration) -> anyhow::Result<()> {
        self.leaving.cancel();
        self.orchestrator.drain(patience).await;
        if let Some(networks) = self.networks.as_ref().filter(|_| !self.leave_sandboxes) {
            networks.carrier().end().await;
        }
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
        Ok(())
    }
}

/// Store, vault and catalog: what a server and an offline command share.
struct Core {
    store: Store,
    vault: Arc<Vault>,
    refresher: Refresher,
    catalog: Arc<Catalog>,
    /// Actions on keys, policies and credentials.
    audit: Arc<Audit>,
    data_dir: PathBuf,
    /// Where copies of the database are made; none if that is somebody else's task.
    backups: Option<PathBuf>,
}

impl Core {
    /// As one of several servers, if it is one.
    async fn open(
        config: &Config,
        data_dir: &DataDir,
        replica: Option<Replica>,
    ) -> anyhow::Result<Self> {
        let (place, mut options) =
            database::place(config.server.database_url.as_deref(), data_dir)?;
        options.caps = config.limits.caps();
        let backups = match &place {
            Place::File(_) => Some(data_dir.directory("backups")?),
            // Copies of a server's databases are its own tools' to make.
            Place::Server(_) => None,
        };
        let store = database::open(place, options, replica).await?;
        let key = master::source(&config.vault, data_dir).await?;
        let vault = Arc::new(Vault::unlock(&store, key).await?);
        let catalog = match &config.model.catalog {
            None => Catalog::embedded(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read `model.catalog` {}", path.display()))?;
                Catalog::with_operator_file(&text)
                    .with_context(|| format!("`model.catalog` {}", path.display()))?
            }
        };
        let refresher = master::refresher(config, &store, &vault)?;
        Ok(Self {
            store,
            vault,
            refresher,
            catalog: Arc::new(catalog),
            audit: Arc::new(egress::control_audit(data_dir)?),
            data_dir: data_dir.path().to_owned(),
            backups,
        })
    }

    fn gateway(
        &self,
        config: &Config,
        leaving: CancellationToken,
        metrics: Arc<Metrics>,
        sandboxes: Keeper,
        egress: Option<gateway::Egress>,
    ) -> anyhow::Result<Arc<Gateway>> {
        Ok(Gateway::new(gateway::Parts {
            store: self.store.clone(),
            vault: self.vault.clone(),
            refresher: self.refresher.clone(),
            catalog: self.catalog.clone(),
            clock: store::clock::now,
            shutdown: leaving,
            config: gateway::Config {
                backups: self.backups.clone(),
                ..edge::config(config, &self.data_dir)?
            },
            metrics,
            sandboxes: Some(sandboxes),
            egress,
            control_audit: Some(Arc::clone(&self.audit)),
        }))
    }
}

/// The operators' routes without a server; the caller holds the data directory's lock.
pub struct Offline {
    /// The routes.
    pub router: Router,
    store: Store,
    sandboxes: Keeper,
    provider: sandbox::Local,
}

impl Offline {
    /// Stops what was started and flushes what was written.
    pub async fn close(self) {
        self.sandboxes
            .stop_all("the command that used it ended")
            .await;
        self.provider.shutdown().await;
        self.store.close().await;
    }
}

/// Opens the data directory for one command.
///
/// # Errors
/// Whatever keeps it from opening.
pub async fn offline(config: &Config, data_dir: &DataDir) -> anyhow::Result<Offline> {
    let core = Core::open(config, data_dir, None).await?;
    // Without a server nobody carries: what it starts has no network.
    let provider = local_provider(data_dir, &config.sandbox, None)?;
    let now = || store::clock::now().0;
    let sandboxes = Keeper::new(Arc::new(provider.clone()), config.sandbox.keeping(), now);
    let leaving = CancellationToken::new();
    let left = egress::left(data_dir);
    let gateway = core.gateway(config, leaving, Arc::default(), sandboxes.clone(), left)?;
    Ok(Offline {
        router: gateway::control_router(gateway),
        store: core.store,
        sandboxes,
        provider,
    })
}

/// Tries the sandboxes once, beside everything else: a host that cannot run them is told of before the
/// first tool call, and that call need not wait for the template.
async fn try_sandboxes(provider: Arc<sandbox::Local>) {
    let report = provider.probe().await;
    for lacking in report.findings.iter().filter(|f| f.required && !f.ok) {
        tracing::error!(
            what = lacking.what,
            detail = lacking.detail,
            mend = lacking.mend,
            "sandboxes cannot run here"
        );
    }
    if report.can_run()
        && let Err(error) = provider.warm_up().await
    {
        tracing::error!(%error, "no sandboxes wait for their first use");
    }
}

/// The sandboxes of this machine.
///
/// # Errors
/// Its directories cannot be made, or `[sandbox]` allows too little.
pub fn local_provider(
    data_dir: &DataDir,
    settings: &crate::config::Sandbox,
    network: Option<Arc<dyn sandbox::Network>>,
) -> anyhow::Result<sandbox::Local> {
    let dir = data_dir.join("sandboxes");
    let mut config = sandbox::Config::beside(&dir);
    config.allowance = settings.allowance()?;
    config.memory_together = settings.memory_together_mib.saturating_mul(1 << 20);
    config.volume_bytes = settings.volume_mib.saturating_mul(1 << 20);
    config.layers = sandbox::Shares {
        one: settings.layers_mib.saturating_mul(1 << 20),
        all: settings.layers_together_mib.saturating_mul(1 << 20),
    };
    config.disk_reserve = settings.disk_reserve_mib.saturating_mul(1 << 20);
    config.orphan = Duration::from_secs(settings.orphan_seconds);
    config.network = network;
    config.programs = Some(data_dir.programs()?);
    config.warm = settings.warm;
    config.template = settings.template()?;
    config.provider = settings.provider()?;
    config.gvisor = settings.gvisor();
    config.own_kernels_only = settings.level()? == sandbox::Level::Kernel;
    sandbox::Local::new(dir, config).context("the sandbox provider cannot start")
}

/// A process that holds secrets leaves no core and lets nobody trace it. The limit is one byte, not none:
/// zero still pipes a dump to a handler, of this process's children too (core(5)).
pub fn guard_memory() -> anyhow::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    rustix::process::setrlimit(Resource::Core, none)?;
    Ok(())
}

/// Connections that may wait to be accepted. With the usual 128, a thousand clients that come at once are told
/// nothing, and try again a second later.
const BACKLOG: u32 = 4_096;

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restart does not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn control_socket(path: &Path) -> anyhow::Result<UnixListener> {
    // A socket that a killed server left; the lock says that nobody listens on it.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot make the control socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
