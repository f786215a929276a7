//! Owns killing a process with all that descends from it. It reaps nothing.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Rounds after which a tree that forks faster than it is killed is left to the sandbox's end.
const ROUNDS: usize = 64;

/// SIGKILL to the process group of `root` and to every descendant, until none is found.
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
    let _ = kill_process_group(root, Signal::KILL);
    for pid in known {
        signal(pid, Signal::KILL);
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
