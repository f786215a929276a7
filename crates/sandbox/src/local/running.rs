//! Owns one running sandbox: its supervisor, its end, and what callers do with it in between.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use jail::plan::Report;

use super::client::Client;
use super::dirs::remove_socket;
use super::disk::Guarded;
use super::freezer::Freezer;
use super::groups::remove_all;
use super::inside;
use super::memory::Memory;
use super::ranges::Range;
use super::supervisor::{Body, Supervisor, ended};
use super::{Live, Shared, Slot, isolation, usage};
use crate::diary::Step;
use crate::error::{Doing, Error};
use crate::files::{Connection, Download, FileWatch, Listing, Upload};
use crate::isolation::Isolation;
use crate::limits::STOP;
use crate::process::{Command, Process};
use crate::provider::{Birth, Ending, How, Sandbox, SandboxId, ToolCall};
use crate::stats::Stats;
use hand::wire::{Ask, Entry, Open, Output, Running as Inside, Said};

#[cfg(test)]
mod tests;

pub(super) struct Running {
    client: Client,
    memory: Memory,
    disk: Arc<Guarded>,
    freezer: Freezer,
    /// Whether it was paused; held while that changes.
    paused: tokio::sync::Mutex<bool>,
    groups: Vec<PathBuf>,
    dir: PathBuf,
    isolation: Isolation,
    /// Of PID 1, to find its network by; none if this process had no descriptor left.
    pid_one: Option<OwnedFd>,
    ended: watch::Receiver<Option<Ended>>,
    birth: Birth,
    /// What the next tool result is to say.
    notes: Mutex<Vec<String>>,
    stop: CancellationToken,
    /// The last handle dropped ends the sandbox.
    _guard: DropGuard,
}

/// What is known of a sandbox that has ended.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    /// How many of its processes the kernel ended for want of memory, from first to last.
    oom_kills: u64,
    /// Whether its PID 1 was ended by a signal.
    by_signal: bool,
}

impl Running {
    pub(super) fn new(
        client: Client,
        supervisor: Supervisor,
        body: Body,
        range: Range,
        memory: Memory,
        shared: &Shared,
        id: SandboxId,
    ) -> Self {
        let stop = CancellationToken::new();
        let (ended_tx, ended) = watch::channel(None);
        let live = Arc::clone(&shared.live);
        let network = shared.network.clone();
        let (groups, dir) = (body.live.groups.clone(), shared.dirs.path(&id));
        let isolation = isolation::isolation(body.live.id_base, &body.live.limits);
        let disk = shared.disks.watch(dir.clone(), &body.live, client.clone());
        let pid_one = body.pid_one.try_clone().ok();
        let watched = watch_over(
            supervisor,
            body,
            dir.clone(),
            range,
            stop.clone(),
            client.clone(),
        );
        shared.tasks.spawn(async move {
            let ended = watched.await;
            // Before anything of that name can start again.
            if let Some(network) = network {
                network.gone(&id);
            }
            forget(&live, &id);
            // Nobody may be waiting for it.
            let _ = ended_tx.send(Some(ended));
        });
        Self {
            client,
            memory,
            disk,
            freezer: Freezer::among(&groups),
            paused: tokio::sync::Mutex::new(false),
            groups,
            dir,
            isolation,
            pid_one,
            ended,
            birth: Birth::default(),
            notes: Mutex::default(),
            _guard: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Says how it came to be there.
    pub(super) fn born(mut self, how: How, steps: Vec<Step>) -> Self {
        self.birth = Birth { how, steps };
        self
    }

    /// From now on nothing that happens here ends anything in there.
    pub(super) fn leave(&self) {
        self.client.leave();
    }

    /// Starts its end without waiting for it.
    pub(super) fn kill(&self) {
        self.stop.cancel();
    }
}

/// Ends the sandbox on `stop`, or when nothing more can be said to it, and returns when its last
/// process is gone, or when it is left to the next server. The range is held until then.
async fn watch_over(
    mut supervisor: Supervisor,
    body: Body,
    dir: PathBuf,
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
    if supervisor.is_left() {
        return Ended::default();
    }
    // What a group of version 1 has frozen does not die.
    let frozen = Freezer::among(&body.live.groups);
    let _ = tokio::task::spawn_blocking(move || frozen.thaw()).await;
    if supervisor.end() && report.is_none() {
        report = timeout(STOP, supervisor.report()).await.ok().flatten();
    }
    tracing::debug!(?report, "sandbox ends");
    if timeout(STOP, supervisor.ended()).await.is_err() {
        supervisor.kill();
        supervisor.ended().await;
    }
    // A supervisor that was killed is gone before the processes that die with it.
    if timeout(STOP, ended(&body.pid_one)).await.is_err() {
        tracing::warn!("a sandbox's processes have not ended");
    }
    // The supervisor has removed all that, unless it was killed.
    let groups = body.live.groups;
    let removed = tokio::task::spawn_blocking(move || {
        remove_all(&groups);
        remove_socket(&dir);
    });
    if removed.await.is_err() {
        tracing::warn!("the cgroups of a sandbox may have stayed behind");
    }
    drop(range);
    match report {
        Some((
            Report::Ended {
                oom_kills, signal, ..
            },
            _,
        )) => Ended {
            oom_kills,
            by_signal: signal.is_some(),
        },
        _ => Ended::default(),
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
        self.wake().await?;
        if let Some(refused) = self.disk.refused(&call) {
            return Ok(refused);
        }
        let ran = self.client.tool(None, call.clone(), cancel).await;
        self.told(&call, ran).await
    }

    async fn keyed(
        &self,
        key: &str,
        call: ToolCall,
        cancel: CancellationToken,
    ) -> Result<Output, Error> {
        self.wake().await?;
        if let Some(refused) = self.disk.refused(&call) {
            return Ok(refused);
        }
        let ran = self.client.tool(Some(key), call.clone(), cancel).await;
        self.told(&call, ran).await
    }

    async fn resume_call(
        &self,
        key: &str,
        call: ToolCall,
        cancel: CancellationToken,
    ) -> Result<Option<Output>, Error> {
        self.wake().await?;
        let ran = self.client.resume(key, &call, cancel).await.transpose();
        let Some(ran) = ran else { return Ok(None) };
        self.told(&call, ran).await.map(Some)
    }

    fn taken(&self, key: &str) {
        self.client.taken(key);
    }

    async fn spawn(&self, command: Command) -> Result<Process, Error> {
        self.wake().await?;
        self.client.spawn(command).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.wake().await?;
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

    fn isolation(&self) -> Option<Isolation> {
        Some(self.isolation.clone())
    }

    fn birth(&self) -> Birth {
        self.birth.clone()
    }

    fn ending(&self) -> Option<Ending> {
        let ended = (*self.ended.borrow())?;
        Some(match ended {
            Ended {
                oom_kills: 1..,
                by_signal: true,
            } => Ending::OutOfMemory,
            Ended {
                by_signal: true, ..
            } => Ending::Killed,
            Ended { .. } => Ending::Silent,
        })
    }

    fn say(&self, note: String) {
        self.notes().push(note);
    }

    async fn read(&self, path: &str, from: u64) -> Result<Download, Error> {
        let path = path.to_owned();
        let (process, said) = self.open(Open::Read { path, from }).await?;
        match serde_json::from_slice(&said) {
            Ok(entry) => Ok(Download::new(entry, process)),
            Err(_) => Err(self.client.break_off()),
        }
    }

    async fn write(&self, path: &str, mode: Option<u32>) -> Result<Upload, Error> {
        if let Some(problem) = self.disk.full() {
            return Err(Error::Failed { problem });
        }
        let path = path.to_owned();
        let (process, _) = self.open(Open::Write { path, mode }).await?;
        Ok(Upload::new(process))
    }

    async fn stat(&self, path: &str) -> Result<Entry, Error> {
        let path = path.to_owned();
        match self.ask(Ask::Stat { path }).await? {
            Said::Entry { entry } => Ok(entry),
            _ => Err(self.client.break_off()),
        }
    }

    async fn list(&self, path: &str) -> Result<Listing, Error> {
        let path = path.to_owned();
        match self.ask(Ask::List { path }).await? {
            Said::Entries { entries, more } => Ok(Listing { entries, more }),
            _ => Err(self.client.break_off()),
        }
    }

    async fn make_directory(&self, path: &str) -> Result<(), Error> {
        let path = path.to_owned();
        self.ask(Ask::MakeDirectory { path }).await.map(drop)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.ask(Ask::Rename { from, to }).await.map(drop)
    }

    async fn remove(&self, path: &str, all: bool) -> Result<(), Error> {
        let path = path.to_owned();
        self.ask(Ask::Remove { path, all }).await.map(drop)
    }

    async fn watch(&self, path: &str, deep: bool) -> Result<FileWatch, Error> {
        let path = path.to_owned();
        let (process, _) = self.open(Open::Watch { path, deep }).await?;
        Ok(FileWatch::new(process))
    }

    async fn connect(&self, port: u16) -> Result<Connection, Error> {
        let (process, _) = self.open(Open::Connect { port }).await?;
        Connection::new(process)
    }

    async fn listen(&self) -> Result<TcpListener, Error> {
        let pid_one = self.pid_one.as_ref().and_then(|fd| fd.try_clone().ok());
        let pid_one = pid_one.ok_or_else(|| Error::busy("no descriptors are left"))?;
        inside::listen(pid_one).await
    }

    async fn processes(&self) -> Result<Vec<Inside>, Error> {
        match self.ask(Ask::Processes).await? {
            Said::Processes { processes } => Ok(processes),
            _ => Err(self.client.break_off()),
        }
    }

    async fn stats(&self) -> Result<Stats, Error> {
        if !self.is_alive() {
            return Err(Error::Gone);
        }
        let (groups, dir) = (self.groups.clone(), self.dir.clone());
        let counted = tokio::task::spawn_blocking(move || usage::stats(&groups, &dir));
        counted.await.map_err(|_| Error::Gone)
    }

    async fn pause(&self) -> Result<(), Error> {
        let mut paused = self.paused.lock().await;
        if *paused {
            return Ok(());
        }
        // Dropped on the way, it counts as paused: the next use has it go on.
        *paused = true;
        let stop = self.freezer.is_none();
        self.client.ask(&Ask::Pause { stop }).await?;
        self.client.hold(true);
        let freezer = self.freezer.clone();
        let frozen = tokio::task::spawn_blocking(move || freezer.freeze()).await;
        if let Ok(Ok(())) = frozen {
            return Ok(());
        }
        tracing::warn!(?frozen, "a sandbox does not stand still");
        self.go_on(&mut paused).await?;
        Err(Error::busy("what runs in the sandbox does not stand still"))
    }

    async fn resume(&self) -> Result<(), Error> {
        self.wake().await
    }

    fn is_paused(&self) -> bool {
        self.client.is_held()
    }

    async fn hibernate(&self, reason: &str) -> Result<(), Error> {
        let reason = reason.to_owned();
        // One that cannot keep anything, because its disk is full or it has gone, is stopped all the same.
        if let Err(error) = self.ask(Ask::Rest { reason }).await {
            tracing::debug!(%error, "a sandbox goes without keeping its shell");
        }
        self.stop().await
    }
}

impl Running {
    /// What came of a call, and whether the sandbox ran out of memory meanwhile.
    async fn told(&self, call: &ToolCall, ran: Result<Output, Error>) -> Result<Output, Error> {
        match ran {
            Ok(output) => Ok(self.noted(self.disk.told(self.memory.told(call, output)))),
            Err(Error::Lost) => {
                let mut ended = self.ended.clone();
                let ended = timeout(STOP, ended.wait_for(Option::is_some)).await;
                let kills = match ended {
                    Ok(Ok(ended)) => ended.unwrap_or_default().oom_kills,
                    _ => 0,
                };
                self.memory.ended(call, kills).ok_or(Error::Lost)
            }
            other => other,
        }
    }

    /// The output, and under it what is to be said.
    fn noted(&self, mut output: Output) -> Output {
        for note in std::mem::take(&mut *self.notes()) {
            output.add(&note);
        }
        output
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it go on if it is paused.
    async fn wake(&self) -> Result<(), Error> {
        let mut paused = self.paused.lock().await;
        if *paused {
            self.go_on(&mut paused).await?;
        }
        Ok(())
    }

    async fn go_on(&self, paused: &mut bool) -> Result<(), Error> {
        let freezer = self.freezer.clone();
        let thawed = tokio::task::spawn_blocking(move || freezer.thaw()).await;
        let thawed = thawed.map_err(|_| Error::Gone)?;
        thawed.doing(|| "have a sandbox go on".to_owned())?;
        self.client.hold(false);
        self.client.ask(&Ask::Resume).await?;
        *paused = false;
        Ok(())
    }

    async fn ask(&self, ask: Ask) -> Result<Said, Error> {
        self.wake().await?;
        self.client.ask(&ask).await
    }

    async fn open(&self, open: Open) -> Result<(Process, Vec<u8>), Error> {
        self.wake().await?;
        self.client.open(&open).await
    }
}
