//! The supervisor that waits for the next sandbox: what a start takes of it, what it keeps from the host, and that
//! nothing of it is left, whoever is killed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};

use sandbox::Sandbox;

use crate::support::{Host, host, ok, until};

/// More than are needed until one that waited is missed or taken.
const STARTS: usize = 4;

/// A supervisor that waits, and the child that is to be its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    supervisor: Pid,
    child: Pid,
}

fn field(pid: Pid, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Some(line?.trim().to_owned())
}

fn children(of: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pids = pids.filter_map(Pid::from_raw);
    let parent = of.as_raw_nonzero().to_string();
    let ours = |pid: &Pid| field(*pid, "PPid:").is_some_and(|it| it == parent);
    pids.filter(ours).collect()
}

fn is_gone(pid: Pid) -> bool {
    field(pid, "State:").is_none_or(|state| state.starts_with('Z'))
}

/// The one of this process that waits, if it is as far as that: its child has left the host's mounts.
fn waiting() -> Option<Waiting> {
    let nurseries = children(rustix::process::getpid());
    let supervisors = nurseries.into_iter().flat_map(children);
    let mut found = supervisors.filter_map(|supervisor| {
        let child = *children(supervisor).first()?;
        let waits = field(child, "Name:")? == "supervisor" && kinds(child).len() > 1;
        let left = kinds(child)
            .iter()
            .all(|kind| kind != "ext4" && kind != "sysfs");
        (waits && left).then_some(Waiting { supervisor, child })
    });
    found.next()
}

/// The kinds of file systems that it sees.
fn kinds(pid: Pid) -> Vec<String> {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", pid.as_raw_nonzero()));
    let mounts = mounts.unwrap_or_default();
    let kind = |line: &str| Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned());
    mounts.lines().filter_map(kind).collect()
}

/// How many cgroups of that supervisor there are.
fn groups_of(supervisor: Pid) -> usize {
    fn below(dir: &Path, name: &str, levels: usize) -> usize {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        dirs.map(|entry| {
            let own = entry.file_name().to_string_lossy().starts_with(name);
            let more = match levels {
                0 => 0,
                _ => below(&entry.path(), name, levels - 1),
            };
            usize::from(own) + more
        })
        .sum()
    }
    let name = format!("longhand-{}-", supervisor.as_raw_nonzero());
    below(Path::new("/sys/fs/cgroup"), &name, 4)
}

/// Starts sandboxes until one is of that process, and gives that one: the one that waits can be seen a moment before a
/// start can take it.
async fn taken(host: &Host, child: Pid) -> Arc<dyn Sandbox> {
    for number in 0..STARTS {
        let sandbox = host.attach(&format!("next-{number}")).await;
        if is_hand(child) {
            return sandbox;
        }
    }
    panic!("it is not taken by one of {STARTS} starts");
}

/// Whether that is the PID 1 of a sandbox now.
fn is_hand(pid: Pid) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    line.unwrap_or_default().starts_with(b"hand\0")
}

/// A host with one sandbox, after whose start another supervisor waits.
async fn prepared() -> (Host, Waiting) {
    let host = host();
    let sandbox = host.attach("first").await;
    ok(&sandbox, "true").await;
    until("one waits", || async { waiting().is_some() }).await;
    let waits = waiting().unwrap();
    (host, waits)
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_start_takes_the_one_that_waited_once_and_another_comes_to_wait() {
    let (host, waits) = prepared().await;
    let taken = taken(&host, waits.child).await;
    until("another waits", || async {
        waiting().is_some_and(|other| other.supervisor != waits.supervisor)
    })
    .await;
    let other = host.attach("other").await;
    ok(&taken, "touch of-taken").await;
    ok(&other, "test ! -e of-taken").await;
    assert!(is_hand(waits.child));
    taken.stop().await.unwrap();
    assert!(is_gone(waits.child));
    ok(&other, "true").await;
}

#[tokio::test]
async fn one_that_waits_holds_no_file_system_of_the_host() {
    let (_host, waits) = prepared().await;
    // Devices are of the host's own file system in memory.
    let own = ["tmpfs", "proc", "devpts", "devtmpfs"];
    let kinds = kinds(waits.child);
    assert!(
        kinds.iter().all(|kind| own.contains(&kind.as_str())),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn one_that_was_killed_while_it_waited_is_replaced_and_leaves_no_cgroup() {
    let (host, waits) = prepared().await;
    kill(waits.supervisor);
    until("its child has gone with it", || async {
        is_gone(waits.supervisor) && is_gone(waits.child)
    })
    .await;
    // One of them has missed it.
    for number in 0..STARTS {
        let sandbox = host.attach(&format!("next-{number}")).await;
        ok(&sandbox, "true").await;
    }
    until("its cgroups are swept", || async {
        groups_of(waits.supervisor) == 0
    })
    .await;
}

#[tokio::test]
async fn a_waiting_child_that_was_killed_takes_its_supervisor_with_it_and_nothing_is_left() {
    let (host, waits) = prepared().await;
    kill(waits.child);
    until("nothing is left of either", || async {
        is_gone(waits.supervisor) && is_gone(waits.child) && groups_of(waits.supervisor) == 0
    })
    .await;
    let sandbox = host.attach("second").await;
    ok(&sandbox, "true").await;
}

#[tokio::test]
async fn the_one_that_waits_ends_with_its_provider() {
    let (host, waits) = prepared().await;
    host.local.shutdown().await;
    until("nothing is left of it", || async {
        is_gone(waits.supervisor) && is_gone(waits.child) && groups_of(waits.supervisor) == 0
    })
    .await;
    let (host, waits) = prepared().await;
    drop(host);
    until("nothing is left of it", || async {
        is_gone(waits.supervisor) && is_gone(waits.child) && groups_of(waits.supervisor) == 0
    })
    .await;
}
