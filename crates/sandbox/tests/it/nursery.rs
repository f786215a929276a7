//! Where supervisors come from: each sandbox by itself, whatever becomes of the process that they are born from.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use crate::life::{marker, processes, start_sleeper, supervisor_of};
use crate::support::{host, ok, until};

fn parent(pid: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Pid::from_raw(line.unwrap().trim().parse().unwrap()).unwrap()
}

fn namespace(pid: Pid, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{}/ns/{name}", pid.as_raw_nonzero())).unwrap()
}

fn state(pid: Pid) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("State:"));
    Some(line?.trim().to_owned())
}

#[tokio::test]
async fn every_sandbox_has_a_network_that_nobody_else_is_in_nor_its_nursery() {
    let host = host();
    let (mut networks, mut sandboxes) = (HashSet::new(), Vec::new());
    for n in 0..4 {
        let marker = marker(&format!("network-{n}-"));
        let sandbox = host.attach(&format!("network-{n}")).await;
        ok(&sandbox, &start_sleeper(&marker)).await;
        until("it runs", || async { processes(&marker).len() == 1 }).await;
        let inside = Pid::from_raw(processes(&marker)[0].cast_signed()).unwrap();
        let supervisor = supervisor_of(&marker);
        assert!(networks.insert(namespace(inside, "net")), "sandbox {n}");
        // While it has nothing to do, the nursery is where the next sandbox will be.
        until("the nursery has moved on", || async {
            !networks.contains(&namespace(parent(supervisor), "net"))
        })
        .await;
        assert!(!networks.contains(&namespace(rustix::process::getpid(), "net")));
        sandboxes.push(sandbox);
    }
}

#[tokio::test]
async fn a_nursery_that_was_killed_takes_no_sandbox_with_it_and_another_takes_its_place() {
    let host = host();
    let (first, second) = (marker("born-first-"), marker("born-second-"));
    let kept = host.attach("first").await;
    ok(&kept, &start_sleeper(&first)).await;
    until("it runs", || async { processes(&first).len() == 1 }).await;
    let nursery = parent(supervisor_of(&first));
    kill_process(nursery, Signal::KILL).unwrap();
    until("it is gone", || async {
        state(nursery).is_none_or(|state| state.starts_with('Z'))
    })
    .await;
    let sandbox = host.attach("second").await;
    ok(&sandbox, &start_sleeper(&second)).await;
    until("it runs", || async { processes(&second).len() == 1 }).await;
    assert_ne!(parent(supervisor_of(&second)), nursery);
    ok(&kept, "true").await;
}

#[tokio::test]
async fn a_supervisor_that_has_ended_leaves_no_zombie_behind() {
    let host = host();
    let marker = marker("no-zombie-");
    let sandbox = host.attach("ended").await;
    ok(&sandbox, &start_sleeper(&marker)).await;
    until("it runs", || async { processes(&marker).len() == 1 }).await;
    let supervisor = supervisor_of(&marker);
    sandbox.stop().await.unwrap();
    until("nothing is left of it", || async {
        state(supervisor).is_none()
    })
    .await;
}
