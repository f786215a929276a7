//! Owns the processes that there are: which run, stopping them, killing one with all that descends from it. It reaps nothing.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{COMMAND_CHARS, LISTED_PROCESSES};
use crate::wire::Running;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

/// How long killed processes may take to be dead. One in the middle of disk IO can take long; the
/// call is answered all the same.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// How long to wait before looking again whether one is dead that nothing tells of.
const DEAD_RETRY: Duration = Duration::from_millis(5);

/// The unit of `/proc/PID/stat` for every program, whatever the kernel counts in (time(7)).
const TICKS_PER_SECOND: u64 = 100;

/// What was stopped for a pause.
static STOPPED: LazyLock<Mutex<HashSet<i32>>> = LazyLock::new(Mutex::default);

/// How often [`kill_all`] was called.
static ENDED: AtomicU64 = AtomicU64::new(0);

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
    let dying: Vec<Dying> = known.iter().filter_map(|pid| Dying::of(*pid)).collect();
    kill_group(root);
    for pid in known {
        signal(pid, Signal::KILL);
    }
    wait_for_all(&dying);
}

/// SIGKILL to every process of the sandbox but the hand, at once: none can start another in between.
pub(crate) fn kill_all() {
    ENDED.fetch_add(1, Ordering::SeqCst);
    // This is kill(-1): it spares the caller. Source: kill(2). That nothing runs is no failure.
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
}

/// How often all was killed: a shell that is gone since then was not its user's to end.
pub(crate) fn times_ended() -> u64 {
    ENDED.load(Ordering::SeqCst)
}

/// SIGKILL to what is left of the group of a process that has ended.
pub(crate) fn kill_group(root: Pid) {
    let _ = kill_process_group(root, Signal::KILL);
}

/// A process that is about to be killed.
enum Dying {
    Known(OwnedFd),
    /// Where there are no descriptors of processes, as in gVisor. It may be another one by now, which costs a wait.
    Numbered(i32),
}

impl Dying {
    fn of(number: i32) -> Option<Self> {
        let pid = Pid::from_raw(number).filter(|pid| !pid.is_init())?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Some(Self::Known(pidfd)),
            Err(Errno::NOSYS) => Some(Self::Numbered(number)),
            Err(_) => None,
        }
    }

    fn wait(&self, deadline: Instant) {
        let left = || deadline.checked_duration_since(Instant::now());
        match self {
            Self::Known(pidfd) => {
                let left = Timespec::try_from(left().unwrap_or_default()).ok();
                // An interruption is as rare as it is harmless here.
                let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], left.as_ref());
            }
            Self::Numbered(pid) => {
                while !has_ended(*pid) && left().is_some() {
                    thread::sleep(DEAD_RETRY);
                }
            }
        }
    }
}

/// So that who is told that a command was killed finds nothing of it still writing.
fn wait_for_all(dying: &[Dying]) {
    let deadline = Instant::now() + KILL_WAIT;
    for process in dying {
        if Instant::now() >= deadline {
            return;
        }
        process.wait(deadline);
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|pid| !pid.is_init()) {
        let _ = kill_process(pid, signal);
    }
}

/// Stops every process but the hand, until none is found that runs. What was stopped before stays so.
pub(crate) fn stop_all() {
    let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ROUNDS {
        let running = numbers().filter(|pid| *pid != 1 && runs(*pid));
        let running: Vec<i32> = running.filter(|pid| stopped.insert(*pid)).collect();
        for pid in &running {
            signal(*pid, Signal::STOP);
        }
        if running.is_empty() {
            break;
        }
    }
}

/// Lets go on what [`stop_all`] stopped.
pub(crate) fn resume_all() {
    let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
    for pid in stopped.drain() {
        signal(pid, Signal::CONT);
    }
}

/// What runs, the hand left out, by number.
pub(crate) fn running() -> Vec<Running> {
    let mut running: Vec<Running> = numbers()
        .filter(|pid| *pid != 1)
        .filter_map(describe)
        .take(LISTED_PROCESSES)
        .collect();
    running.sort_by_key(|process| process.pid);
    running
}

/// Source of the fields: proc_pid_stat(5), proc_pid_status(5).
fn describe(pid: i32) -> Option<Running> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)?.saturating_add(number(12)?);
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let words = line.trim_end_matches('\0').replace(['\0', '\n'], " ");
    let command = if words.is_empty() {
        name.split_once('(').map_or("", |(_, name)| name).to_owned()
    } else {
        words
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let held = held.and_then(|held| held.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Some(Running {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        command: command.chars().take(COMMAND_CHARS).collect(),
        cpu_ms: ticks.saturating_mul(1000) / TICKS_PER_SECOND,
        memory_bytes: held.unwrap_or_default().saturating_mul(1024),
    })
}

/// Whether it neither has ended nor is stopped.
fn runs(pid: i32) -> bool {
    !matches!(state(pid), None | Some('T' | 'Z' | 'X'))
}

fn has_ended(pid: i32) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

/// As in proc_pid_stat(5); `None` when there is no such process.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// The processes that there are, by their numbers.
pub(crate) fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes whose parent is in `known` and that are not; adds them.
fn descendants(known: &mut HashSet<i32>) -> Vec<i32> {
    let mut new = Vec::new();
    for pid in numbers() {
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
