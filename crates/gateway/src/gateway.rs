//! What the edge is made of and what every handler may use. It holds no state of any resource.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::time::Micros;
use egress::audit::Audit;
use egress::host::Carrier;
use model::Catalog;
use sandbox::Keeper;
use store::Store;
use tokio_util::sync::CancellationToken;
use vault::Vault;
use vault::refresh::Refresher;

use crate::cast::{Casts, Settings};
use crate::disk::{Disk, Floor};
use crate::limits::{Limits, PING};
use crate::metrics::Metrics;
use crate::readings;
use crate::shares::Shares;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Requests need neither `anthropic-beta` nor `anthropic-version`, for hand-written clients.
    pub lenient_headers: bool,
    /// What one listener may use.
    pub limits: Limits,
    /// How often a stream says `ping` while it has nothing else to say.
    pub ping: Duration,
    /// Where copies of the database go; none: nobody can ask for one.
    pub backups: Option<PathBuf>,
    /// Events that a stream's reader may lag behind before it is cut.
    pub subscriber_lag: usize,
    /// Origins whose pages may ask, as `https://tools.example`, or `*`; none: no page may.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<dial::Net>,
    /// How much of the disk must stay free; none: nobody looks.
    pub disk: Option<Floor>,
    /// Whether the harness `claude` is installed now; none: this server has none.
    pub claude: Option<Installed>,
}

/// Looks whether a program is there, each time it is asked.
#[derive(Clone)]
pub struct Installed(pub Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Installed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Installed").field(&(self.0)()).finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lenient_headers: false,
            limits: Limits::default(),
            ping: PING,
            backups: None,
            subscriber_lag: store::limits::SUBSCRIBER_LAG,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            disk: None,
            claude: None,
        }
    }
}

/// Where what sandboxes reached is found.
#[derive(Debug, Clone)]
pub enum Egress {
    /// The egress process of a server.
    Process(Carrier),
    /// What one has written at that path: no server runs.
    Left(PathBuf),
}

/// What the edge stands on.
pub struct Parts {
    /// Persistence; runners are woken through it.
    pub store: Store,
    /// Seals secrets and hashes keys.
    pub vault: Arc<Vault>,
    /// Tries OAuth credentials.
    pub refresher: Refresher,
    /// The models that `/v1/models` lists.
    pub catalog: Arc<Catalog>,
    /// The clock.
    pub clock: fn() -> Micros,
    /// Ends readiness and every stream.
    pub shutdown: CancellationToken,
    /// What an operator may set.
    pub config: Config,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
    /// The sandboxes of this host; none: nobody can use one from outside.
    pub sandboxes: Option<Keeper>,
    /// What sandboxes reach; none: they have no network.
    pub egress: Option<Egress>,
    /// Where actions on keys, policies and credentials are recorded; none: nowhere.
    pub control_audit: Option<Arc<Audit>>,
}

/// The edge: hand it to [`crate::router`] and [`crate::control_router`].
pub struct Gateway {
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) refresher: Refresher,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) clock: fn() -> Micros,
    pub(crate) shutdown: CancellationToken,
    pub(crate) config: Config,
    pub(crate) started_at: Micros,
    pub(crate) casts: Casts,
    pub(crate) settings: Settings,
    pub(crate) shares: Arc<Shares>,
    pub(crate) disk: Option<Arc<Disk>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sandboxes: Option<Keeper>,
    pub(crate) egress: Option<Egress>,
    pub(crate) control_audit: Option<Arc<Audit>>,
}

impl Gateway {
    /// Puts the parts together. Does nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            store,
            vault,
            refresher,
            catalog,
            clock,
            shutdown,
            config,
            metrics,
            sandboxes,
            egress,
            control_audit,
        } = parts;
        let shares = Arc::<Shares>::default();
        let disk = config.disk.clone().map(|floor| Arc::new(Disk::new(floor)));
        readings::register(&metrics, &store, &config.limits, &shares, disk.as_ref());
        Arc::new(Self {
            started_at: clock(),
            casts: Casts::default(),
            settings: Settings::default(),
            shares,
            disk,
            metrics,
            sandboxes,
            egress,
            control_audit,
            store,
            vault,
            refresher,
            catalog,
            clock,
            shutdown,
            config,
        })
    }

    pub(crate) fn now(&self) -> Micros {
        (self.clock)()
    }

    /// Fresh random bits.
    pub(crate) fn random(&self) -> u128 {
        store::clock::entropy()
    }

    /// The bits of a fresh id.
    pub(crate) fn id_bits(&self) -> u128 {
        store::clock::id_bits(self.now())
    }

    /// Whether new work is welcome; if not, why.
    pub(crate) async fn ready(&self) -> Result<(), &'static str> {
        if self.shutdown.is_cancelled() {
            return Err("draining\n");
        }
        if self.vault.lacks_next() {
            return Err(
                "the master key is rotated and this server has not got the next one: restart it with that\n",
            );
        }
        match self.store.meta("ready").await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "the store does not answer");
                Err("the store does not answer\n")
            }
        }
    }
}
