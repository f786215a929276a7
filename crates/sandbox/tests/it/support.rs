//! Fixtures: a provider in a directory of its own, and short words for tool calls.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandbox::{
    Config, Content, Gvisor, Local, Provider, ProviderName, Sandbox, SandboxId, Spec, Tool,
    ToolCall, ToolOutput,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A provider whose directory goes with it.
pub struct Host {
    pub local: Local,
    dir: TempDir,
}

pub fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let local = local_in(dir.path().to_owned());
    Host { local, dir }
}

/// As [`host`], in a directory of the caller's choice.
pub fn host_on(dir: TempDir) -> Host {
    let local = local_in(dir.path().to_owned());
    Host { local, dir }
}

/// As [`host`], with other settings.
pub fn host_with(change: impl FnOnce(&mut Config)) -> Host {
    let dir = tempfile::tempdir().unwrap();
    let sandboxes = dir.path().join("sandboxes");
    let mut config = config(&sandboxes);
    change(&mut config);
    let local = Local::new(sandboxes, config).unwrap();
    Host { local, dir }
}

/// As [`host_with`], of sandboxes with a kernel of their own. None where gVisor is not to be had.
pub fn host_apart(change: impl FnOnce(&mut Config)) -> Option<Host> {
    let apart = |config: &mut Config| {
        config.provider = ProviderName::Gvisor;
        change(config);
    };
    gvisor_is_to_be_had().then(|| host_with(apart))
}

/// Whether gVisor is to be had on this machine; if not, that is said. Where it could be installed, a test that lacks it
/// fails.
pub fn gvisor_is_to_be_had() -> bool {
    if Gvisor::default().program.exists() {
        return true;
    }
    let mut known = std::process::Command::new("apt-cache");
    let known = known.args(["show", "runsc"]).output();
    let known = known.is_ok_and(|known| !known.stdout.is_empty());
    assert!(
        !known,
        "this test needs the package runsc: apt install runsc"
    );
    eprintln!("NOT TESTED: no package `runsc`, and so no gVisor, is to be had on this machine");
    false
}

/// What a test that is killed leaves ends at once.
fn config(sandboxes: &Path) -> Config {
    let mut config = Config::beside(sandboxes);
    config.orphan = Duration::ZERO;
    config
}

pub fn local_in(dir: PathBuf) -> Local {
    let sandboxes = dir.join("sandboxes");
    let config = config(&sandboxes);
    Local::new(sandboxes, config).unwrap()
}

/// A provider that does not wait for another owner.
pub fn impatient_in(dir: PathBuf) -> Local {
    let sandboxes = dir.join("sandboxes");
    let mut config = config(&sandboxes);
    config.handover = Duration::ZERO;
    Local::new(sandboxes, config).unwrap()
}

/// A provider whose sandboxes live on for `orphan` without it.
pub fn lasting(dir: &Path, orphan: Duration) -> Local {
    lasting_with(dir, orphan, 0)
}

/// As [`lasting`], with so many sandboxes that wait for their first use.
pub fn lasting_with(dir: &Path, orphan: Duration, warm: usize) -> Local {
    let sandboxes = dir.join("sandboxes");
    let mut config = Config::beside(&sandboxes);
    config.orphan = orphan;
    config.warm = warm;
    Local::new(sandboxes, config).unwrap()
}

/// As [`lasting`], for longer than any test.
pub fn long(dir: &Path) -> Local {
    lasting(dir, Duration::from_secs(120))
}

pub fn id(name: &str) -> SandboxId {
    SandboxId::new(name).unwrap()
}

impl Host {
    /// Attaches, or fails with the provider's own words.
    pub async fn attach(&self, name: &str) -> Arc<dyn Sandbox> {
        attach(&self.local, name).await
    }

    /// A path on the host below the provider's directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }
}

pub async fn attach(local: &Local, name: &str) -> Arc<dyn Sandbox> {
    match local.attach(Spec::new(id(name))).await {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("no sandbox on this host: {error}: {error:?}"),
    }
}

pub async fn call(sandbox: &Arc<dyn Sandbox>, name: Tool, input: Value) -> ToolOutput {
    let call = ToolCall {
        name,
        input,
        caller: None,
    };
    sandbox.tool(call, CancellationToken::new()).await.unwrap()
}

pub async fn bash(sandbox: &Arc<dyn Sandbox>, command: &str) -> ToolOutput {
    call(sandbox, Tool::Bash, json!({ "command": command })).await
}

/// The output of a command that must succeed.
pub async fn ok(sandbox: &Arc<dyn Sandbox>, command: &str) -> String {
    let output = bash(sandbox, command).await;
    assert!(!output.is_error, "{command}: {}", text(&output));
    text(&output)
}

/// What Python programs begin with. `call(number, *arguments)` gives the name of the errno of a raw system
/// call, or its result; `tried` the same of a function; `done` and `opened` say that something worked.
pub const PRELUDE: &str = "import ctypes, errno, os, signal, socket, struct, sys\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    def call(number, *arguments):\n    \
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])\n    \
        return errno.errorcode[ctypes.get_errno()] if result == -1 else result\n\
    def tried(action):\n    \
        try: return action()\n    \
        except OSError as e: return errno.errorcode[e.errno]\n\
    def done(result): return result if isinstance(result, str) else 'done'\n\
    def opened(path, flags):\n    \
        result = tried(lambda: os.open(path, flags)); return result if isinstance(result, str) else 'opened'\n";

/// What a Python program in the sandbox prints, after [`PRELUDE`].
pub async fn python(sandbox: &Arc<dyn Sandbox>, program: &str) -> String {
    let input = json!({ "file_path": "/tmp/attack.py", "content": format!("{PRELUDE}{program}") });
    let written = call(sandbox, Tool::Write, input).await;
    assert!(!written.is_error, "{}", text(&written));
    ok(sandbox, "/usr/bin/python3 /tmp/attack.py").await
}

pub fn text(output: &ToolOutput) -> String {
    match output.content.as_slice() {
        [Content::Text { text }] => text.clone(),
        other => panic!("not one text: {other:?}"),
    }
}

/// Waits for a condition; the deadline only ends a test that has failed.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never happened: {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
