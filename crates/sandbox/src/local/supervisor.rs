//! Owns the server's end of the conversation with one supervisor. It never speaks to a hand.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jail::control;
use jail::plan::{Live, Report, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::error::{Doing, Error};

/// How long to wait before looking again whether a process that is about to end has ended.
const ENDED_RETRY: Duration = Duration::from_millis(5);

/// A supervisor that this process looks after a sandbox with. Dropped, it is told to end the sandbox,
/// unless that is left to the next server.
pub(super) struct Supervisor {
    /// Of packets; only to wait for them it is taken for a stream.
    control: UnixStream,
    /// None before its first word.
    process: Option<OwnedFd>,
    told: Told,
    leaving: Arc<AtomicBool>,
}

/// What it has been told about the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    ToEnd,
}

/// A sandbox that runs, as its supervisor describes it.
pub(super) struct Body {
    pub(super) live: Live,
    /// Of its PID 1; readable when that and all others in there have ended.
    pub(super) pid_one: OwnedFd,
    /// A line to the hand, if it came with this.
    pub(super) line: Option<OwnedFd>,
    /// What leads out of its network, until somebody carries that.
    pub(super) ways_out: Option<[OwnedFd; 3]>,
}

/// Whether a process could not be opened because it has ended since it was connected to. Which errno the
/// kernel gives depends on its version and on whether it has been reaped. Source: kernel/pid.c, `pidfd_open`.
fn has_ended(errno: Errno) -> bool {
    [Errno::SRCH, Errno::INVAL, Errno::NOENT].contains(&errno)
}

impl Supervisor {
    /// The one that is being born with the other end of `control`.
    pub(super) fn expected(control: OwnedFd, leaving: &Arc<AtomicBool>) -> io::Result<Self> {
        Self::new(control, None, leaving)
    }

    /// The one that listens in a sandbox's directory; `None` when none does.
    pub(super) fn found(
        directory: &OwnedFd,
        leaving: &Arc<AtomicBool>,
    ) -> io::Result<Option<Self>> {
        match control::connect(directory) {
            Ok((control, pid)) => match pidfd_open(pid, PidfdFlags::empty()) {
                Err(errno) if has_ended(errno) => Ok(None),
                found => Self::new(control, Some(found?), leaving).map(Some),
            },
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }

    pub(super) fn new(
        control: OwnedFd,
        process: Option<OwnedFd>,
        leaving: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let control = std::os::unix::net::UnixStream::from(control);
        control.set_nonblocking(true)?;
        Ok(Self {
            control: UnixStream::from_std(control)?,
            process,
            told: Told::Nothing,
            leaving: Arc::clone(leaving),
        })
    }

    /// Says one thing. Never waits: its side is empty but for what this process said before.
    pub(super) fn tell(&self, value: &impl Serialize) -> Result<(), Error> {
        self.give(value, None)
    }

    /// The same, with a descriptor beside it that it is to hold.
    pub(super) fn give(
        &self,
        value: &impl Serialize,
        held: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let doing = || "talk to the supervisor".to_owned();
        control::send(&self.control, value, held.as_slice()).doing(doing)
    }

    /// Tells it to end the sandbox. How that went is what it says last, which waits to be heard also if it has gone.
    pub(super) fn end(&mut self) {
        self.told = Told::ToEnd;
        // One that has gone needs no word.
        let _ = control::send(&self.control, &Request::End, &[]);
    }

    /// The next thing it says, and what came beside that; `None` when it has gone or talks nonsense.
    ///
    /// Cancel safe: yes.
    pub(super) async fn report(&self) -> Option<(Report, Vec<OwnedFd>)> {
        loop {
            let receive = || control::receive(&self.control);
            match self.control.async_io(Interest::READABLE, receive).await {
                // It has gone, and a word to it was left unread. The kernel tells that first, once; what it said itself
                // comes after.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                report => return report.ok().flatten(),
            }
        }
    }

    /// Lets it go without a word: the sandbox is somebody else's, or the next server's.
    pub(super) fn forget(mut self) {
        self.told = Told::ToEnd;
    }

    /// Whether its sandbox is left to the next server.
    pub(super) fn is_left(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether it has said its first word: from then on it can be killed.
    ///
    /// Cancel safe: yes.
    pub(super) async fn is_here(&mut self) -> bool {
        if self.process.is_none()
            && let Some((Report::Here, descriptors)) = self.report().await
        {
            self.process = descriptors.into_iter().next();
        }
        self.process.is_some()
    }

    /// SIGKILL. PID 1 has its death as its death signal.
    pub(super) fn kill(&self) {
        let process = self.process.as_ref();
        let killed = process.map(|process| pidfd_send_signal(process, Signal::KILL));
        tracing::warn!(?killed, "a supervisor did not end and was killed");
    }

    /// Returns when it has ended; of one that has never said a word nothing is known.
    pub(super) async fn ended(&self) {
        if let Some(process) = &self.process {
            ended(process).await;
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if self.told == Told::Nothing && !self.is_left() {
            // One that has gone needs no word.
            let _ = control::send(&self.control, &Request::End, &[]);
        }
    }
}

/// Returns when the process of this pidfd has ended. As a rule it has, or is about to, when this is called.
pub(super) async fn ended(process: &OwnedFd) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    // Looking cannot fail on a descriptor that is open; if it did, waiting would not help.
    while poll(&mut fds, Some(&now)) == Ok(0) {
        sleep(ENDED_RETRY).await;
    }
}

impl Body {
    /// From what came beside the word that it runs; `None` if a descriptor is missing.
    pub(super) fn new(live: Live, descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors;
        let ways_out = if live.network.is_some() {
            let at = descriptors.len().checked_sub(3)?;
            <[OwnedFd; 3]>::try_from(descriptors.split_off(at)).ok()
        } else {
            None
        };
        let mut descriptors = descriptors.into_iter();
        Some(Self {
            live,
            pid_one: descriptors.next()?,
            line: descriptors.next(),
            ways_out,
        })
    }
}
