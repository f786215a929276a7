//! Sandboxes that wait for their first use: given away once, untouched, and as good as one that was made for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{Error, How, Keeper, Local, Provider as _, Settings, Spec, Terms};
use tokio::task::JoinSet;

use crate::life::marker;
use crate::outlive::Server;
use crate::support::{Host, attach, bash, host_with, id, long, ok, text, until};

/// With so many that wait.
async fn warm(most: usize) -> Host {
    let host = host_with(|config| config.warm = most);
    host.local.warm_up().await.unwrap();
    waits(&host.local, most).await;
    host
}

async fn waits(local: &Local, most: usize) {
    until("as many wait as may", || async { local.waiting() == most }).await;
}

/// The directories of sandboxes, and what else is there.
fn directories(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.path("sandboxes")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn one_that_waited_is_like_one_that_was_made_for_it_and_another_takes_its_place() {
    let host = warm(1).await;
    assert!(
        host.local.list().await.unwrap().is_empty(),
        "it is nobody's"
    );
    assert!(host.local.left().await.unwrap().is_empty());
    let sandbox = attach(&host.local, "first").await;
    assert_eq!(sandbox.birth().how, How::Ready);
    let said = ok(
        &sandbox,
        "pwd; ls -A /workspace; echo kept >file; export A=1; cd /tmp",
    )
    .await;
    assert_eq!(said, "/workspace");
    assert_eq!(host.local.list().await.unwrap(), [id("first")]);
    assert!(host.path("sandboxes/first/workspace/file").is_file());
    assert!(sandbox.stats().await.unwrap().disk_bytes > 0);
    waits(&host.local, 1).await;
    // What there was before is used again, not what waits.
    sandbox.hibernate("a test wants it").await.unwrap();
    drop(sandbox);
    let again = attach(&host.local, "first").await;
    assert_eq!(again.birth().how, How::Made);
    let said = text(&bash(&again, "pwd; echo $A; cat /workspace/file").await);
    assert!(said.starts_with("/tmp\n1\nkept\n"), "{said}");
    // With an environment of its own, none that has run without it.
    let own = Spec::new(id("own")).env("OWN", "yes");
    let own = host.local.attach(own).await.unwrap();
    assert_eq!(own.birth().how, How::Made);
    assert_eq!(ok(&own, "echo $OWN").await, "yes");
    drop(own);
    host.local.shutdown().await;
    assert_eq!(directories(&host), ["first", "own"]);
}

#[tokio::test]
async fn none_is_ever_given_to_two() {
    let host = warm(3).await;
    let mut users = JoinSet::new();
    for number in 0..12 {
        let local = host.local.clone();
        users.spawn(async move {
            let sandbox = attach(&local, &format!("user{number}")).await;
            let command = format!(
                "cat /workspace/* /tmp/* 2>/dev/null; echo {number} | tee /workspace/mine /tmp/mine"
            );
            let said = ok(&sandbox, &command).await;
            assert_eq!(said, number.to_string(), "somebody was here before");
            sandbox
        });
    }
    let all: Vec<_> = users.join_all().await;
    let mut ranges: Vec<_> = Vec::new();
    for sandbox in &all {
        ranges.push(ok(sandbox, "cat /proc/self/uid_map").await);
    }
    ranges.sort();
    ranges.dedup();
    assert_eq!(ranges.len(), all.len(), "two have one range of ids");
    drop(all);
    host.local.shutdown().await;
}

#[tokio::test]
async fn a_name_of_those_that_wait_is_nobodys_to_take() {
    let host = warm(1).await;
    let taken = host.local.attach(Spec::new(id("warm-1-0"))).await;
    assert!(matches!(taken.err().unwrap(), Error::Invalid { .. }));
    host.local.shutdown().await;
}

#[tokio::test]
async fn those_that_an_earlier_server_left_waiting_are_ended_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let marker = marker("waited");
    let server = Server::start(dir.path(), "warm", &marker, Duration::from_secs(120));
    server.kill();
    let waited = |dir: &Path| {
        let entries = std::fs::read_dir(dir.join("sandboxes")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("warm-")).count()
    };
    assert_eq!(waited(dir.path()), 2, "they live on without their server");
    let local = long(dir.path());
    assert_eq!(local.left().await.unwrap(), [id("lasting")]);
    local.warm_up().await.unwrap();
    assert_eq!(waited(dir.path()), 0);
    local.delete(&id("lasting")).await.unwrap();
}

#[tokio::test]
async fn the_keeper_says_from_where_and_ends_what_waits() {
    let host = warm(2).await;
    let keeper = Keeper::new(Arc::new(host.local.clone()), Settings::default(), || 1);
    assert_eq!(keeper.load().waiting, 2);
    let terms = Terms::default();
    drop(keeper.visit(Spec::new(id("a")), &terms).await.unwrap());
    let diary = keeper.diary(&id("a")).await.unwrap();
    let steps: Vec<_> = diary.entries().next().unwrap().steps.iter().collect();
    assert_eq!(steps[1].name, "pool", "{steps:?}");
    keeper.stop_all("the test is over").await;
    assert_eq!(host.local.waiting(), 0);
    assert_eq!(directories(&host), ["a"]);
}
