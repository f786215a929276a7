//! Owns the one persistent bash of a sandbox. It never waits for background children of a command.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::calls::Cancel;
use super::clock::Clock;
use super::output::{Log, Outputs};
use super::reaper::{Exit, Reaper, Started};
use super::tree;

/// The reserve between the end of a shell and the reaper's word about it.
const EXIT_WAIT: Duration = Duration::from_secs(5);
/// How long a shell that was sent SIGKILL may take to be dead.
const ENDED_WAIT: Duration = Duration::from_secs(2);

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
    /// Readable when it has ended.
    ended_fd: OwnedFd,
    exit: Receiver<Exit>,
    stdin: File,
    status: File,
    /// The number of the status pipe inside bash.
    status_number: i32,
    output: Arc<Outputs>,
}

impl Shell {
    pub(crate) fn start(
        reaper: &Reaper,
        log: &Arc<Mutex<Log>>,
        variables: Vec<(String, String)>,
    ) -> io::Result<Self> {
        let (output_rx, output_tx) = pipe_with(PipeFlags::CLOEXEC)?;
        let (status_rx, status_tx) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin_rx, stdin_tx) = pipe_with(PipeFlags::CLOEXEC)?;
        for end in [&output_rx, &status_rx, &stdin_tx] {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        let mut command = Command::new("/bin/bash");
        command
            .args(["--noprofile", "--norc"])
            .envs(variables)
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
            ended: ended_fd,
            exit,
        } = started?;
        let output = Outputs::collect(File::from(output_rx), log)?;
        let (stdin, status) = (File::from(stdin_tx), File::from(status_rx));
        Ok(Self {
            pid,
            ended_fd,
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
        let line = self.line(command, self.output.begin(command).as_deref());
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
                    PollFd::new(&self.ended_fd, PollFlags::IN),
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
                let exit = self.exit.recv_timeout(EXIT_WAIT).unwrap_or(Exit::UNKNOWN);
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
    /// next one; without a terminal, the status pipe or our stdin in its hands; with what it prints going to
    /// the pipe of that name.
    fn line(&self, command: &str, pipe: Option<&str>) -> String {
        let quoted = command.replace('\'', r"'\''");
        let number = self.status_number;
        let to = pipe.map_or_else(String::new, |pipe| format!(">{pipe} 2>&1"));
        format!(
            "builtin eval '{quoted}' </dev/null {to} {number}>&-\nbuiltin printf '%d\\n' \"$?\" >&{number}\n"
        )
    }

    fn read_status(&self) -> Option<i32> {
        let mut line = [0; 16];
        let n = (&self.status).read(&mut line).ok()?;
        std::str::from_utf8(&line[..n]).ok()?.trim().parse().ok()
    }

    /// What was printed since the last call. See [`Outputs::take`].
    pub(crate) fn take_output(&self) -> String {
        self.output.take()
    }

    /// Whether it has ended though nothing asked it to. Waits for one that was killed.
    pub(crate) fn has_ended(&self) -> bool {
        let wait = Timespec::try_from(ENDED_WAIT).ok();
        poll(
            &mut [PollFd::new(&self.ended_fd, PollFlags::IN)],
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
