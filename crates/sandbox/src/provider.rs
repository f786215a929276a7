//! Owns the words in which everybody else speaks about sandboxes. It knows no operating system.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Steering;
use crate::error::Error;
use crate::files::{Connection, Download, FileWatch, Listing, Upload};
use crate::isolation::Isolation;
use crate::process::{Command, Printed, Process};
use crate::snapshot::Workspaces;
use crate::stats::Stats;
use crate::template::{TemplateRef, Templates};
use crate::volume::{Mounts, Volumes};
use hand::wire::{Entry, Exec, Kept, Output, Running, Tool};

mod birth;
mod maker;
mod name;
mod report;

pub use birth::{Birth, Ending, How};
pub use maker::ProviderName;
pub use name::SandboxId;
pub use report::{Finding, Report};

/// Which sandbox to attach, and how it is to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Spec {
    /// Its name; the workspace of that name is reused when there is one.
    pub id: SandboxId,
    /// Added to the environment of everything that runs in it. Not for secrets.
    pub env: Vec<(String, String)>,
    /// The volumes that it is to have from this start on; none: those that it had at its last.
    pub volumes: Option<Mounts>,
    /// What a workspace that is made lies on, if not on what the operator set; one that is there keeps its own.
    pub template: Option<TemplateRef>,
    /// Who is to make it from this start on; none: whoever was chosen for it before, or else as the operator set it.
    pub provider: Option<ProviderName>,
}

impl Spec {
    /// The plainest sandbox of that name.
    #[must_use]
    pub fn new(id: SandboxId) -> Self {
        Self {
            id,
            env: Vec::new(),
            volumes: None,
            template: None,
            provider: None,
        }
    }

    /// Has it made by that one.
    #[must_use]
    pub fn by(mut self, provider: ProviderName) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Has it made on that template.
    #[must_use]
    pub fn on(mut self, template: TemplateRef) -> Self {
        self.template = Some(template);
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Makes sandboxes.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Opens the sandbox's workspace (creating it when absent) and starts it. When it already runs
    /// in this process, or was left running by an earlier one, that one is returned and the rest of `spec`
    /// has no effect; unless it shares a kernel and is not to: then it ends first.
    ///
    /// The sandbox ends when the last handle is dropped; its workspace stays.
    /// Cancel safe: yes; a half-made sandbox is killed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names what this host cannot do; [`Error::Busy`] when another process
    /// owns the sandbox; [`Error::Missing`] for a volume, or a template that is not here; [`Error::Invalid`] for a bad
    /// environment; [`Error::Io`].
    async fn attach(&self, spec: Spec) -> Result<Arc<dyn Sandbox>, Error>;

    /// The sandbox, if it runs: in this process, or because an earlier one left it. Starts none.
    ///
    /// Cancel safe: yes.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process has it; [`Error::Io`].
    async fn adopt(&self, _id: &SandboxId) -> Result<Option<Arc<dyn Sandbox>>, Error> {
        Ok(None)
    }

    /// The sandboxes that an earlier process left running, in no order: as far as can be seen without a word to
    /// any of them, so one or the other may be about to end.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn left(&self) -> Result<Vec<SandboxId>, Error> {
        self.list().await
    }

    /// From now on a sandbox whose handles are dropped, or whose calls are, is left as it runs, for the
    /// next process to adopt.
    async fn leave(&self) {}

    /// Ends what the provider keeps for itself, such as sandboxes that wait for their first use.
    async fn close(&self) {}

    /// How many sandboxes it keeps for itself.
    fn waiting(&self) -> usize {
        0
    }

    /// Keeps a few bytes beside a sandbox, instead of those before; they go when it is deleted. Nothing in
    /// the sandbox can read them.
    ///
    /// Cancel safe: yes; there are the old ones or the new.
    ///
    /// # Errors
    /// [`Error::Missing`] for a sandbox without a workspace; [`Error::Io`].
    async fn remember(&self, _id: &SandboxId, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// What was kept by [`Provider::remember`], if anything was.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn recall(&self, _id: &SandboxId) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }

    /// Has on the disk what was written in the sandbox, and in its volumes, until now. What runs there goes on.
    ///
    /// Cancel safe: yes; what was begun goes on.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn flush(&self, _id: &SandboxId) -> Result<(), Error> {
        Ok(())
    }

    /// Stops the sandbox if it runs and removes its workspace; a name that is not there is success.
    /// The workspace is out of sight at once; its bytes are removed in the background.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process owns it; [`Error::Io`].
    async fn delete(&self, id: &SandboxId) -> Result<(), Error>;

    /// The sandboxes that have a workspace, running or not, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    async fn list(&self) -> Result<Vec<SandboxId>, Error>;

    /// Whether it makes sandboxes as that one does.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names what this host lacks and the cure; [`Error::Invalid`] where the operator does not
    /// want them.
    fn makes(&self, provider: ProviderName) -> Result<(), Error> {
        match provider {
            ProviderName::Local => Ok(()),
            ProviderName::Gvisor => Err(Error::lacking("have a kernel of its own")),
        }
    }

    /// What it can do with whole workspaces, if it can.
    fn workspaces(&self) -> Option<&dyn Workspaces> {
        None
    }

    /// What it can do with volumes, if it can.
    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }

    /// What it can do with templates, if it has any.
    fn templates(&self) -> Option<&dyn Templates> {
        None
    }

    /// What this host can and cannot do, found by trying.
    async fn probe(&self) -> Report;
}

/// A running sandbox.
#[async_trait]
pub trait Sandbox: Send + Sync {
    /// Runs one tool. A tool that fails is an output with `is_error`, not an `Err`.
    ///
    /// Cancel safe: yes; a dropped call is cancelled. After `cancel` a call that ended all the same
    /// still gives its output.
    ///
    /// # Errors
    /// [`Error::Lost`], [`Error::Gone`], [`Error::Cancelled`], [`Error::Busy`], [`Error::Invalid`].
    async fn tool(&self, call: ToolCall, cancel: CancellationToken) -> Result<Output, Error>;

    /// Runs one tool as [`Sandbox::tool`] does, under a name of at most
    /// [`KEY_CHARS`](hand::limits::KEY_CHARS) bytes that no other call of this sandbox ever has. If this
    /// process is gone before it is over, the call goes on; how it ended is kept until
    /// [`Sandbox::taken`], for whoever adopts the sandbox.
    ///
    /// # Errors
    /// As [`Sandbox::tool`]; [`Error::Invalid`] for a call that was started before.
    async fn keyed(
        &self,
        _key: &str,
        call: ToolCall,
        cancel: CancellationToken,
    ) -> Result<Output, Error> {
        self.tool(call, cancel).await
    }

    /// How the call of that name ended, once it has: one that an earlier process began by
    /// [`Sandbox::keyed`]. None if nothing is known of it here. `call` is what was asked for.
    ///
    /// Cancel safe: as [`Sandbox::tool`].
    ///
    /// # Errors
    /// As [`Sandbox::tool`]; [`Error::Cancelled`] also when it was cancelled before.
    async fn resume_call(
        &self,
        _key: &str,
        _call: ToolCall,
        _cancel: CancellationToken,
    ) -> Result<Option<Output>, Error> {
        Ok(None)
    }

    /// These are the callers that there are, beside the one without a name: the shells of all others end, with what
    /// runs in them. Never waits.
    fn callers(&self, _names: Vec<String>) {}

    /// What came of the call of that name is safe: the sandbox need not keep it. Never waits.
    fn taken(&self, _key: &str) {}

    /// Starts a process that the caller drives over pipes. Dropping the [`Process`] kills it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such program or directory; [`Error::Lost`],
    /// [`Error::Gone`], [`Error::Busy`].
    async fn spawn(&self, command: Command) -> Result<Process, Error>;

    /// Which processes of it were started under a key and are not forgotten, oldest first.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`].
    async fn execs(&self) -> Result<Vec<Exec>, Error> {
        Err(Error::lacking("keep what its programs print"))
    }

    /// How the process of that key stands, whichever server started it, and what it printed from these bytes of its
    /// two outputs on, as far as that is kept: the last
    /// [`KEPT_OUTPUT_BYTES`](hand::limits::KEPT_OUTPUT_BYTES) of each.
    ///
    /// # Errors
    /// [`Error::Missing`] when none is known; those of [`Sandbox::spawn`].
    async fn exec(&self, _key: &str, _stdout: u64, _stderr: u64) -> Result<Printed, Error> {
        Err(Error::lacking("keep what its programs print"))
    }

    /// Ends the process of that key and its group, if it runs, and forgets it.
    ///
    /// # Errors
    /// As [`Sandbox::exec`].
    async fn end_exec(&self, _key: &str) -> Result<(), Error> {
        Err(Error::lacking("keep what its programs print"))
    }

    /// Starts a process as [`Sandbox::spawn`] does, and keeps it: if this process is gone it goes on, for whoever
    /// adopts the sandbox. There is one in a sandbox; the former is killed. It has no terminal, no time limit, and what
    /// it complains is discarded.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`].
    async fn keep(&self, _key: &str, command: Command) -> Result<Process, Error> {
        self.spawn(command).await
    }

    /// The process that was kept under that key, and what is known of it: its output comes again from the last
    /// [`Process::mark`] on. None if there is none, or more was said than is held; then none is kept any more.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`].
    async fn kept(&self, _key: &str) -> Result<Option<(Process, Kept)>, Error> {
        Ok(None)
    }

    /// Asks whether it lives and answers.
    ///
    /// # Errors
    /// [`Error::Lost`] or [`Error::Gone`].
    async fn ping(&self) -> Result<(), Error>;

    /// Kills everything in it and returns when the last process is gone. The workspace stays.
    ///
    /// # Errors
    /// [`Error::Busy`] when it did not die in time; it is still being killed then.
    async fn stop(&self) -> Result<(), Error>;

    /// Whether it still ran a moment ago.
    fn is_alive(&self) -> bool;

    /// How well it is kept apart, where the provider says.
    fn isolation(&self) -> Option<Isolation> {
        None
    }

    /// By what means what it sends comes to the egress process; none: it has no network.
    fn steering(&self) -> Option<Steering> {
        None
    }

    /// Variables that its network has for programs. A [`Command::env`] of the same names hides them.
    fn variables(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// How it came to be what it is.
    fn birth(&self) -> Birth {
        Birth::default()
    }

    /// Why it has ended, once it has and nobody asked for it.
    fn ending(&self) -> Option<Ending> {
        None
    }

    /// The next tool result of each caller says that beneath its own words. Never waits.
    fn say(&self, _note: String) {}

    /// Opens a regular file to read, from byte `from` on. Paths, here and below, are absolute or start in
    /// the workspace; whatever symlinks do, they lead to what is in the sandbox.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Invalid`] for what is no regular file; those of [`Sandbox::spawn`].
    async fn read(&self, _path: &str, _from: u64) -> Result<Download, Error> {
        Err(Error::lacking("read files"))
    }

    /// Opens a file to write. It takes its place, whole, when it is finished; `mode` as in chmod, or as it
    /// was. A symlink of that name is replaced.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn write(&self, _path: &str, _mode: Option<u32>) -> Result<Upload, Error> {
        Err(Error::lacking("write files"))
    }

    /// What stands at `path`; a symlink is not followed.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn stat(&self, _path: &str) -> Result<Entry, Error> {
        Err(Error::lacking("look at files"))
    }

    /// What is in a directory, by name.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn list(&self, _path: &str) -> Result<Listing, Error> {
        Err(Error::lacking("list files"))
    }

    /// Makes a directory and those above it that are missing; one that is there is success.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn make_directory(&self, _path: &str) -> Result<(), Error> {
        Err(Error::lacking("make directories"))
    }

    /// Moves a file or directory within one volume; a file at `to` is replaced.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn rename(&self, _from: &str, _to: &str) -> Result<(), Error> {
        Err(Error::lacking("move files"))
    }

    /// Removes a file, a symlink, an empty directory, or with `all` one with what is in it.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn remove(&self, _path: &str, _all: bool) -> Result<(), Error> {
        Err(Error::lacking("remove files"))
    }

    /// Says what changes at `path`, from now on: a directory, or a file, there or not yet. With `deep` also what is
    /// below the directories in it, on the same volume.
    ///
    /// # Errors
    /// As [`Sandbox::read`].
    async fn watch(&self, _path: &str, _deep: bool) -> Result<FileWatch, Error> {
        Err(Error::lacking("watch files"))
    }

    /// Connects to a port that something in the sandbox listens on.
    ///
    /// # Errors
    /// [`Error::Missing`] when nothing answers; those of [`Sandbox::spawn`].
    async fn connect(&self, _port: u16) -> Result<Connection, Error> {
        Err(Error::lacking("connect to ports"))
    }

    /// Listens on a port of the sandbox's own loopback, from outside: what runs in the sandbox connects to it,
    /// and nothing else can. Port 0 is any that is free. It lives as long as it is held; the sandbox needs no network
    /// for it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where this process may not enter the sandbox's network; [`Error::Gone`]; [`Error::Io`]
    /// for a port that is taken.
    async fn listen(&self, _port: u16) -> Result<TcpListener, Error> {
        Err(Error::lacking("listen inside"))
    }

    /// What runs in it.
    ///
    /// # Errors
    /// Those of [`Sandbox::spawn`].
    async fn processes(&self) -> Result<Vec<Running>, Error> {
        Err(Error::lacking("list processes"))
    }

    /// What it uses. Does not resume a sandbox that is paused.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Lost`].
    async fn stats(&self) -> Result<Stats, Error> {
        Err(Error::lacking("count what it uses"))
    }

    /// Has everything in it stand still: it uses no processor, and time limits do not run. The next use of it
    /// resumes it. What is under way stands still too.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Lost`]; [`Error::Busy`] when it would not stand still: then it goes on.
    async fn pause(&self) -> Result<(), Error> {
        Err(Error::lacking("pause"))
    }

    /// Has it go on, if it is paused. The next tool result says what stood still.
    ///
    /// # Errors
    /// As [`Sandbox::pause`].
    async fn resume(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether it is paused.
    fn is_paused(&self) -> bool {
        false
    }

    /// Stops it so that the next sandbox of its name goes on from here: directory and environment of the
    /// persistent shells come back, and the first tool result of each caller says what was ended. `reason` is for the
    /// model, as in `it was idle for 10 minutes`.
    ///
    /// # Errors
    /// Those of [`Sandbox::stop`].
    async fn hibernate(&self, _reason: &str) -> Result<(), Error> {
        self.stop().await
    }
}

/// One use of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Which tool.
    pub name: Tool,
    /// Its input as the model wrote it; a mistake in it is answered by the tool.
    pub input: serde_json::Value,
    /// Whose it is, none included: at most [`KEY_CHARS`](hand::limits::KEY_CHARS) letters, digits, `_` and `-`. Each
    /// of [`CALLERS`](hand::limits::CALLERS) has a shell of its own, beside the others'; files are everybody's.
    pub caller: Option<String>,
}
