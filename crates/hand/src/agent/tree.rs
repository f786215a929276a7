//! Owns killing a process with all that descends from it. It reaps nothing.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

/// How long killed processes may take to be dead. One in the middle of disk IO can take long; the
/// call is answered all the same.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// Rounds after which a tree that forks faster than it is killed is left to the sandbox's end.
const ROUNDS: usize = 64;

/// SIGKILL to the process group of `root` and to every descendant, until none is found; returns when
/// they are dead, or after [`KILL_WAIT`].
///
/// What has already detached itself to PID 1 in a group of its own stays: that is a daemon.
pub(crate) fn kill(root: Pid) {
    let mut known: HashSet<i32> = HashSet::from([root.as_raw_nonzero().get()]);
    for _ in 0..ROUNDS {
        // First stopped, so that no parent can start another while its children are killed.
        let found = descendants(&mut known);
        for pid in &found {
            signal(*pid, Signal::STOP);
        }
        if found.is_empty() {
            break;
        }
    }
    let dying: Vec<OwnedFd> = known.iter().filter_map(|pid| handle(*pid)).collect();
    kill_group(root);
    for pid in known {
        signal(pid, Signal::KILL);
    }
    wait_for_all(&dying);
}

/// SIGKILL to what is left of the group of a process that has ended.
pub(crate) fn kill_group(root: Pid) {
    let _ = kill_process_group(root, Signal::KILL);
}

fn handle(pid: i32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid).filter(|pid| !pid.is_init())?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// So that who is told that a command was killed finds nothing of it still writing.
fn wait_for_all(dying: &[OwnedFd]) {
    let deadline = Instant::now() + KILL_WAIT;
    for process in dying {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return;
        };
        let left = Timespec::try_from(left).ok();
        // An interruption is as rare as it is harmless here.
        let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref());
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|pid| !pid.is_init()) {
        let _ = kill_process(pid, signal);
    }
}

/// Processes whose parent is in `known` and that are not; adds them.
fn descendants(known: &mut HashSet<i32>) -> Vec<i32> {
    let mut new = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return new;
    };
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Some(parent) = parent(pid)
            && known.contains(&parent)
            && !known.contains(&pid)
        {
            new.push(pid);
        }
    }
    known.extend(&new);
    new
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, so fields are counted from the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
