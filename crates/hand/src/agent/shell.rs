//! Owns the one persistent bash of a sandbox. It never waits for background children of a command.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::ansi::Stripper;
use super::calls::Cancel;
use super::clock::Clock;
use super::reaper::{Exit, Reaper, Started};
use super::tree;
use crate::limits::BASH_OUTPUT_BYTES;

/// The reserve between the end of a shell and the reaper's word about it.
const EXIT_WAIT: Duration = Duration::from_secs(5);
/// How long a shell that was sent SIGKILL may take to be dead.
const ENDED_WAIT: Duration = Duration::from_secs(2);
/// What one drain takes at most, so that a background writer cannot keep it busy for ever.
const DRAIN_BYTES: usize = 1 << 20;

/// How a command ended.
pub(crate) enum Ended {
    /// The shell goes on.
    Command { code: i32 },
    /// The command ended the shell itself (`exit`, `exec`, `set -e`).
    Shell { exit: Exit },
    /// It ran too long; the shell was killed.
    TimedOut,
    /// The call was cancelled; the shell was killed.
    Cancelled,
}

/// From where to look for the status pipe's number in bash: out of the way of what scripts use.
const STATUS_NUMBER: i32 = 231;

pub(crate) struct Shell {
    pid: Pid,
    pidfd: OwnedFd,
    exit: Receiver<Exit>,
    stdin: File,
    status: File,
    /// The number of the status pipe inside bash.
    status_number: i32,
    output: Arc<Mutex<Collected>>,
}

/// The last bytes of output, and the pipe they come from.
struct Collected {
    pipe: File,
    stripper: Stripper,
    tail: VecDeque<u8>,
    cut: bool,
}

impl Shell {
    pub(crate) fn start(reaper: &Reaper) -> io::Result<Self> {
        let (output_rx, output_tx) = pipe_with(PipeFlags::CLOEXEC)?;
        let (status_rx, status_tx) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin_rx, stdin_tx) = pipe_with(PipeFlags::CLOEXEC)?;
        for end in [&output_rx, &status_rx, &stdin_tx] {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        let mut command = Command::new("/bin/bash");
        command
            .args(["--noprofile", "--norc"])
            .current_dir("/workspace")
            .process_group(0);
        command
            .stdin(stdin_rx)
            .stdout(output_tx.try_clone()?)
            .stderr(Stdio::from(output_tx));
        let status_tx = rustix::io::fcntl_dupfd_cloexec(&status_tx, STATUS_NUMBER)?;
        let status_number = status_tx.as_raw_fd();
        let started = reaper.spawn(&mut command, || {
            Ok(rustix::io::fcntl_setfd(
                &status_tx,
                rustix::io::FdFlags::empty(),
            )?)
        });
        drop((command, status_tx));
        let Started {
            child: _,
            pid,
            pidfd,
            exit,
        } = started?;
        let pipe = File::from(output_rx);
        let watch = pipe.try_clone()?;
        let output = Arc::new(Mutex::new(Collected {
            pipe,
            stripper: Stripper::default(),
            tail: VecDeque::new(),
            cut: false,
        }));
        let collected = Arc::clone(&output);
        thread::Builder::new()
            .name("output".into())
            .stack_size(64 * 1024)
            .spawn(move || collect(&watch, &collected))?;
        let (stdin, status) = (File::from(stdin_tx), File::from(status_rx));
        Ok(Self {
            pid,
            pidfd,
            exit,
            stdin,
            status,
            status_number,
            output,
        })
    }

    /// Runs one command to its end, to `timeout`, or to cancellation.
    pub(crate) fn run(
        &mut self,
        command: &str,
        timeout: Duration,
        cancel: &Cancel,
        clock: &Clock,
    ) -> Ended {
        let line = self.line(command);
        let mut unsent = line.as_bytes();
        let deadline = clock.now() + timeout;
        loop {
            let Some(left) = clock.left(deadline) else {
                self.kill();
                return Ended::TimedOut;
            };
            let (mut stdin_ready, mut status_ready, mut ended) = (false, false, false);
            {
                let writing = if unsent.is_empty() {
                    PollFlags::empty()
                } else {
                    PollFlags::OUT
                };
                let mut fds = [
                    PollFd::new(&self.status, PollFlags::IN),
                    PollFd::new(&self.pidfd, PollFlags::IN),
                    PollFd::from_borrowed_fd(cancel.event(), PollFlags::IN),
                    PollFd::new(&self.stdin, writing),
                ];
                if poll(&mut fds, Timespec::try_from(left).ok().as_ref()).is_ok() {
                    status_ready = fds[0].revents().contains(PollFlags::IN);
                    ended = !fds[1].revents().is_empty();
                    stdin_ready = fds[3].revents().contains(PollFlags::OUT);
                }
            }
            if cancel.is_wanted() {
                self.kill();
                return Ended::Cancelled;
            }
            if status_ready && let Some(code) = self.read_status() {
                return Ended::Command { code };
            }
            if ended {
                let unknown = Exit {
                    code: None,
                    signal: None,
                };
                let exit = self.exit.recv_timeout(EXIT_WAIT).unwrap_or(unknown);
                return Ended::Shell { exit };
            }
            if stdin_ready && !unsent.is_empty() {
                // An error here is the shell's end, which the next round sees.
                let sent = (&self.stdin).write(unsent).unwrap_or(0);
                unsent = &unsent[sent..];
            }
        }
    }

    /// The command as one line for bash: quoted, so that whatever it lacks it cannot take from the
    /// next one; without a terminal, the status pipe or our stdin in its hands.
    fn line(&self, command: &str) -> String {
        let quoted = command.replace('\'', r"'\''");
        let number = self.status_number;
        format!(
            "builtin eval '{quoted}' </dev/null {number}>&-\nbuiltin printf '%d\\n' \"$?\" >&{number}\n"
        )
    }

    fn read_status(&self) -> Option<i32> {
        let mut line = [0; 16];
        let n = (&self.status).read(&mut line).ok()?;
        std::str::from_utf8(&line[..n]).ok()?.trim().parse().ok()
    }

    /// What was printed since the last call, background children included.
    pub(crate) fn take_output(&self) -> String {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.drain();
        let cut = std::mem::take(&mut output.cut);
        let tail = Vec::from(std::mem::take(&mut output.tail));
        // A cut may have hit the middle of a character.
        let start = tail
            .iter()
            .position(|byte| byte & 0xc0 != 0x80)
            .unwrap_or(tail.len());
        let tail = if cut { &tail[start..] } else { &tail[..] };
        let text = String::from_utf8_lossy(tail);
        let text = text.trim_end_matches(['\n', '\r']);
        if cut {
            format!("[output truncated]\n{text}")
        } else {
            text.to_owned()
        }
    }

    /// Whether it has ended though nothing asked it to. Waits for one that was killed.
    pub(crate) fn has_ended(&self) -> bool {
        let wait = Timespec::try_from(ENDED_WAIT).ok();
        poll(
            &mut [PollFd::new(&self.pidfd, PollFlags::IN)],
            wait.as_ref(),
        )
        .is_ok_and(|n| n > 0)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Kills the shell and all that descends from it.
    pub(crate) fn kill(&self) {
        tree::kill(self.pid);
    }
}

impl Collected {
    /// Takes what is in the pipe now; false at its end.
    fn drain(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let mut taken = 0;
        while taken < DRAIN_BYTES {
            match self.pipe.read(&mut piece) {
                Ok(0) => return false,
                Ok(n) => {
                    taken += n;
                    self.keep(&piece[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn keep(&mut self, piece: &[u8]) {
        let tail = &mut self.tail;
        self.stripper.strip(piece, |byte| tail.push_back(byte));
        if self.tail.len() > BASH_OUTPUT_BYTES {
            self.tail.drain(..self.tail.len() - BASH_OUTPUT_BYTES);
            self.cut = true;
        }
    }
}

/// Empties the pipe also between calls, so that a background writer never blocks. Ends with the
/// last process that holds the pipe.
fn collect(watch: &File, output: &Mutex<Collected>) {
    loop {
        match poll(
            &mut [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)],
            None,
        ) {
            Ok(_) => {
                if !output
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .drain()
                {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
