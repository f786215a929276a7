//! Owns handing a sandbox's two ways out to whoever carries what it sends. It carries and decides nothing:
//! with nobody who takes them, the sandbox has no network.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;

use super::Shared;
use super::supervisor::Body;
use crate::error::{Doing, Error};
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
}

/// Carries what sandboxes send.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync {
    /// Carries for this sandbox from now on, or takes over what an earlier process carried for it. When this
    /// returns, the sandbox has the network that it is to have, or none: a failure is never a wider one.
    ///
    /// Returns the certificate, as PEM, that the network shows itself by where it looks into TLS: programs of the
    /// sandbox are made to trust it. It need not be the same when the sandbox is taken over.
    ///
    /// # Errors
    /// The sandbox cannot be carried for at all, as when nothing is known of what it may reach; it ends then.
    async fn attach(&self, id: &SandboxId, ends: Ends) -> Result<Option<String>, Error>;

    /// That sandbox has ended, or is left to the next process. Never waits.
    fn gone(&self, id: &SandboxId);
}

/// Gives what leads out of a sandbox to who carries it, if this process has somebody who does.
pub(super) async fn attach(
    shared: &Arc<Shared>,
    id: &SandboxId,
    body: &mut Body,
) -> Result<Option<String>, Error> {
    let (Some(network), Some([tcp, dns])) = (&shared.network, body.ways_out.take()) else {
        return Ok(None);
    };
    let pid_one = body.pid_one.try_clone();
    let pid_one = pid_one.doing(|| format!("hand over the network of sandbox {id}"))?;
    network.attach(id, Ends { pid_one, tcp, dns }).await
}
