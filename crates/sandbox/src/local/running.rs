//! Owns one running sandbox: its supervisor, its end, and what callers do with it in between.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::Client;
use super::disk::Guarded;
use super::ending::{End, Ended};
use super::freezer::Freezer;
use super::inside;
use super::memory::Memory;
use super::notes::Notes;
use super::ranges::Range;
use super::supervisor::{Body, Supervisor};
use super::trust::Trusting;
use super::{Known, Shared, isolation, usage};
use crate::Steering;
use crate::diary::Step;
use crate::error::{Doing, Error};
use crate::files::{Connection, Download, FileWatch, Listing, Upload};
use crate::isolation::Isolation;
use crate::limits::STOP;
use crate::process::{Command, Printed, Process};
use crate::provider::{Birth, Ending, How, Sandbox, SandboxId, ToolCall};
use crate::stats::Stats;
use hand::limits::KEPT_OUTPUT_BYTES;
use hand::wire::{self, Ask, Entry, Exec, Kept, Open, Output, Running as Inside, Said};

pub(super) struct Running {
    client: Client,
    trusting: Trusting,
    memory: Memory,
    disk: Arc<Guarded>,
    /// The volumes that it writes to.
    volumes: Vec<Arc<Guarded>>,
    freezer: Freezer,
    /// Whether it was paused; held while that changes.
    paused: tokio::sync::Mutex<bool>,
    groups: Vec<PathBuf>,
    dir: PathBuf,
    isolation: Isolation,
    steering: Option<Steering>,
    /// Of PID 1, to find its network by; none if this process had no descriptor left.
    pid_one: Option<OwnedFd>,
    ends: End,
    birth: Birth,
    /// What the next tool result of each caller is to say.
    notes: Mutex<Notes>,
    /// The last handle dropped ends the sandbox.
    _guard: DropGuard,
}

impl Running {
    pub(super) fn new(
        (client, trusting): (Client, Trusting),
        supervisor: Supervisor,
        body: Body,
        range: Range,
        memory: Memory,
        shared: &Shared,
        id: SandboxId,
    ) -> Self {
        let (groups, dir) = (body.live.groups.clone(), shared.dirs.path(&id));
        let live = &body.live;
        let isolation = isolation::isolation(live.id_base, live.ids, live.gvisor, &live.limits);
        let steering = body.live.network;
        let disk = shared.disks.watch(dir.clone(), &body.live, client.clone());
        let volumes = shared.volumes.written_by(&dir).into_iter();
        let watch = |volume| {
            shared
                .disks
                .watch_volume(volume, &body.live, client.clone())
        };
        let volumes = volumes.map(watch).collect();
        let pid_one = body.pid_one.try_clone().ok();
        let ends = End::look_after(supervisor, body, range, client.clone(), shared, id);
        Self {
            client,
            trusting,
            memory,
            disk,
            volumes,
            freezer: Freezer::among(&groups),
            paused: tokio::sync::Mutex::new(false),
            groups,
            dir,
            isolation,
            steering,
            pid_one,
            birth: Birth::default(),
            notes: Mutex::default(),
            _guard: ends.guard(),
            ends,
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
        self.ends.begin();
    }

    /// End it, and returns when no process of it is left.
    pub(super) async fn end(&self) -> Result<Ended, Error> {
        self.ends.end().await
    }

    /// Whether it shares no kernel with others.
    pub(super) fn has_own_kernel(&self) -> bool {
        self.isolation.own_kernel
    }

    /// Its share of the disk.
    pub(super) fn disk(&self) -> &Guarded {
        &self.disk
    }

    /// What its provider keeps of it.
    pub(super) fn known(self: &Arc<Self>) -> Known {
        Known {
            running: Arc::downgrade(self),
            ends: self.ends.clone(),
        }
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

    fn callers(&self, names: Vec<String>) {
        self.client.callers(names);
    }

    fn taken(&self, key: &str) {
        self.client.taken(key);
    }

    async fn spawn(&self, command: Command) -> Result<Process, Error> {
        self.wake().await?;
        self.client.spawn(command).await
    }

    async fn execs(&self) -> Result<Vec<Exec>, Error> {
        match self.ask(Ask::Execs).await? {
            Said::Execs { execs } => Ok(execs),
            _ => Err(self.client.break_off()),
        }
    }

    async fn exec(&self, key: &str, stdout: u64, stderr: u64) -> Result<Printed, Error> {
        let key = key.to_owned();
        let asked = self.ask(Ask::Exec {
            key,
            stdout,
            stderr,
        });
        match asked.await? {
            Said::Printed { printed } => printed_as(printed).ok_or_else(|| self.client.break_off()),
            _ => Err(self.client.break_off()),
        }
    }

    async fn end_exec(&self, key: &str) -> Result<(), Error> {
        let named = key.to_owned();
        self.ask(Ask::EndExec { key: named }).await?;
        self.client.taken(key);
        Ok(())
    }

    async fn keep(&self, key: &str, command: Command) -> Result<Process, Error> {
        self.wake().await?;
        self.client.keep(key, command).await
    }

    async fn kept(&self, key: &str) -> Result<Option<(Process, Kept)>, Error> {
        self.wake().await?;
        self.client.kept(key).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.wake().await?;
        self.client.ping().await
    }

    async fn stop(&self) -> Result<(), Error> {
        self.ends.end().await.map(drop)
    }

    fn is_alive(&self) -> bool {
        !self.ends.has_begun() && self.client.is_open()
    }

    fn isolation(&self) -> Option<Isolation> {
        Some(self.isolation.clone())
    }

    fn steering(&self) -> Option<Steering> {
        self.steering
    }

    fn variables(&self) -> Vec<(String, String)> {
        self.trusting.given()
    }

    fn birth(&self) -> Birth {
        self.birth.clone()
    }

    fn ending(&self) -> Option<Ending> {
        let ended = self.ends.known()?;
        Some(match ended {
            Ended {
                oom_kills: 1..,
                by_signal: true,
                ..
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

    async fn listen(&self, port: u16) -> Result<TcpListener, Error> {
        let pid_one = self.pid_one.as_ref().and_then(|fd| fd.try_clone().ok());
        let pid_one = pid_one.ok_or_else(|| Error::busy("no descriptors are left"))?;
        inside::listen(pid_one, port).await
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
        match *paused {
            true => Ok(()),
            false => self.stand_still(&mut paused).await,
        }
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
            Ok(output) => {
                let mut output = self.disk.told(self.memory.told(call, output));
                for volume in &self.volumes {
                    output = volume.told(output);
                }
                Ok(self.notes().told(&call.caller, output))
            }
            Err(Error::Lost) => {
                let kills = self.ends.wait(STOP).await.unwrap_or_default().oom_kills;
                self.memory.ended(call, kills).ok_or(Error::Lost)
            }
            other => other,
        }
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it go on if it is paused. Its programs trust from then on whom they are to trust.
    async fn wake(&self) -> Result<(), Error> {
        {
            let mut paused = self.paused.lock().await;
            if *paused {
                self.go_on(&mut paused).await?;
            }
        }
        self.trusting.settled().await;
        Ok(())
    }

    /// Does `work` while everything in it stands still. Whoever uses it meanwhile waits.
    pub(super) async fn still<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut paused = self.paused.lock().await;
        let stood_still = *paused;
        if !stood_still {
            self.stand_still(&mut paused).await?;
        }
        let done = work.await;
        if !stood_still {
            self.go_on(&mut paused).await?;
        }
        done
    }

    async fn stand_still(&self, paused: &mut bool) -> Result<(), Error> {
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
        self.go_on(paused).await?;
        Err(Error::busy("what runs in the sandbox does not stand still"))
    }

    async fn go_on(&self, paused: &mut bool) -> Result<(), Error> {
        let freezer = self.freezer.clone();
        let thawed = tokio::task::spawn_blocking(move || freezer.thaw()).await;
        let thawed = thawed.map_err(|_| Error::Gone)?;
        thawed.doing(|| "have a sandbox go on".to_owned())?;
        self.client.hold(false);
        if self.freezer.is_none() {
            // Nobody but the hand has them go on.
            self.client.ask(&Ask::Resume).await?;
        } else {
            // They go on already. The hand hears of it before it hears of anything else.
            self.client.tell(&Ask::Resume).await?;
        }
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

/// What a hand says that it kept, unless no honest one says that.
fn printed_as(printed: wire::Printed) -> Option<Printed> {
    let bytes = |text: String| STANDARD.decode(text).ok();
    let (stdout, stderr) = (bytes(printed.stdout)?, bytes(printed.stderr)?);
    let most = KEPT_OUTPUT_BYTES;
    (stdout.len() <= most && stderr.len() <= most).then_some(Printed {
        exec: printed.exec,
        stdout_from: printed.stdout_from,
        stdout,
        stderr_from: printed.stderr_from,
        stderr,
    })
}
