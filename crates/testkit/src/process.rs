//! The real server as a process: started on a directory of its own, killed or asked to stop, started again on
//! the same directory. It ends with the test that holds it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::api::{Api, Failed, control};
use crate::{setting, wait};

/// The key that every server of the tests knows.
pub const KEY: &str = "lh_testkit0000000000000000000000000000000000";

/// Variables of the host that would change what a test sees.
const FOREIGN: [&str; 8] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// How a server is started; starting again means starting the same.
#[derive(Debug)]
pub struct Launch {
    binary: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    prefix: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    /// Removed when the test is over.
    _home: TempDir,
}

impl Launch {
    /// `binary` (or what `LONGHAND_BIN` names) on a new directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(binary: &str) -> io::Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("longhand-test-")
            .tempdir()?;
        Ok(Self {
            binary: setting::binary().unwrap_or_else(|| binary.into()),
            data_dir: home.path().join("data"),
            log: home.path().join("server.log"),
            prefix: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            _home: home,
        })
    }

    /// The model server that it asks.
    #[must_use]
    pub fn model(self, base_url: &str) -> Self {
        self.environment("ANTHROPIC_BASE_URL", base_url)
            .environment("ANTHROPIC_API_KEY", "sk-scripted-0000000000000000")
    }

    /// A variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// No such variable in its environment, if it was given one above.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Words behind `longhand serve`.
    #[must_use]
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(OsString::from));
        self
    }

    /// Where it keeps its data instead, and the words that bring it there (`nsenter …`), each of which must
    /// exec the next so that the process stays the same.
    #[must_use]
    pub fn placed(mut self, data_dir: &Path, prefix: Vec<OsString>) -> Self {
        data_dir.clone_into(&mut self.data_dir);
        self.prefix = prefix;
        self
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// It ends or says nothing in time; the text has the end of its log.
    pub async fn start(&self) -> Server {
        let mut child = self.command().spawn().unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error} (LONGHAND_BIN names another)",
                self.binary.display()
            )
        });
        let stdout = child.stdout.take().expect("stdout is piped above");
        let mut lines = BufReader::new(stdout).lines();
        let line = wait::within("the server to listen", lines.next_line()).await;
        let ready = line
            .ok()
            .flatten()
            .and_then(|line| serde_json::from_str::<Value>(&line).ok());
        let Some(address) = ready.as_ref().and_then(listening) else {
            panic!(
                "the server did not say where it listens ({ready:?}); its log ends:\n{}",
                tail(&self.log)
            );
        };
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.expect("a child that was not waited for has a process id");
        Server {
            child,
            pid,
            address,
            log: self.log.clone(),
            socket: self.data_dir.join("control.sock"),
            _stdout: lines,
        }
    }

    /// Starts what must refuse to serve; what it says until it ends.
    ///
    /// # Panics
    /// It listens, or does not end in time.
    pub async fn refused(&self) -> String {
        let before = std::fs::read(&self.log).unwrap_or_default().len();
        let mut child = self.command().spawn().expect("it starts");
        let ended = wait::within("the server to refuse", child.wait()).await;
        let log = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&log[before..]).into_owned();
        let ended = ended.expect("a child can be waited for");
        assert!(!ended.success(), "it served: {said}");
        said
    }

    fn command(&self) -> Command {
        let mut words = self
            .prefix
            .iter()
            .cloned()
            .chain([self.binary.clone().into_os_string()]);
        let mut command = Command::new(words.next().expect("the binary is always there"));
        command.args(words);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&self.data_dir);
        command.args(&self.arguments);
        for name in FOREIGN
            .map(OsString::from)
            .into_iter()
            .chain(setting::of_servers())
        {
            command.env_remove(name);
        }
        command
            .env("LONGHAND_API_KEY", KEY)
            .env("LONGHAND_EGRESS_ALLOW_PRIVATE", "127.0.0.0/8")
            // No suite dials outside: one that tests the network switches it on, in a namespace of its own.
            .env("LONGHAND_EGRESS_ENABLED", "false")
            // Long enough for a server that is started again, and soon gone if none is.
            .env("LONGHAND_SANDBOX_ORPHAN_SECONDS", "15");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_or_else(|_| Stdio::inherit(), Stdio::from);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true);
        command
    }
}

fn listening(ready: &Value) -> Option<SocketAddr> {
    ready["listening"]
        .as_str()?
        .strip_prefix("http://")?
        .trim_end_matches('/')
        .parse()
        .ok()
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: Pid,
    address: SocketAddr,
    log: PathBuf,
    socket: PathBuf,
    /// Kept open: a server that prints to a closed pipe is ended by the kernel.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// A client of it.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(self.address, KEY)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// What it says of itself to operators.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn status(&self) -> Result<Value, Failed> {
        control(&self.socket, "/v1/x/status").await
    }

    /// Sends SIGKILL at once, without waiting for anything.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Tells it that what it read may have changed (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops it where it stands (SIGSTOP): its connections stay, and nothing answers on them.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT) as if no time had passed.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // The child is waited for only in `ended`, which takes the server: the id is still its own. That it
        // has ended already is a result that the test will see.
        let _ = kill_process(self.pid, signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It did not end in time.
    pub async fn ended(mut self) -> ExitStatus {
        let ended = wait::within("the server to end", self.child.wait()).await;
        ended.expect("a child can be waited for")
    }

    /// The end of its log.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log ends ---\n{}", self.tail());
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
