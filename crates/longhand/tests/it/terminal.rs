//! The binary's commands, in a pipe and on a terminal (a pty) with somebody who types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use testkit::{setting, wait};
use tokio::process::{Child, Command};

/// `longhand WORDS` on a data directory, with nothing of this environment that would steer it.
pub fn command(data_dir: &Path, words: &[&str]) -> Command {
    let binary = setting::binary().unwrap_or_else(|| env!("CARGO_BIN_EXE_longhand").into());
    let mut command = Command::new(binary);
    for name in setting::of_servers() {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    command.arg("--data-dir").arg(data_dir).args(words);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What it says into a pipe.
pub async fn piped(data_dir: &Path, words: &[&str]) -> Output {
    let output = command(data_dir, words).output();
    wait::within("the command to end", output)
        .await
        .expect("it runs")
}

/// The JSON lines that a command that must succeed prints.
pub async fn lines(data_dir: &Path, words: &[&str]) -> Vec<Value> {
    let output = piped(data_dir, words).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    let line = |line: &str| serde_json::from_str(line).expect("a line of JSON");
    said.lines().map(line).collect()
}

/// A command on a terminal.
pub struct Terminal {
    child: Child,
    keys: File,
    seen: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let size = Winsize {
            ws_row: 50,
            ws_col: 160,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("a size");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("the other end");
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("it runs");
        drop(command);
        drop(slave);
        let keys = File::from(master);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut screen, kept) = (keys.try_clone().expect("a descriptor"), Arc::clone(&seen));
        // It ends when the last process on the terminal does.
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..read]);
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        Self {
            child,
            keys,
            seen,
            reader,
        }
    }

    /// Everything that was shown until now.
    pub fn seen(&self) -> String {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `text` was shown `times` times; everything until then.
    pub async fn shows(&self, text: &str, times: usize) -> String {
        let begun = std::time::Instant::now();
        loop {
            let seen = self.seen();
            if seen.matches(text).count() >= times {
                return seen;
            }
            assert!(
                begun.elapsed() < wait::deadline(),
                "{text:?} was not shown {times} times:\n{seen}"
            );
            wait::pass(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        writeln!(self.keys, "{line}").expect("the terminal is open");
    }

    /// Waits for its end; all that was shown, and whether it succeeded.
    pub async fn ends(mut self) -> (String, bool) {
        let status = wait::within("the command to leave the terminal", self.child.wait()).await;
        let status = status.expect("a child can be waited for");
        let reader = tokio::task::spawn_blocking(move || self.reader.join());
        let read = wait::within("the terminal's last words", reader).await;
        read.expect("it runs").expect("it reads");
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.clone(), status.success())
    }
}
