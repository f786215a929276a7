//! What is particular to sandboxes with a kernel of their own: who gets one, what is said of it, and that it never
//! becomes the host's unnoticed.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Config, Ending, Error, How, Level, Local, Provider, ProviderName, Spec};

use crate::support::{
    attach, bash, gvisor_is_to_be_had, host_apart, host_with, id, ok, text, until,
};

#[tokio::test]
async fn its_kernel_is_not_the_hosts_and_its_record_says_so() {
    let Some(host) = host_apart(|_| {}) else {
        return;
    };
    let sandbox = host.attach("own").await;
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    assert_ne!(ok(&sandbox, "uname -r").await, release);
    let isolation = sandbox.isolation().unwrap();
    assert!(isolation.own_kernel && isolation.own_ids, "{isolation:?}");
    let sound = isolation.level >= Level::Limits;
    assert_eq!(isolation.reaches(Level::Kernel), sound);
    assert_eq!(host.local.isolation().await.unwrap(), isolation);
}

#[tokio::test]
async fn who_asks_for_it_gets_it_on_any_server_and_keeps_it() {
    let Some(host) = host_apart(|config| config.provider = ProviderName::Local) else {
        return;
    };
    let spec = || Spec::new(id("chosen"));
    let chosen = host
        .local
        .attach(spec().by(ProviderName::Gvisor))
        .await
        .unwrap();
    ok(&chosen, "echo here > /workspace/f; echo there > /root/f").await;
    chosen.stop().await.unwrap();
    drop(chosen);
    // Nobody says it any more, and its files are where they were.
    let again = host.local.attach(spec()).await.unwrap();
    assert!(again.isolation().unwrap().own_kernel);
    assert_eq!(ok(&again, "cat f /root/f").await, "here\nthere");
    // One that shares a kernel is not taken for what is asked for; its files are the same.
    let shared = host.attach("other").await;
    ok(&shared, "echo kept > f").await;
    assert!(!shared.isolation().unwrap().own_kernel);
    let asked = Spec::new(id("other")).by(ProviderName::Gvisor);
    let own = host.local.attach(asked).await.unwrap();
    assert!(own.isolation().unwrap().own_kernel && !shared.is_alive());
    assert_eq!(ok(&own, "cat f").await, "kept");
}

#[tokio::test]
async fn a_fork_has_the_kind_of_kernel_that_its_parent_was_given() {
    let Some(host) = host_apart(|config| config.provider = ProviderName::Local) else {
        return;
    };
    let spec = Spec::new(id("parent")).by(ProviderName::Gvisor);
    let parent = host.local.attach(spec).await.unwrap();
    ok(&parent, "echo x > f").await;
    let workspaces = host.local.workspaces().unwrap();
    workspaces.fork(&id("parent"), &id("fork")).await.unwrap();
    let fork = host.attach("fork").await;
    assert!(fork.isolation().unwrap().own_kernel);
    assert_eq!(ok(&fork, "cat f").await, "x");
}

#[tokio::test]
async fn where_runsc_is_missing_the_cure_is_named_and_nothing_runs() {
    let host = host_with(|config| {
        config.provider = ProviderName::Gvisor;
        config.gvisor.program = "/nowhere/runsc".into();
    });
    let refused = host
        .local
        .attach(Spec::new(id("none")))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused:?}");
    assert!(
        refused.to_string().contains("apt install runsc"),
        "{refused}"
    );
    let report = host.local.probe().await;
    assert!(!report.can_run());
    let said = report
        .findings
        .iter()
        .find(|one| one.what.starts_with("gVisor"));
    let said = said.unwrap();
    assert!(
        said.required && !said.ok && said.mend == "apt install runsc",
        "{said:?}"
    );
}

#[tokio::test]
async fn a_runsc_that_cannot_start_one_is_an_error_and_leaves_nothing() {
    let Some(host) = host_apart(|config| config.gvisor.platform = Some("none-such".to_owned()))
    else {
        return;
    };
    let refused = host.local.attach(Spec::new(id("none"))).await.err();
    assert!(refused.is_some());
    host.local.delete(&id("none")).await.unwrap();
    assert!(host.local.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn where_every_sandbox_must_have_one_no_other_is_made() {
    let Some(host) = host_apart(|config| config.own_kernels_only = true) else {
        return;
    };
    let asked = Spec::new(id("shared")).by(ProviderName::Local);
    let refused = host.local.attach(asked).await.err().unwrap();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    assert!(host.local.makes(ProviderName::Gvisor).is_ok());
}

#[tokio::test]
async fn killed_with_its_supervisor_it_leaves_no_process_and_its_files_are_whole() {
    let Some(host) = host_apart(|_| {}) else {
        return;
    };
    let sandbox = host.attach("killed").await;
    ok(&sandbox, "echo written > f; (sleep 4242 &) ; sync").await;
    let lock = std::fs::read_to_string(host.path("sandboxes/killed/lock")).unwrap();
    let record: jail::Record = serde_json::from_str(&lock).unwrap();
    let fields: serde_json::Value = serde_json::from_str(&lock).unwrap();
    let pid = i32::try_from(fields["supervisor"]["pid"].as_i64().unwrap()).unwrap();
    let supervisor = Pid::from_raw(pid).unwrap();
    assert!(record.lives());
    kill_process(supervisor, Signal::KILL).unwrap();
    until("nothing of it runs", || async { !record.lives() }).await;
    until("it is known to have ended", || async {
        !sandbox.is_alive()
    })
    .await;
    drop(sandbox);
    let again = host.attach("killed").await;
    assert_eq!(ok(&again, "cat f").await, "written");
    let running = ok(&again, "pgrep -c sleep || true").await;
    assert_eq!(running, "0");
}

#[tokio::test]
async fn one_that_waited_is_given_away_as_any_other() {
    let Some(host) = host_apart(|config| config.warm = 1) else {
        return;
    };
    host.local.warm_up().await.unwrap();
    until("one waits", || async { host.local.waiting() == 1 }).await;
    let sandbox = host.attach("first").await;
    assert_eq!(sandbox.birth().how, How::Ready);
    assert!(sandbox.isolation().unwrap().own_kernel);
    ok(&sandbox, "echo x > f").await;
    host.local.shutdown().await;
}

#[tokio::test]
async fn the_next_server_takes_it_over_as_it_runs() {
    if !gvisor_is_to_be_had() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = || {
        let sandboxes = dir.path().join("sandboxes");
        let mut config = Config::beside(&sandboxes);
        config.orphan = Duration::from_secs(120);
        config.provider = ProviderName::Gvisor;
        Local::new(sandboxes, config).unwrap()
    };
    let first = server();
    let sandbox = attach(&first, "left").await;
    let begun = "cd /tmp; export A=kept; sleep 4242 >/dev/null 2>&1 &\n\
        until grep -qz '^4242$' /proc/$!/cmdline; do :; done";
    ok(&sandbox, begun).await;
    first.leave().await;
    drop(sandbox);
    first.shutdown().await;
    drop(first);
    let next = server();
    let taken = next.adopt(&id("left")).await.unwrap().unwrap();
    assert_eq!(taken.birth().how, How::TakenOver);
    assert!(taken.isolation().unwrap().own_kernel);
    assert_eq!(
        ok(&taken, "echo $A; pwd; pgrep -c sleep").await,
        "kept\n/tmp\n1"
    );
    taken.stop().await.unwrap();
    // One that must have a kernel of its own takes over no other.
    let shared = next
        .attach(Spec::new(id("shared")).by(ProviderName::Local))
        .await
        .unwrap();
    next.leave().await;
    drop((shared, taken));
    next.shutdown().await;
    drop(next);
    let sandboxes = dir.path().join("sandboxes");
    let mut config = Config::beside(&sandboxes);
    config.provider = ProviderName::Gvisor;
    config.own_kernels_only = true;
    let strict = Local::new(sandboxes, config).unwrap();
    assert!(strict.adopt(&id("shared")).await.unwrap().is_none());
    strict.delete(&id("shared")).await.unwrap();
}

#[tokio::test]
async fn memory_that_runs_out_ends_it_and_is_told() {
    let Some(host) = host_apart(|config| config.allowance.memory_bytes = 256 << 20) else {
        return;
    };
    let sandbox = host.attach("full").await;
    let take = "echo kept > f; /usr/bin/python3 -c \"held = bytearray(b'x') * (600 << 20)\"";
    let told = bash(&sandbox, take).await;
    assert!(told.is_error && text(&told).contains("memory"), "{told:?}");
    until("it has ended", || async { !sandbox.is_alive() }).await;
    assert_eq!(sandbox.ending(), Some(Ending::OutOfMemory));
    drop(sandbox);
    let again = host.attach("full").await;
    assert_eq!(ok(&again, "cat f").await, "kept");
}
