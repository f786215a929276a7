//! How often a process really syncs, counted by the kernel's word (strace) and not by ours. Slows the process
//! down: never during a measurement of speed.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A count under way.
pub(crate) struct Count {
    strace: Child,
    log: tempfile::NamedTempFile,
}

/// Starts to count; `None`, and a line on stderr, if this machine has no strace or does not let it.
pub(crate) async fn start(pid: i32) -> Option<Count> {
    let log = tempfile::NamedTempFile::new().ok()?;
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", "trace=fdatasync,fsync", "-o"])
        .arg(log.path())
        .args(["-p", &pid.to_string()]);
    let strace = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut strace) = strace else {
        eprintln!("note: fdatasync is not counted: there is no strace");
        return None;
    };
    let said = BufReader::new(strace.stderr.take()?)
        .lines()
        .next_line()
        .await
        .ok()??;
    if !said.contains("attached") {
        eprintln!("note: fdatasync is not counted: {said}");
        return None;
    }
    Some(Count { strace, log })
}

impl Count {
    /// Ends it; how many syncs there were.
    pub(crate) async fn end(mut self) -> Option<usize> {
        let pid = rustix::process::Pid::from_raw(self.strace.id()?.cast_signed())?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
        tokio::time::timeout(Duration::from_secs(10), self.strace.wait())
            .await
            .ok()?
            .ok()?;
        let log = std::fs::read_to_string(self.log.path()).ok()?;
        // A call that another thread's interrupts is shown on two lines, the second without "sync(".
        Some(log.lines().filter(|line| line.contains("sync(")).count())
    }
}
