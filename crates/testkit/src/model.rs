//! The scripted model of a test, and waiting for what it is asked.

use std::io;
use std::net::SocketAddr;

use scripted::{Running, Scripted};
use serde_json::Value;

use crate::wait;

/// A running scripted model.
#[derive(Debug)]
pub struct Model(Running);

impl Model {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> io::Result<Self> {
        Scripted::start_local().await.map(Self)
    }

    /// What the server is told.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.0.base_url()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.addr()
    }

    /// Opens a gate, for those who wait and those who will.
    pub fn release(&self, gate: &str) {
        self.0.release(gate);
    }

    /// How many requests have come.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.0.stats().requests
    }

    /// The bodies of the last `count` requests, oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Value> {
        let requests = self.0.requests();
        let skipped = requests.len().saturating_sub(count);
        requests
            .into_iter()
            .skip(skipped)
            .map(|request| request.body)
            .collect()
    }

    /// Waits until a model request stands at each of these gates.
    ///
    /// # Panics
    /// They did not come in time.
    pub async fn reached(&self, gates: &[String]) {
        wait::until(&format!("model requests at {gates:?}"), || async {
            let waiting = self.0.stats().waiting;
            gates
                .iter()
                .all(|gate| waiting.contains(gate))
                .then_some(())
        })
        .await;
    }
}
