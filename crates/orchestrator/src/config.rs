//! What the binary decides of the orchestrator. It is read nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;

/// Settings of an [`crate::Orchestrator`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Turns that run at once; more wait in the store.
    pub turns: usize,
    /// When sandboxes are paused and put to sleep, and how many run at once.
    pub sandboxes: sandbox::Settings,
    /// Whether an orderly end leaves sandboxes, and the calls that run in them, to the next process.
    pub leave_sandboxes: bool,
    /// A directory that all servers of a fleet share: workspaces are exported there when a turn ends, and imported by
    /// the server that takes over from one that is gone.
    pub exports: Option<PathBuf>,
    /// What the operator adds to every session's system prompt.
    pub operator_prompt: Option<String>,
    /// Whether sandboxes have a network beside their own loopback: agents are told.
    pub network: bool,
    /// How long a claim holds unless it is renewed; then anybody may take the turn over.
    pub lease: Duration,
    /// How often the leases of all running turns are renewed, in one commit; none if nothing runs.
    pub renew_every: Duration,
    /// Whether no other process uses the store: then whatever an earlier one held is taken up at the
    /// start, without waiting for the end of its leases. Among several servers ([`store::Store::replica`]) nobody is.
    pub alone: bool,
    /// The time and chance of this server.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            turns: 1_000,
            sandboxes: sandbox::Settings::default(),
            leave_sandboxes: false,
            exports: None,
            operator_prompt: None,
            network: false,
            lease: Duration::from_secs(30),
            renew_every: Duration::from_secs(10),
            alone: true,
            clock: Clock::default(),
        }
    }
}
