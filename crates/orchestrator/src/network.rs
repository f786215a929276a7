//! What each session's sandbox may reach: its environment's networking under the operator's rules, handed to the
//! egress process when the sandbox is claimed and whenever the store says that something of it changed. It carries
//! nothing; a sandbox of which it knows nothing may reach nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::agent::{McpServer, SessionAgent};
use contract::environment::{Config, EnvironmentDefinition, Networking};
use contract::ids::{EnvironmentId, SessionId, VaultId};
use egress::host::{Carrier, CarrierError, Orders, Owner, RefusedToken};
use egress::inject::CredentialsFile;
use egress::policy::{AttachedFile, NetworkingFile, PolicyFile};
use futures_util::stream::{self, StreamExt as _};
use harness::door;
use model::Dialect;
use sandbox::{Ends, SandboxId, Trusting};
use store::Store;
use store::feed::Changed;
use store::sessions::{Scope, SessionRow};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use vault::Vault;
use vault::refresh::Refresher;

use crate::credentials;
use crate::endpoint;
use crate::renewals;
use crate::templates::{OperatorCredential, Stamp};

/// How often the policies are made anew of sandboxes where that failed: the store or the egress process did not
/// answer then.
const AGAIN: Duration = Duration::from_secs(1);
/// Sandboxes whose policies are made anew at one time.
const AT_ONCE: usize = 16;

/// Refused tokens that are looked after at one time, each for as long as a token endpoint takes; more wait.
const REFRESHES: usize = 16;

/// The networks of this server's sandboxes.
#[derive(Debug)]
pub struct Networks {
    carrier: Carrier,
    store: Store,
    vault: Arc<Vault>,
    refresher: Refresher,
    operator: Operator,
    running: Mutex<HashMap<SandboxId, Running>>,
    /// Changes that were heard of.
    seen: AtomicU64,
}

/// What the operator says of every sandbox.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Rules, mode, and what is lifted out of the always-denied set; its networking, what is attached and rules of
    /// sandboxes are not read.
    pub policy: PolicyFile,
    /// Credentials may go over connections in clear text.
    pub cleartext_credentials: bool,
    /// Credentials that every sandbox uses, whatever its session.
    pub credentials: Vec<OperatorCredential>,
    /// What the operator's default model endpoint speaks, if there is one.
    pub model: Option<Dialect>,
}

/// What a sandbox's policy was made from.
#[derive(Debug, Clone)]
struct Running {
    /// The session's environment; none for one that an operator made.
    environment: Option<EnvironmentId>,
    /// The session's vaults.
    vaults: Vec<VaultId>,
    /// What was made of it is not in force yet.
    is_behind: bool,
    /// Whom its programs trust.
    trusting: Trusting,
}

/// Why nothing is known of what a sandbox may reach.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("a definition in the store cannot be read")]
    Definition(#[from] serde_json::Error),
    #[error(transparent)]
    Credentials(#[from] credentials::Unknown),
    #[error(transparent)]
    Policy(#[from] egress::policy::PolicyError),
}

/// What is made of a sandbox's session.
struct Made {
    owner: Option<Owner>,
    environment: Option<EnvironmentId>,
    vaults: Vec<VaultId>,
    policy: PolicyFile,
    credentials: CredentialsFile,
    variables: Vec<(String, String)>,
}

impl Made {
    fn orders(&self) -> Orders<'_> {
        Orders {
            policy: &self.policy,
            credentials: &self.credentials,
        }
    }
}

impl Networks {
    /// Networks by what `operator` says of all of them.
    #[must_use]
    pub fn new(
        carrier: Carrier,
        store: Store,
        (vault, refresher): (Arc<Vault>, Refresher),
        operator: Operator,
    ) -> Self {
        Self {
            carrier,
            store,
            vault,
            refresher,
            operator,
            running: Mutex::default(),
            seen: AtomicU64::new(0),
        }
    }

    /// The egress process.
    #[must_use]
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Puts what changes in force for the sandboxes that run, until `stop`, and has tokens refreshed that servers refused
    /// to their programs.
    pub async fn keep(&self, mut refused: mpsc::Receiver<RefusedToken>, stop: CancellationToken) {
        let mut changes = self.store.changes();
        let mut refreshing = JoinSet::new();
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stamps = self.stamps();
        loop {
            let touched = tokio::select! {
                () = stop.cancelled() => return,
                Some(one) = refused.recv(), if refreshing.len() < REFRESHES => {
                    let (store, refresher) = (self.store.clone(), self.refresher.clone());
                    refreshing.spawn(renewals::looked_after(store, refresher, one));
                    Vec::new()
                }
                Some(done) = refreshing.join_next() => {
                    if let Ok(one) = done {
                        self.answer(&one).await;
                    }
                    Vec::new()
                }
                _ = again.tick() => {
                    let before = std::mem::replace(&mut stamps, self.stamps());
                    let is_new = before != stamps;
                    self.those(|_, one| is_new || one.is_behind)
                }
                changed = changes.recv() => {
                    self.seen.fetch_add(1, Ordering::SeqCst);
                    match changed {
                        Ok(Changed::Environment(id)) => {
                            self.those(|_, one| one.environment == Some(id))
                        }
                        Ok(Changed::Session(session)) => {
                            let name = session.to_string();
                            self.those(|id, _| id.as_str() == name)
                        }
                        Ok(Changed::Threads(_)) => Vec::new(),
                        Ok(Changed::Vault(id)) => self.those(|_, one| one.vaults.contains(&id)),
                        // What was missed may have been any of them.
                        Ok(Changed::Anything) | Err(RecvError::Lagged(_)) => self.those(|_, _| true),
                        Err(RecvError::Closed) => return,
                    }
                }
            };
            // Several at once: one that takes long to be told whom to trust keeps no other from its policy.
            let each = stream::iter(&touched);
            each.for_each_concurrent(AT_ONCE, |id| self.renew(id)).await;
        }
    }

    /// Puts in force what there is in place of a token that was refused, and says so.
    async fn answer(&self, refused: &RefusedToken) {
        if let Ok(id) = SandboxId::new(refused.sandbox.clone()) {
            self.renew(&id).await;
        }
        // Whoever waits for a process that does not answer gives up by itself.
        let _ = self
            .carrier
            .renewed(&refused.sandbox, refused.credential)
            .await;
    }

    fn those(&self, of: impl Fn(&SandboxId, &Running) -> bool) -> Vec<SandboxId> {
        let running = self.running();
        let those = running.iter().filter(|(id, one)| of(id, one));
        those.map(|(id, _)| id.clone()).collect()
    }

    async fn renew(&self, id: &SandboxId) {
        let renewed = match self.made(id).await {
            Ok(made) => {
                if made.orders().look_into_tls() {
                    self.have_trusted(id).await;
                }
                let set = self.carrier.set_policy(id.as_str(), made.orders()).await;
                set.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match &renewed {
            Ok(()) => tracing::info!(sandbox = %id, "what changed of its policy is in force"),
            // It is tried again.
            Err(error) => {
                tracing::warn!(sandbox = %id, error, "what changed of its policy is not in force");
            }
        }
        if let Some(held) = self.running().get_mut(id) {
            held.is_behind = renewed.is_err();
        }
    }

    /// Has its programs trust its authority, before what looks into TLS is in force. That is in force in any case: those
    /// that cannot be told refuse what they are shown.
    async fn have_trusted(&self, id: &SandboxId) {
        let held = self.running().get(id).cloned();
        let Some(Running { trusting, .. }) = held else {
            return;
        };
        let told = match self.carrier.certificate(id.as_str()).await {
            Ok(certificate) => trusting
                .trust(&certificate)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = told {
            tracing::warn!(sandbox = %id, error, "programs of a sandbox may not trust what its network shows them");
        }
    }

    /// What that sandbox may reach and use, and what that was made from.
    async fn made(&self, id: &SandboxId) -> Result<Made, Unknown> {
        let mut policy = self.operator.policy.clone();
        policy.networking = NetworkingFile::Nothing;
        policy.sandbox_rules = match self.store.sandbox_rules(id.as_str()).await? {
            Some(rules) => serde_json::from_str(rules.body.get())?,
            None => Vec::new(),
        };
        // One that an operator made has no environment: rules are all that allow it anything.
        let Ok(session) = id.as_str().parse::<SessionId>() else {
            return Ok(Made {
                owner: None,
                environment: None,
                vaults: Vec::new(),
                policy,
                credentials: self.with_operators(CredentialsFile::default()),
                variables: Vec::new(),
            });
        };
        let row = self.store.session(Scope::Any, session).await?;
        (policy.networking, policy.attached) = asked(&self.store, &row).await?;
        let owner = Owner {
            session,
            workspace: row.workspace,
        };
        let mut given = credentials::of_session(&self.store, &self.vault, &row).await?;
        if crate::sandboxes::wishes(&row).model {
            self.stand_in(&row, &mut given.variables).await?;
        }
        Ok(Made {
            owner: Some(owner),
            environment: Some(row.environment_id),
            vaults: row.vault_ids,
            policy,
            credentials: self.with_operators(given.file),
            variables: given.variables,
        })
    }

    /// The variables by which programs find the session's model. Where a credential of the session has one of their names,
    /// it stands, and there are none.
    async fn stand_in(
        &self,
        row: &SessionRow,
        variables: &mut Vec<(String, String)>,
    ) -> Result<(), Unknown> {
        let dialect = match endpoint::dialect(&self.store, row).await? {
            Some(own) => own,
            None => self.operator.model,
        };
        let Some(dialect) = dialect else {
            return Ok(());
        };
        let own = door::variables(dialect, &self.vault.stand_in(row.id));
        if !own
            .iter()
            .any(|(name, _)| variables.iter().any(|(taken, _)| taken == name))
        {
            variables.extend(own);
        }
        Ok(())
    }

    /// With what the operator has every sandbox use, and how.
    fn with_operators(&self, mut file: CredentialsFile) -> CredentialsFile {
        file.cleartext = self.operator.cleartext_credentials;
        let operators = self.operator.credentials.iter();
        file.credentials
            .extend(operators.map(|one| one.given(&self.vault)));
        file
    }

    fn stamps(&self) -> Vec<[Stamp; 2]> {
        self.operator
            .credentials
            .iter()
            .map(OperatorCredential::stamp)
            .collect()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SandboxId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session's environment says of its networking, and what of the session that is about.
pub(crate) async fn asked(
    store: &Store,
    row: &SessionRow,
) -> Result<(NetworkingFile, AttachedFile), Unknown> {
    let current = store.environment(row.workspace, row.environment_id).await;
    let definition = match current {
        Ok(current) => current.body,
        // What the session was made with stands, after it was deleted.
        Err(store::Error::NotFound(_)) => row.environment.clone(),
        Err(error) => return Err(error.into()),
    };
    let definition: EnvironmentDefinition = serde_json::from_str(definition.get())?;
    let agent: SessionAgent = serde_json::from_str(row.agent.get())?;
    let servers = agent.mcp_servers.into_iter();
    let attached = AttachedFile {
        mcp_servers: servers.map(|McpServer::Url(server)| server.url).collect(),
        // No session has one yet: to create one with repositories is refused.
        repositories: Vec::new(),
    };
    Ok((networking(definition.config), attached))
}

fn networking(config: Config) -> NetworkingFile {
    match config {
        Config::Cloud(cloud) => match cloud.networking {
            Networking::Unrestricted => NetworkingFile::Unrestricted {},
            Networking::Limited(limited) => NetworkingFile::Limited {
                allowed_hosts: limited.allowed_hosts,
                allow_package_managers: limited.allow_package_managers,
                allow_mcp_servers: limited.allow_mcp_servers,
            },
        },
        // Its sandboxes are elsewhere.
        Config::SelfHosted => NetworkingFile::Nothing,
    }
}

#[async_trait]
impl sandbox::Network for Networks {
    async fn attach(&self, id: &SandboxId, ends: Ends) -> Result<(), sandbox::Error> {
        let failed = |source| sandbox::Error::Io {
            doing: format!("find out what sandbox {id} may reach"),
            source,
        };
        let seen = self.seen.load(Ordering::SeqCst);
        let made = self
            .made(id)
            .await
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let trusting = ends.trusting;
        let ends = [ends.pid_one, ends.tcp, ends.dns, ends.line];
        let attached = self
            .carrier
            .attach(id.as_str(), made.owner, ends, made.orders())
            .await;
        let running = Running {
            environment: made.environment,
            vaults: made.vaults.clone(),
            // It is not carried for yet, or something changed meanwhile, perhaps of this one.
            is_behind: attached.is_err() || self.seen.load(Ordering::SeqCst) != seen,
            trusting,
        };
        self.running().insert(id.clone(), running);
        match attached {
            Ok(_) if made.orders().look_into_tls() => self.have_trusted(id).await,
            Ok(_) => {}
            Err(CarrierError::Policy(error)) => return Err(failed(error)),
            // It runs without a network, which is never more than it may have.
            Err(error) => tracing::error!(sandbox = %id, %error, "a sandbox has no network"),
        }
        Ok(())
    }

    async fn variables(&self, id: &SandboxId) -> Result<Vec<(String, String)>, sandbox::Error> {
        let made = self.made(id).await.map_err(|error| sandbox::Error::Io {
            doing: format!("find out what sandbox {id} may use"),
            source: std::io::Error::other(error),
        })?;
        Ok(made.variables)
    }

    fn gone(&self, id: &SandboxId) {
        self.running().remove(id);
        self.carrier.gone(id.as_str());
    }
}
