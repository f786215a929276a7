//! Owns one running sandbox: its supervisor, its end, and what callers do with it in between.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use jail::plan::Report;

use super::client::Client;
use super::groups::remove_all;
use super::launch::Supervisor;
use super::memory::Memory;
use super::ranges::Range;
use super::{Live, Shared, Slot};
use crate::error::Error;
use crate::limits::STOP;
use crate::process::{Command, Process};
use crate::provider::{Sandbox, SandboxId, ToolCall};
use hand::wire::Output;

/// How long to wait before looking again whether a sandbox whose supervisor was killed has ended.
const ENDED_RETRY: Duration = Duration::from_millis(5);

pub(super) struct Running {
    client: Client,
    memory: Memory,
    ended: watch::Receiver<Option<Ended>>,
    stop: CancellationToken,
    /// The last handle dropped ends the sandbox.
    _guard: DropGuard,
}

/// What is known of a sandbox that has ended.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    /// How many of its processes the kernel ended for want of memory, from first to last.
    oom_kills: u64,
}

impl Running {
    pub(super) fn new(
        client: Client,
        supervisor: Supervisor,
        range: Range,
        memory: Memory,
        shared: &Shared,
        id: SandboxId,
    ) -> Self {
        let stop = CancellationToken::new();
        let (ended_tx, ended) = watch::channel(None);
        let live = Arc::clone(&shared.live);
        let watched = watch_over(supervisor, range, stop.clone(), client.clone());
        shared.tasks.spawn(async move {
            let ended = watched.await;
            forget(&live, &id);
            // Nobody may be waiting for it.
            let _ = ended_tx.send(Some(ended));
        });
        Self {
            client,
            memory,
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

/// Ends the sandbox on `stop`, or when nothing more can be said to it, and returns when its last
/// process is gone. The range is held until then.
async fn watch_over(
    mut supervisor: Supervisor,
    range: Range,
    stop: CancellationToken,
    client: Client,
) -> Ended {
    let mut report = tokio::select! {
        () = stop.cancelled() => None,
        // A hand that was taken over does not end by itself.
        () = client.ended() => None,
        report = supervisor.report() => report,
    };
    client.close();
    // Half of the control socket closing is what tells the supervisor to kill; by the other half it
    // says how it went.
    if supervisor.hang_up().await && report.is_none() {
        report = timeout(STOP, supervisor.report()).await.ok().flatten();
    }
    tracing::debug!(?report, "sandbox ends");
    let Supervisor {
        mut child,
        control,
        pid_one,
        groups,
    } = supervisor;
    drop(control);
    if timeout(STOP, child.wait()).await.is_err() {
        // PID 1 has the supervisor's death as its death signal.
        let killed = child.kill().await;
        tracing::warn!(?killed, "a supervisor did not end and was killed");
    }
    // A supervisor that was killed is gone before the processes that die with it.
    if let Some(pid_one) = pid_one
        && timeout(STOP, ended(&pid_one)).await.is_err()
    {
        tracing::warn!("a sandbox's processes have not ended");
    }
    // The supervisor has removed them, unless it was killed.
    let removed = tokio::task::spawn_blocking(move || remove_all(&groups)).await;
    if removed.is_err() {
        tracing::warn!("the cgroups of a sandbox may have stayed behind");
    }
    drop(range);
    match report {
        Some(Report::Ended { oom_kills, .. }) => Ended { oom_kills },
        _ => Ended::default(),
    }
}

/// Returns when what `pid_one` names has ended. As a rule it has when this is called: the supervisor has
/// reaped it.
async fn ended(pid_one: &OwnedFd) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(pid_one, PollFlags::IN)];
    // Looking cannot fail on a descriptor that is open; if it did, waiting would not help.
    while poll(&mut fds, Some(&now)) == Ok(0) {
        sleep(ENDED_RETRY).await;
    }
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
        let shown = call.clone();
        match self.client.tool(call, cancel).await {
            Ok(output) => Ok(self.memory.told(&shown, output)),
            Err(Error::Lost) => {
                let mut ended = self.ended.clone();
                let ended = timeout(STOP, ended.wait_for(Option::is_some)).await;
                let kills = match ended {
                    Ok(Ok(ended)) => ended.unwrap_or_default().oom_kills,
                    _ => 0,
                };
                self.memory.ended(&shown, kills).ok_or(Error::Lost)
            }
            other => other,
        }
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
        match timeout(STOP * 2, ended.wait_for(Option::is_some)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::busy("the sandbox does not die")),
        }
    }

    fn is_alive(&self) -> bool {
        !self.stop.is_cancelled() && self.client.is_open()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use hand::wire::{FromHand, PREFIX_BYTES, VERSION, write_frame};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixStream;
    use tokio_util::task::TaskTracker;

    use super::super::ranges::Ranges;
    use super::*;

    /// Ends, as a supervisor does, when its control socket does.
    fn supervisor() -> Supervisor {
        let (control, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        let child = tokio::process::Command::new("cat")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        Supervisor {
            control: BufReader::new(UnixStream::from_std(control).unwrap()),
            pid_one: Some(pidfd_open(pid, PidfdFlags::empty()).unwrap()),
            groups: Vec::new(),
            child,
        }
    }

    #[tokio::test]
    async fn a_conversation_that_is_over_ends_the_sandbox_though_the_hand_does_not() {
        let (ours, mut hand) = UnixStream::pair().unwrap();
        let mut hello = Vec::new();
        write_frame(&mut hello, &FromHand::Hello { version: VERSION }, b"").unwrap();
        hand.write_all(&hello).await.unwrap();
        let client = Client::connect(ours, &TaskTracker::new()).await.unwrap();
        let range = Arc::new(Ranges::default()).take("broken").unwrap();
        let stop = CancellationToken::new();
        let watched = watch_over(supervisor(), range, stop.clone(), client.clone());
        // A hand greets once.
        hand.write_all(&hello).await.unwrap();
        timeout(STOP, watched).await.expect("it goes on");
        assert!(!stop.is_cancelled() && !client.is_open());
        assert!(hand.read_exact(&mut [0; PREFIX_BYTES]).await.is_ok());
    }
}
