//! Owns handing a sandbox's two ways out to whoever carries what it sends. It carries and decides nothing:
//! with nobody who takes them, the sandbox has no network.

use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use jail::plan::{Failure, Steering};
use tokio::process::Command;
use tokio::time::timeout;

use super::environment::check_env;
use super::supervisor::Body;
use super::trust::Trusting;
use super::{Local, Shared};
use crate::error::{Doing, Error};
use crate::limits::START;
use crate::provider::SandboxId;

/// What leads out of one sandbox. All of it stays open until the sandbox has ended, whoever holds it.
#[derive(Debug)]
pub struct Ends {
    /// Its PID 1: readable when nothing of the sandbox runs any more.
    pub pid_one: OwnedFd,
    /// A listener to which every TCP connection comes that is not to the sandbox's own loopback; the address of
    /// what it accepts is the one that was asked for.
    pub tcp: OwnedFd,
    /// An IPv6 socket to which every datagram to port 53 comes, IPv4 ones as mapped.
    pub dns: OwnedFd,
    /// Over which who carries says so (`jail::control::Carries`): while nobody has, connections are reset.
    pub line: OwnedFd,
    /// Whom its programs trust.
    pub trusting: Trusting,
}

/// Carries what sandboxes send.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync {
    /// Carries for this sandbox from now on, or takes over what an earlier process carried for it. When this
    /// returns, the sandbox has the network that it is to have, or none: a failure is never a wider one.
    ///
    /// Where it has to look into TLS, it has programs of the sandbox trust its certificate ([`Ends::trusting`]), now or
    /// when that begins. The certificate need not be the same when the sandbox is taken over.
    ///
    /// # Errors
    /// The sandbox cannot be carried for at all, as when nothing is known of what it may reach; it ends then.
    async fn attach(&self, id: &SandboxId, ends: Ends) -> Result<(), Error>;

    /// Variables that programs of this sandbox find in their environment, besides those of every sandbox: none of
    /// them a secret.
    ///
    /// # Errors
    /// Nothing is known of it; it ends then.
    async fn variables(&self, _id: &SandboxId) -> Result<Vec<(String, String)>, Error> {
        Ok(Vec::new())
    }

    /// That sandbox has ended, or is left to the next process. Never waits.
    fn gone(&self, id: &SandboxId);
}

/// Gives what leads out of a sandbox to who carries it, if this process has somebody who does.
pub(super) async fn attach(
    shared: &Arc<Shared>,
    id: &SandboxId,
    body: &mut Body,
    trusting: &Trusting,
) -> Result<(), Error> {
    if shared.network.is_some() && body.live.network.is_none() {
        tracing::warn!(
            sandbox = %id,
            "a sandbox has no network: this host can make none; `longhand doctor` says why"
        );
    }
    let (Some(network), Some([tcp, dns, line])) = (&shared.network, body.ways_out.take()) else {
        return Ok(());
    };
    let pid_one = body.pid_one.try_clone();
    let pid_one = pid_one.doing(|| format!("hand over the network of sandbox {id}"))?;
    let ends = Ends {
        pid_one,
        tcp,
        dns,
        line,
        trusting: trusting.clone(),
    };
    network.attach(id, ends).await
}

/// Has the programs of a sandbox find the variables that its network has for them.
pub(super) async fn give_variables(
    shared: &Arc<Shared>,
    id: &SandboxId,
    trusting: &Trusting,
) -> Result<(), Error> {
    let Some(network) = &shared.network else {
        return Ok(());
    };
    let env = network.variables(id).await?;
    check_env(&env)?;
    trusting.give(env).await
}

/// The same for a sandbox that runs already. It goes on with what it had, if it must.
pub(super) async fn renew_variables(shared: &Arc<Shared>, id: &SandboxId, trusting: &Trusting) {
    if let Err(error) = give_variables(shared, id, trusting).await {
        tracing::warn!(sandbox = %id, %error, "a sandbox keeps the variables that it had");
    }
}

impl Local {
    /// Whether sandboxes of this host can have a network, by making one and throwing it away; and by what means.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the step that failed and what mends it, as where both bpf(2) and rules of
    /// nf_tables are refused.
    pub async fn try_network(&self) -> Result<Steering, Error> {
        let refused = |step: &str, errno: i32, hint: &str| Error::Unsupported {
            step: step.to_owned(),
            errno,
            hint: hint.to_owned(),
        };
        let step = "make the sandbox's network";
        let shared = Arc::clone(&self.0);
        let helper = tokio::task::spawn_blocking(move || shared.helper()).await;
        let helper = helper.map_err(|_| Error::Gone)??;
        let mut trial = Command::new(format!("/proc/self/fd/{}", helper.as_raw_fd()));
        let role = if self.0.own_ids {
            "network"
        } else {
            "network-of-user"
        };
        trial.arg(role).env_clear().kill_on_drop(true);
        trial.stdin(Stdio::null()).stderr(Stdio::null());
        let Ok(tried) = timeout(START, trial.output()).await else {
            return Err(refused(
                step,
                0,
                "no answer in time: is the host overloaded?",
            ));
        };
        let tried = tried.doing(|| "try the network of sandboxes".to_owned())?;
        let silent = |_| refused(step, 0, "the helper ended without a word");
        if tried.status.success() {
            return serde_json::from_slice(&tried.stdout).map_err(silent);
        }
        let failure: Failure = serde_json::from_slice(&tried.stdout).map_err(silent)?;
        let Failure { step, errno, hint } = failure;
        Err(Error::Unsupported { step, errno, hint })
    }
}
