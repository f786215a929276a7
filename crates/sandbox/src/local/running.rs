//! Owns one running sandbox: its supervisor, its end, and what callers do with it in between.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::Client;
use super::launch::Supervisor;
use super::ranges::Range;
use super::{Live, Shared, Slot};
use crate::error::Error;
use crate::limits::STOP;
use crate::process::{Command, Process};
use crate::provider::{Sandbox, SandboxId, ToolCall};
use hand::wire::Output;

pub(super) struct Running {
    client: Client,
    ended: watch::Receiver<bool>,
    stop: CancellationToken,
    /// The last handle dropped ends the sandbox.
    _guard: DropGuard,
}

impl Running {
    pub(super) fn new(
        client: Client,
        supervisor: Supervisor,
        range: Range,
        shared: &Shared,
        id: SandboxId,
    ) -> Self {
        let stop = CancellationToken::new();
        let (ended_tx, ended) = watch::channel(false);
        let live = Arc::clone(&shared.live);
        let watched = watch_over(supervisor, range, stop.clone(), client.clone());
        shared.tasks.spawn(async move {
            watched.await;
            forget(&live, &id);
            // Nobody may be waiting for it.
            let _ = ended_tx.send(true);
        });
        Self {
            client,
            ended,
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Starts its end without waiting for it.
    pub(super) fn kill(&self) {
        self.stop.cancel();
    }
}

/// Ends the sandbox on `stop`, and says when its last process is gone. The range and, in the
/// supervisor, the lock are held until then.
async fn watch_over(
    mut supervisor: Supervisor,
    range: Range,
    stop: CancellationToken,
    client: Client,
) {
    let report = stop
        .run_until_cancelled(supervisor.report())
        .await
        .flatten();
    client.close();
    tracing::debug!(?report, "sandbox ends");
    let Supervisor { mut child, control } = supervisor;
    // Its end of the control socket closing is what tells the supervisor to kill.
    drop(control);
    if timeout(STOP, child.wait()).await.is_err() {
        // PID 1 has the supervisor's death as its death signal.
        let killed = child.kill().await;
        tracing::warn!(?killed, "a supervisor did not end and was killed");
    }
    drop(range);
}

/// An ended sandbox leaves nothing behind in memory. One that was attached meanwhile stays.
fn forget(live: &Mutex<Live>, id: &SandboxId) {
    let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Slot::Running(running)) = live.get(id)
        && running.upgrade().is_none_or(|running| !running.is_alive())
    {
        live.remove(id);
    }
}

#[async_trait]
impl Sandbox for Running {
    async fn tool(&self, call: ToolCall, cancel: CancellationToken) -> Result<Output, Error> {
        self.client.tool(call, cancel, &self.stop).await
    }

    async fn spawn(&self, command: Command) -> Result<Process, Error> {
        self.client.spawn(command).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.client.ping().await
    }

    async fn stop(&self) -> Result<(), Error> {
        self.kill();
        let mut ended = self.ended.clone();
        // The watcher is given twice `STOP` at most: once to end, once to be killed.
        match timeout(STOP * 2, ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::busy("the sandbox does not die")),
        }
    }

    fn is_alive(&self) -> bool {
        !self.stop.is_cancelled() && self.client.is_open()
    }
}
