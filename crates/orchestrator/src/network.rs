//! What each session's sandbox may reach: its environment's networking under the operator's rules, handed to the
//! egress process when the sandbox is claimed and whenever the store says that something of it changed. It carries
//! nothing; a sandbox of which it knows nothing may reach nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::agent::{McpServer, SessionAgent};
use contract::environment::{Config, EnvironmentDefinition, Networking};
use contract::ids::{EnvironmentId, SessionId};
use egress::host::{Carrier, CarrierError, Owner};
use egress::policy::{AttachedFile, NetworkingFile, PolicyFile};
use sandbox::{Ends, SandboxId};
use store::Store;
use store::feed::Changed;
use store::sessions::Scope;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the policies are made anew of sandboxes where that failed: the store or the egress process did not
/// answer then.
const AGAIN: Duration = Duration::from_secs(1);

/// The networks of this server's sandboxes.
#[derive(Debug)]
pub struct Networks {
    carrier: Carrier,
    store: Store,
    /// What the operator says of every sandbox: rules, mode, and what is lifted out of the always-denied set.
    operator: PolicyFile,
    running: Mutex<HashMap<SandboxId, Running>>,
    /// Changes that were heard of.
    seen: AtomicU64,
}

/// What a sandbox's policy was made from.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// The session's environment; none for one that an operator made.
    environment: Option<EnvironmentId>,
    /// What was made of it is not in force yet.
    is_behind: bool,
}

/// Why nothing is known of what a sandbox may reach.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("a definition in the store cannot be read")]
    Definition(#[from] serde_json::Error),
}

impl Networks {
    /// Networks by what `operator` says of all of them; its networking and what is attached are not read.
    #[must_use]
    pub fn new(carrier: Carrier, store: Store, operator: PolicyFile) -> Self {
        Self {
            carrier,
            store,
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

    /// Puts what changes in force for the sandboxes that run, until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut changes = self.store.changes();
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let touched = tokio::select! {
                () = stop.cancelled() => return,
                _ = again.tick() => self.those(|_, one| one.is_behind),
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
                        // What was missed may have been any of them.
                        Err(RecvError::Lagged(_)) => self.those(|_, _| true),
                        Err(RecvError::Closed) => return,
                    }
                }
            };
            for id in touched {
                self.renew(&id).await;
            }
        }
    }

    fn those(&self, of: impl Fn(&SandboxId, &Running) -> bool) -> Vec<SandboxId> {
        let running = self.running();
        let those = running.iter().filter(|(id, one)| of(id, one));
        those.map(|(id, _)| id.clone()).collect()
    }

    async fn renew(&self, id: &SandboxId) {
        let renewed = match self.policy(id).await {
            Ok((.., policy)) => {
                let set = self.carrier.set_policy(id.as_str(), &policy).await;
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

    /// The policy of that sandbox, whose it is, and the environment that it was made from.
    async fn policy(
        &self,
        id: &SandboxId,
    ) -> Result<(Option<Owner>, Option<EnvironmentId>, PolicyFile), Unknown> {
        let mut policy = self.operator.clone();
        policy.networking = NetworkingFile::Nothing;
        // One that an operator made has no environment: the operator's rules are all that allow it anything.
        let Ok(session) = id.as_str().parse::<SessionId>() else {
            return Ok((None, None, policy));
        };
        let row = self.store.session(Scope::Any, session).await?;
        let current = self
            .store
            .environment(row.workspace, row.environment_id)
            .await;
        let definition = match current {
            Ok(current) => current.body,
            // What the session was made with stands, after it was deleted.
            Err(store::Error::NotFound(_)) => row.environment,
            Err(error) => return Err(error.into()),
        };
        let definition: EnvironmentDefinition = serde_json::from_str(definition.get())?;
        let agent: SessionAgent = serde_json::from_str(row.agent.get())?;
        policy.networking = networking(definition.config);
        let servers = agent.mcp_servers.into_iter();
        policy.attached = AttachedFile {
            mcp_servers: servers.map(|McpServer::Url(server)| server.url).collect(),
            // No session has one yet: to create one with repositories is refused.
            repositories: Vec::new(),
        };
        let owner = Owner {
            session,
            workspace: row.workspace,
        };
        Ok((Some(owner), Some(row.environment_id), policy))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SandboxId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    async fn attach(&self, id: &SandboxId, ends: Ends) -> Result<Option<String>, sandbox::Error> {
        let failed = |source| sandbox::Error::Io {
            doing: format!("find out what sandbox {id} may reach"),
            source,
        };
        let seen = self.seen.load(Ordering::SeqCst);
        let (owner, environment, policy) = self
            .policy(id)
            .await
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let ends = [ends.pid_one, ends.tcp, ends.dns, ends.line];
        let attached = self.carrier.attach(id.as_str(), owner, ends, &policy).await;
        let mut running = self.running();
        running.insert(
            id.clone(),
            Running {
                environment,
                // Something changed meanwhile, perhaps of this one.
                is_behind: self.seen.load(Ordering::SeqCst) != seen,
            },
        );
        drop(running);
        match attached {
            Ok(certificate) => Ok(Some(certificate)),
            Err(CarrierError::Policy(error)) => Err(failed(error)),
            // It runs without a network, which is never more than it may have.
            Err(error) => {
                tracing::error!(sandbox = %id, %error, "a sandbox has no network");
                Ok(None)
            }
        }
    }

    fn gone(&self, id: &SandboxId) {
        self.running().remove(id);
        self.carrier.gone(id.as_str());
    }
}
