//! What each session's sandbox may reach: its environment's networking under the operator's rules, handed to the
//! egress process when the sandbox is claimed and whenever the environment changes. It carries nothing; a sandbox
//! of which it knows nothing may reach nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::agent::{McpServer, SessionAgent};
use contract::environment::{Config, EnvironmentDefinition, Networking};
use contract::ids::{EnvironmentId, SessionId, WorkspaceId};
use egress::host::{Carrier, CarrierError};
use egress::policy::{AttachedFile, NetworkingFile, PolicyFile};
use sandbox::{Ends, SandboxId};
use store::Store;
use store::sessions::Scope;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the environments of running sandboxes are looked at for changes.
const LOOK: Duration = Duration::from_secs(1);

/// The networks of this server's sandboxes.
#[derive(Debug)]
pub struct Networks {
    carrier: Carrier,
    store: Store,
    /// What the operator says of every sandbox: rules, mode, and what is lifted out of the always-denied set.
    operator: PolicyFile,
    running: Mutex<HashMap<SandboxId, Option<Of>>>,
}

/// The environment that a sandbox's policy was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    workspace: WorkspaceId,
    environment: EnvironmentId,
    /// How often it had changed; 0 for the definition that the session was made with, after it was deleted.
    revision: u32,
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
        }
    }

    /// The egress process.
    #[must_use]
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Puts changed environments in force for the sandboxes that run, until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => self.look().await,
            }
        }
    }

    /// One question for each environment of which something runs.
    async fn look(&self) {
        let mut known: BTreeMap<(WorkspaceId, EnvironmentId), u32> = BTreeMap::new();
        let running: Vec<_> = {
            let running = self.running();
            let of = running
                .iter()
                .filter_map(|(id, of)| Some((id.clone(), (*of)?)));
            of.collect()
        };
        for (id, of) in running {
            let key = (of.workspace, of.environment);
            let revision = match known.get(&key) {
                Some(revision) => *revision,
                None => {
                    let row = self.store.environment(key.0, key.1).await;
                    // One that is deleted, or cannot be read now, changes nothing.
                    let revision = row.map_or(of.revision, |row| row.revision);
                    known.insert(key, revision);
                    revision
                }
            };
            if revision != of.revision {
                self.renew(&id).await;
            }
        }
    }

    async fn renew(&self, id: &SandboxId) {
        let renewed = match self.policy(id).await {
            Ok((_, of, policy)) => match self.carrier.set_policy(id.as_str(), &policy).await {
                Ok(()) => Ok(of),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        match renewed {
            Ok(of) => {
                tracing::info!(sandbox = %id, "a changed environment is in force");
                if let Some(held) = self.running().get_mut(id) {
                    *held = of;
                }
            }
            // It is looked at again.
            Err(error) => {
                tracing::warn!(sandbox = %id, error, "a changed environment is not in force")
            }
        }
    }

    /// The policy of that sandbox, whose session it is, and what it was made from.
    async fn policy(
        &self,
        id: &SandboxId,
    ) -> Result<(Option<SessionId>, Option<Of>, PolicyFile), Unknown> {
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
        let (definition, revision) = match current {
            Ok(current) => (current.body, current.revision),
            Err(store::Error::NotFound(_)) => (row.environment, 0),
            Err(error) => return Err(error.into()),
        };
        let definition: EnvironmentDefinition = serde_json::from_str(definition.get())?;
        let agent: SessionAgent = serde_json::from_str(row.agent.get())?;
        policy.networking = networking(definition.config);
        let servers = agent.mcp_servers.into_iter();
        policy.attached = AttachedFile {
            mcp_servers: servers.map(|McpServer::Url(server)| server.url).collect(),
            repositories: Vec::new(),
        };
        let of = Of {
            workspace: row.workspace,
            environment: row.environment_id,
            revision,
        };
        Ok((Some(session), Some(of), policy))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<SandboxId, Option<Of>>> {
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
        let (session, of, policy) = self
            .policy(id)
            .await
            .map_err(|error| failed(std::io::Error::other(error)))?;
        // Before it is asked for: a change that comes meanwhile is seen by the next look.
        self.running().insert(id.clone(), of);
        let ends = [ends.pid_one, ends.tcp, ends.dns];
        match self
            .carrier
            .attach(id.as_str(), session, ends, &policy)
            .await
        {
            Ok(certificate) => Ok(Some(certificate)),
            Err(CarrierError::Policy(error)) => Err(failed(error)),
            // It runs without a network, which is never more than it may have.
            Err(error @ (CarrierError::Silent | CarrierError::Refused(_))) => {
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
