//! Owns the end of a sandbox: who brings it about, what its supervisor says of it, and what is left to do when that
//! was killed. It starts nothing.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jail::plan::Report;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::Client;
use super::dirs::remove_socket;
use super::freezer::Freezer;
use super::groups::remove_all;
use super::ranges::Range;
use super::supervisor::{Body, Supervisor, ended};
use super::{Live, Shared, Slot};
use crate::error::Error;
use crate::limits::STOP;
use crate::provider::{Sandbox, SandboxId};

#[cfg(test)]
mod tests;

/// How a sandbox is ended, also by who has no handle of it any more.
#[derive(Clone)]
pub(super) struct End {
    stop: CancellationToken,
    ended: watch::Receiver<Option<Ended>>,
}

/// What is known of a sandbox that has ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ended {
    /// How many of its processes the kernel ended for want of memory, from first to last.
    pub(super) oom_kills: u64,
    /// Whether its PID 1 was ended by a signal.
    pub(super) by_signal: bool,
    /// Whether its supervisor has removed all that it had on the host, its files left out.
    pub(super) whole: bool,
}

impl End {
    /// Has somebody look after the sandbox until it has ended and nothing of it is left on the host.
    pub(super) fn look_after(
        supervisor: Supervisor,
        body: Body,
        range: Range,
        client: Client,
        shared: &Shared,
        id: SandboxId,
    ) -> Self {
        let (tx, ended) = watch::channel(None);
        let stop = CancellationToken::new();
        let leaving = watch_over(supervisor, body, stop.clone(), client);
        let (live, network) = (shared.live.clone(), shared.network.clone());
        let dir = shared.dirs.path(&id);
        shared.tasks.spawn(async move {
            let leaving = leaving.await;
            let ended = leaving.ended;
            // Before anything of that name can start again.
            if let Some(network) = network {
                network.gone(&id);
            }
            let tell = || {
                forget(&live, &id);
                // Nobody may be waiting for it.
                let _ = tx.send(Some(ended));
            };
            if ended.whole {
                tell();
                leaving.gone(dir).await;
            } else {
                leaving.gone(dir).await;
                tell();
            }
            drop(range);
        });
        Self { stop, ended }
    }

    /// Starts its end without waiting for it.
    pub(super) fn begin(&self) {
        self.stop.cancel();
    }

    /// Whether somebody wants it to end.
    pub(super) fn has_begun(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Starts its end when dropped.
    pub(super) fn guard(&self) -> DropGuard {
        self.stop.clone().drop_guard()
    }

    /// How it ended, if it has.
    pub(super) fn known(&self) -> Option<Ended> {
        *self.ended.borrow()
    }

    /// How it ended; `None` if it has not after so long.
    pub(super) async fn wait(&self, most: Duration) -> Option<Ended> {
        let mut ended = self.ended.clone();
        let waited = timeout(most, ended.wait_for(Option::is_some)).await;
        let ended = waited.ok()?;
        // Whoever looked after it can say nothing more only when the process ends.
        Some(ended.ok().and_then(|ended| *ended).unwrap_or_default())
    }

    /// End it, and returns when no process of it is left.
    pub(super) async fn end(&self) -> Result<Ended, Error> {
        self.begin();
        // The watcher is given twice `STOP` at most: once to end, once to be killed.
        let ended = self.wait(STOP * 2).await;
        ended.ok_or_else(|| Error::busy("the sandbox does not die"))
    }
}

/// A sandbox on its way out: no process of it is left, unless it is left to the next server.
struct Leaving {
    ended: Ended,
    supervisor: Supervisor,
    body: Body,
}

/// End the sandbox on `stop`, or when nothing more can be said to it, and returns when its last process is gone,
/// or when it is left to the next server.
async fn watch_over(
    mut supervisor: Supervisor,
    body: Body,
    stop: CancellationToken,
    client: Client,
) -> Leaving {
    let mut report = tokio::select! {
        () = stop.cancelled() => None,
        // A hand that was taken over does not end by itself.
        () = client.ended() => None,
        report = supervisor.report() => report,
    };
    client.close();
    let mut ended = Ended::default();
    if !supervisor.is_left() {
        supervisor.end();
        if report.is_none() {
            report = timeout(STOP, supervisor.report()).await.ok().flatten();
        }
        tracing::debug!(?report, "sandbox ends");
        ended = match report {
            Some((
                Report::Ended {
                    oom_kills, signal, ..
                },
                _,
            )) => Ended {
                oom_kills,
                by_signal: signal.is_some(),
                whole: true,
            },
            _ => ended,
        };
        if !ended.whole {
            force(&supervisor, &body).await;
        }
    }
    Leaving {
        ended,
        supervisor,
        body,
    }
}

/// End what its supervisor did not, because it hangs or was killed.
async fn force(supervisor: &Supervisor, body: &Body) {
    if timeout(STOP, supervisor.ended()).await.is_err() {
        supervisor.kill();
        supervisor.ended().await;
    }
    // It is gone before the processes that die with it, and what a group of version 1 has frozen does not die.
    let frozen = Freezer::among(&body.live.groups);
    let _ = tokio::task::spawn_blocking(move || frozen.thaw()).await;
    if timeout(STOP, ended(&body.pid_one)).await.is_err() {
        tracing::warn!("a sandbox's processes have not ended");
    }
}

impl Leaving {
    /// Returns when nothing of it is left on the host but its files.
    async fn gone(self, dir: PathBuf) {
        let Self {
            ended,
            supervisor,
            body,
        } = self;
        if supervisor.is_left() {
            return;
        }
        if timeout(STOP, supervisor.ended()).await.is_err() {
            supervisor.kill();
            supervisor.ended().await;
        }
        if ended.whole {
            return;
        }
        // The supervisor would have removed all that.
        let groups = body.live.groups;
        let removed = tokio::task::spawn_blocking(move || {
            remove_all(&groups);
            remove_socket(&dir);
        });
        if removed.await.is_err() {
            tracing::warn!("the cgroups of a sandbox may have stayed behind");
        }
    }
}

/// An ended sandbox leaves nothing behind in memory. One that was attached meanwhile stays.
fn forget(live: &Mutex<Live>, id: &SandboxId) {
    let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Slot::Running(known)) = live.get(id)
        && known
            .running
            .upgrade()
            .is_none_or(|running| !running.is_alive())
    {
        live.remove(id);
    }
}
