//! Owns starting and reaping every child of PID 1, adopted ones included. It kills nobody.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, WaitId, WaitIdOptions, WaitOptions, getrlimit, pidfd_open,
    prlimit, wait, waitid,
};

use crate::limits::{OOM_SCORE, PROCESS_RESERVE};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

impl Exit {
    /// Somebody else has it, and nobody tells.
    pub(crate) const UNKNOWN: Self = Self {
        code: None,
        signal: None,
    };
}

/// A process that was just started.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) pid: Pid,
    /// Becomes readable when the process ends.
    pub(crate) ended: OwnedFd,
    /// Gets its end once.
    pub(crate) exit: Receiver<Exit>,
}

/// Reaps; tells who started a process how it ended.
#[derive(Clone)]
pub(crate) struct Reaper(Arc<Shared>);

struct Shared {
    waiting: Mutex<HashMap<Pid, Waiting>>,
    started: Condvar,
}

/// Who waits for the end of a process.
struct Waiting {
    tx: SyncSender<Exit>,
    /// Closes with this; see [`end_of`].
    _open: Option<OwnedFd>,
}

impl Reaper {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            started: Condvar::new(),
        });
        let reaper = Self(Arc::clone(&shared));
        thread::Builder::new()
            .name("reaper".into())
            .stack_size(64 * 1024)
            .spawn(move || reap(&shared))?;
        Ok(reaper)
    }

    /// Starts `command`. The lock is held over the start, so the
    /// reaper cannot take the end of a process before it is known; and no other process is started
    /// meanwhile, so a descriptor that `prepare` makes inheritable goes to this one only.
    pub(crate) fn spawn(
        &self,
        command: &mut Command,
        prepare: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Started> {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        prepare()?;
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        keep_a_reserve(pid);
        go_before_the_hand(pid);
        let (ended, open) = end_of(pid)?;
        let (tx, exit) = sync_channel(1);
        waiting.insert(pid, Waiting { tx, _open: open });
        self.0.started.notify_one();
        Ok(Started {
            child,
            pid,
            ended,
            exit,
        })
    }

    /// Reaps what has ended by now. Whoever did so meanwhile has told it when this returns.
    pub(crate) fn take_ended(&self) {
        take_ended(&self.0);
    }
}

/// What becomes readable when a child ends: its pidfd. Where there are none, as in gVisor, a pipe whose other end is held
/// until the child is reaped.
fn end_of(child: Pid) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    match pidfd_open(child, PidfdFlags::empty()) {
        Err(Errno::NOSYS) => {
            let (ended, open) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok((ended, Some(open)))
        }
        other => Ok((other?, None)),
    }
}

/// Lets a child and its descendants make a few processes fewer than the hand, so that a fork bomb
/// does not take from the hand the threads that answer the next call.
fn keep_a_reserve(child: Pid) {
    let own = getrlimit(Resource::Nproc);
    let Some(most) = own.maximum else { return };
    let most = Some(most.saturating_sub(PROCESS_RESERVE));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    // It may have ended already; without the limit it is only less well bounded.
    let _ = prlimit(Some(child), Resource::Nproc, limit);
}

/// Makes a child and its descendants what the kernel ends first when the sandbox is short of memory:
/// without the hand all of it is gone. Raising it needs no right.
fn go_before_the_hand(child: Pid) {
    let file = format!("/proc/{}/oom_score_adj", child.as_raw_nonzero());
    // It may have ended already.
    let _ = std::fs::write(file, OOM_SCORE.to_string());
}

fn reap(shared: &Shared) {
    loop {
        // Looks without taking: the end stays until the map is locked.
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) | Err(Errno::INTR) => take_ended(shared),
            Err(_) => {
                // No child at all; a new one can only come from `spawn`.
                let waiting = shared
                    .waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if waiting.is_empty() {
                    drop(
                        shared
                            .started
                            .wait(waiting)
                            .unwrap_or_else(PoisonError::into_inner),
                    );
                }
            }
        }
    }
}

fn take_ended(shared: &Shared) {
    let mut waiting = shared
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if let Some(one) = waiting.remove(&pid) {
            let exit = Exit {
                code: status.exit_status(),
                signal: status.terminating_signal(),
            };
            // Nobody listens any more, or there is room for the one value: never blocks.
            let _ = one.tx.try_send(exit);
        }
    }
}
