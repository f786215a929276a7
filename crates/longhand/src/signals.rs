//! The signals that a server takes over from their default. It does nothing itself but say so in the log.

use std::convert::Infallible;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM. Made once and before anything starts, so that none is lost between two waits.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the two signals over from their default.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take() -> anyhow::Result<Self> {
        let taken = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: taken(SignalKind::interrupt())?,
            terminate: taken(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of either. Cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// SIGHUP, which ends no server: whoever sends it wants something taken anew.
pub struct Hangups {
    hangup: Signal,
    /// There is a certificate, and [`crate::edge::keep_fresh`] takes it anew.
    certificate: bool,
}

impl Hangups {
    /// Takes the signal over from its default, for as long as the process lives.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take(certificate: bool) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        Ok(Self {
            hangup,
            certificate,
        })
    }

    /// Says what each one does. Cancel safe.
    pub async fn answer(&mut self) -> Infallible {
        loop {
            self.hangup.recv().await;
            if self.certificate {
                tracing::info!(
                    "SIGHUP: the certificate is read again; settings are read at the start only"
                );
            } else {
                tracing::info!(
                    "SIGHUP: nothing is read again: there is no certificate, and settings are read at the start only"
                );
            }
        }
    }
}
