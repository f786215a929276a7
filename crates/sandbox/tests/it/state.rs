//! What a loop inside remembers (`STATE`): it lasts as long as its session, and no other session has it.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use sandbox::{NewSnapshot, Provider as _, STATE, Sandbox};

use crate::life::{marker, processes, start_sleeper, supervisor_of};
use crate::suite::workspaces::{snapshot_id, workspaces};
use crate::support::{host, id, ok, until};

/// What is there.
async fn remembered(sandbox: &Arc<dyn Sandbox>) -> String {
    ok(sandbox, &format!("cd {STATE}; grep -r . . || true")).await
}

#[tokio::test]
async fn what_a_loop_inside_remembers_outlives_its_sandbox_and_goes_with_its_session() {
    let host = host();
    let one = host.attach("one").await;
    // Nothing inside gets in the way of the next start.
    let remember = "mkdir claude && echo one > claude/log && chmod 600 claude/log";
    let hinder = format!("mv {STATE} /run/moved; mv /run /moved; ln -s /etc {STATE}/link");
    ok(
        &one,
        &format!("{hinder}; cd {STATE} && rm link && {remember}"),
    )
    .await;
    let log = host.path("sandboxes/one/harness/claude/log");
    assert_eq!(std::fs::metadata(log).unwrap().mode() & 0o777, 0o600);
    one.stop().await.unwrap();
    let one = host.attach("one").await;
    assert_eq!(remembered(&one).await, "./claude/log:one", "after a sleep");
    let marker = marker("state");
    ok(&one, &start_sleeper(&marker)).await;
    until("it runs", || async { processes(&marker).len() == 1 }).await;
    rustix::process::kill_process(supervisor_of(&marker), rustix::process::Signal::KILL).unwrap();
    until("it is noticed", || async { !one.is_alive() }).await;
    let one = host.attach("one").await;
    let seen = remembered(&one).await;
    assert!(seen.starts_with("./claude/log:one"), "after a kill: {seen}");
    host.local.delete(&id("one")).await.unwrap();
    let one = host.attach("one").await;
    assert_eq!(remembered(&one).await, "", "after a delete");
}

#[tokio::test]
async fn what_a_loop_inside_remembers_is_in_no_fork_and_a_restore_leaves_it() {
    let host = host();
    let whole = workspaces(&host.local);
    let one = host.attach("one").await;
    ok(
        &one,
        &format!("echo one > {STATE}/log; echo first > /workspace/file"),
    )
    .await;
    let new = NewSnapshot::new(snapshot_id("live"), 1);
    whole.snapshot(&id("one"), new).await.unwrap();
    one.stop().await.unwrap();
    whole.fork(&id("one"), &id("fork")).await.unwrap();
    let other = snapshot_id("live");
    whole.restore(&other, &id("restored")).await.unwrap();
    for name in ["fork", "restored"] {
        let sandbox = host.attach(name).await;
        assert_eq!(ok(&sandbox, "cat /workspace/file").await, "first");
        assert_eq!(remembered(&sandbox).await, "", "{name}");
    }
    // It lies on layers now.
    let one = host.attach("one").await;
    ok(
        &one,
        &format!("echo two >> {STATE}/log; echo second > /workspace/file"),
    )
    .await;
    whole.restore(&other, &id("one")).await.unwrap();
    let one = host.attach("one").await;
    assert_eq!(ok(&one, "cat /workspace/file").await, "first");
    assert_eq!(remembered(&one).await, "./log:one\n./log:two");
}
