//! What a sandbox may use as a whole, by cgroups where the host has them: memory, processors, processes;
//! and that nothing of it stays behind.

use std::path::PathBuf;

use sandbox::{Allowance, Config, Error, Local, Provider, Tool};
use serde_json::json;

use crate::life::{Owner, marker, processes, start_sleeper, supervisor_of};
use crate::support::{
    Host, attach, bash, call, host, host_with, local_in, ok, python, text, until,
};

fn small() -> Host {
    host_with(|config| {
        config.allowance = Allowance {
            memory_bytes: 96 << 20,
            cpu_millis: 500,
            processes: 300,
            ..Allowance::default()
        };
    })
}

/// The record in the sandbox's lock.
fn record(host: &std::path::Path, name: &str) -> serde_json::Value {
    let lock = host.join("sandboxes").join(name).join("lock");
    serde_json::from_slice(&std::fs::read(lock).unwrap()).unwrap()
}

/// The directories of its cgroups.
fn groups(host: &std::path::Path, name: &str) -> Vec<PathBuf> {
    let record = record(host, name);
    let groups = record["groups"].as_array().unwrap().iter();
    groups.map(|dir| dir.as_str().unwrap().into()).collect()
}

/// Whether a limit is held by a cgroup; where none is, these tests say what holds then.
fn by_cgroup(host: &std::path::Path, name: &str, limit: &str) -> bool {
    let by = record(host, name)["limits"][limit]["by"].clone();
    by.as_str().unwrap().starts_with("cgroup")
}

/// Takes memory that counts, a megabyte at a time.
const HOG: &str = "python3 -c 'b = []\nwhile True: b.append(bytearray(1 << 20))'";

#[tokio::test]
async fn a_command_that_takes_too_much_memory_is_ended_and_the_model_told_which_and_what_limit() {
    let host = small();
    let sandbox = host.attach("hog").await;
    ok(&sandbox, "kept=yes; echo here > f").await;
    let output = bash(&sandbox, &format!("{HOG}; echo after $?")).await;
    let said = text(&output);
    if !by_cgroup(&host.path(""), "hog", "memory") {
        // Each process by itself: Python says so.
        assert!(said.contains("MemoryError"), "{said}");
        return;
    }
    assert!(
        said.contains("Killed") && said.contains("after 137"),
        "{said}"
    );
    assert!(
        said.contains("Out of memory: the sandbox reached its limit of 96 MiB, and the kernel ended a process of it"),
        "{said}"
    );
    assert!(said.contains("the command `python3 -c"), "{said}");
    // The hand, the shell and the files are what they were, and nobody is told twice.
    assert_eq!(ok(&sandbox, "echo $kept; cat f").await, "yes\nhere");
}

#[tokio::test]
async fn all_sandboxes_together_take_no_more_than_they_may_and_each_goes_on() {
    let host = host_with(|config| {
        config.allowance.memory_bytes = 512 << 20;
        config.memory_together = 192 << 20;
    });
    let (one, two) = (host.attach("one").await, host.attach("two").await);
    if !by_cgroup(&host.path(""), "one", "memory") {
        return;
    }
    // Either has less than its own limit, and both together have more than they may.
    let hold = "python3 -c 'b = bytearray(128 << 20); print(len(b), flush=True); import time; time.sleep(1000)' > held & \
        until test -s held || ! kill -0 $!; do sleep 0.01; done; cat held";
    assert_eq!(ok(&one, hold).await, "134217728");
    let said = text(&bash(&two, hold).await);
    let first = text(&bash(&one, "jobs; echo well").await);
    let note = "[Out of memory: all sandboxes of this host together took what they may, this one at most 512 MiB";
    assert!(
        said.contains(note) || first.contains(note),
        "{said} and {first}"
    );
    assert!(first.contains("well"));
    assert_eq!(text(&bash(&two, "echo well").await), "well");
    let above = groups(&host.path(""), "one");
    let above = above.iter().find(|dir| {
        dir.parent()
            .unwrap()
            .to_str()
            .unwrap()
            .contains("longhand-all-")
    });
    let above = above.unwrap().parent().unwrap().to_owned();
    assert_eq!(
        groups(&host.path(""), "two")
            .iter()
            .filter(|dir| dir.starts_with(&above))
            .count(),
        1
    );
    one.stop().await.unwrap();
    two.stop().await.unwrap();
    host.local.shutdown().await;
    drop((one, two, host));
    until("the group of all is gone", || async { !above.exists() }).await;
}

#[tokio::test]
async fn memory_that_a_process_in_the_background_took_is_told_with_the_next_answer() {
    let host = small();
    let sandbox = host.attach("background").await;
    ok(
        &sandbox,
        &format!("(({HOG}); touch ended) >/dev/null 2>&1 &"),
    )
    .await;
    if !by_cgroup(&host.path(""), "background", "memory") {
        return;
    }
    until("it has ended", || async {
        host.path("sandboxes/background/workspace/ended").exists()
    })
    .await;
    let output = call(&sandbox, Tool::Glob, json!({"pattern": "ended"})).await;
    let said = text(&output);
    assert!(
        said.starts_with("/workspace/ended\n[Out of memory"),
        "{said}"
    );
    let output = call(&sandbox, Tool::Glob, json!({"pattern": "ended"})).await;
    assert_eq!(text(&output), "/workspace/ended");
}

#[tokio::test]
async fn files_in_memory_are_full_before_the_memory_is() {
    let host = small();
    let sandbox = host.attach("tmpfs").await;
    let fill = "for d in /tmp /dev/shm /run; do head -c 500M /dev/zero > $d/large; done";
    let said = text(&bash(&sandbox, fill).await);
    assert_eq!(said.matches("No space left on device").count(), 3, "{said}");
    let sizes = ok(&sandbox, "stat -c %s /tmp/large /dev/shm/large /run/large").await;
    assert_eq!(sizes, format!("{}\n{}\n{}", 24 << 20, 12 << 20, 6 << 20));
    // Files on a disk take no memory that could not be given back.
    let disk = "rm /tmp/large && head -c 200M /dev/zero > large && stat -c %s large";
    assert_eq!(ok(&sandbox, disk).await, "209715200");
}

#[tokio::test]
async fn a_sandbox_whose_hand_was_ended_for_want_of_memory_says_so_and_comes_back() {
    let host = small();
    let sandbox = host.attach("all").await;
    if !by_cgroup(&host.path(""), "all", "memory") {
        return;
    }
    // What is least worth keeping goes first; where a process may make itself worth more than the
    // hand, it takes the hand down, and so the sandbox.
    let command = format!("echo 0 > /proc/self/oom_score_adj; echo kept > f; exec {HOG}");
    let output = bash(&sandbox, &command).await;
    let said = text(&output);
    assert!(output.is_error, "{said}");
    if sandbox.is_alive() {
        assert!(said.contains("[Out of memory"), "{said}");
    } else {
        assert!(
            said.starts_with("The sandbox ran out of memory (its limit is 96 MiB) and was ended"),
            "{said}"
        );
    }
    sandbox.stop().await.unwrap();
    assert_eq!(ok(&host.attach("all").await, "cat f").await, "kept");
}

#[tokio::test]
async fn what_goes_around_the_cache_is_read_and_written_no_quicker_than_the_disk_may_be_used() {
    let host = host_with(|config| config.allowance.io_bytes = 4 << 20);
    let sandbox = host.attach("slow").await;
    let held = sandbox.isolation().unwrap().io;
    assert_eq!(held.most, 4 << 20);
    if !by_cgroup(&host.path(""), "slow", "io") {
        let found = host.local.probe().await.findings;
        let said = found.iter().find(|f| f.what == "disk traffic of a sandbox");
        assert!(said.unwrap().detail.contains("held by nothing"), "{said:?}");
        return;
    }
    // Three times what it may in a second.
    let program = "import time, mmap\n\
        piece = mmap.mmap(-1, 1 << 20)\n\
        def timed(flags, act):\n    \
            fd = os.open('/workspace/f', flags | os.O_DIRECT, 0o600); since = time.monotonic()\n    \
            for _ in range(12): act(fd)\n    \
            os.close(fd); return time.monotonic() - since > 1\n\
        print(timed(os.O_WRONLY | os.O_CREAT, lambda fd: os.write(fd, piece)), end=' ')\n\
        print(timed(os.O_RDONLY, lambda fd: os.readv(fd, [piece])))";
    assert_eq!(python(&sandbox, program).await, "True True");
}

#[tokio::test]
async fn processors_are_shared_out_as_allowed() {
    let host = small();
    let sandbox = host.attach("cpu").await;
    if !by_cgroup(&host.path(""), "cpu", "cpu") {
        return;
    }
    let dirs = groups(&host.path(""), "cpu");
    let read = |name: &str| {
        let found = dirs
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join(name)).ok());
        found.unwrap_or_default()
    };
    let quota = format!(
        "{} {}",
        read("cpu.cfs_quota_us").trim(),
        read("cpu.cfs_period_us").trim()
    );
    assert!([quota.trim(), read("cpu.max").trim()].contains(&"50000 100000"));
    ok(
        &sandbox,
        "for i in 1 2 3 4; do (while :; do :; done) & done",
    )
    .await;
    let held_back = || {
        let stats = dirs
            .iter()
            .filter_map(|dir| std::fs::read_to_string(dir.join("cpu.stat")).ok());
        let mut counts = stats.filter_map(|stat| {
            let mut lines = stat
                .lines()
                .filter_map(|line| line.strip_prefix("nr_throttled "));
            lines.next().map(str::to_owned)
        });
        counts.any(|count| count != "0")
    };
    until("those that want more are held back", || async {
        held_back()
    })
    .await;
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn the_allowed_number_of_processes_is_the_most_whatever_the_ids() {
    let host = small();
    let sandbox = host.attach("few").await;
    let program = "children = []\n\
        try:\n    \
            while len(children) < 1000:\n        \
                pid = os.fork()\n        \
                if pid == 0: signal.pause()\n        \
                children.append(pid)\n\
        except BlockingIOError as e: print(e)\n\
        print(100 < len(children) < 300)\n\
        for pid in children: os.kill(pid, 9)\n";
    let said = python(&sandbox, program).await;
    assert_eq!(said, "[Errno 11] Resource temporarily unavailable\nTrue");
    if by_cgroup(&host.path(""), "few", "processes") {
        let dirs = groups(&host.path(""), "few");
        let most = dirs
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join("pids.max")).ok());
        assert_eq!(most.unwrap().trim(), "300");
    }
}

#[tokio::test]
async fn every_process_is_in_the_groups_from_the_first_and_sees_none_above_or_beside() {
    let host = small();
    let sandbox = host.attach("inside").await;
    let dirs = groups(&host.path(""), "inside");
    ok(&sandbox, "sleep 1000 &").await;
    for dir in &dirs {
        let inside = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        assert_eq!(
            inside.lines().count(),
            3,
            "hand, bash and sleep in {}",
            dir.display()
        );
    }
    let seen = ok(&sandbox, "cat /proc/self/cgroup").await;
    for dir in &dirs {
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert!(!seen.contains(name), "{seen}");
    }
    let kinds = ["memory", "cpu", "pids"];
    let of_ours = seen
        .lines()
        .filter(|line| kinds.iter().any(|k| line.contains(&format!(":{k}:"))));
    assert!(
        of_ours.into_iter().all(|line| line.ends_with(":/")),
        "{seen}"
    );
}

#[tokio::test]
async fn no_cgroup_stays_after_a_stop() {
    let host = small();
    let sandbox = host.attach("stopped").await;
    let dirs = groups(&host.path(""), "stopped");
    assert!(dirs.iter().all(|dir| dir.exists()));
    ok(&sandbox, "sleep 1000 &").await;
    sandbox.stop().await.unwrap();
    assert!(dirs.iter().all(|dir| !dir.exists()), "{dirs:?}");
}

#[tokio::test]
async fn no_cgroup_stays_after_the_supervisor_was_killed() {
    let host = small();
    let marker = marker("groups-supervisor");
    let sandbox = host.attach("orphan").await;
    let dirs = groups(&host.path(""), "orphan");
    ok(&sandbox, &start_sleeper(&marker)).await;
    until("the daemon runs", || async {
        processes(&marker).len() == 1
    })
    .await;
    rustix::process::kill_process(supervisor_of(&marker), rustix::process::Signal::KILL).unwrap();
    until("its groups are gone", || async {
        dirs.iter().all(|dir| !dir.exists())
    })
    .await;
    drop(sandbox);
}

#[tokio::test]
async fn no_cgroup_stays_after_server_and_supervisor_were_killed_once_a_server_runs_again() {
    for attach_at_once in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let marker = format!("{}{attach_at_once}", marker("groups-both"));
        let mut owner = Owner::start(dir.path(), &marker);
        let dirs = groups(dir.path(), "owned");
        // The supervisor first, stopped so that it cannot clean up when its server goes.
        let supervisor = supervisor_of(&marker);
        rustix::process::kill_process(supervisor, rustix::process::Signal::STOP).unwrap();
        owner.kill();
        rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
        until("all are dead", || async { processes(&marker).is_empty() }).await;
        assert!(
            dirs.iter().any(|dir| dir.exists()),
            "nobody was there to remove them"
        );
        let local = local_in(dir.path().to_owned());
        if attach_at_once {
            drop(attach(&local, "owned").await);
        }
        until("its groups are gone", || async {
            dirs.iter().all(|dir| !dir.exists())
        })
        .await;
    }
}

#[tokio::test]
async fn a_set_up_that_fails_leaves_no_cgroup() {
    let host = host_with(|config| config.usr = PathBuf::from("/nonexistent"));
    let failed = host
        .local
        .attach(sandbox::Spec::new(crate::support::id("fails")))
        .await;
    assert!(matches!(failed.err(), Some(Error::Unsupported { .. })));
    let dirs = groups(&host.path(""), "fails");
    until("its groups are gone", || async {
        dirs.iter().all(|dir| !dir.exists())
    })
    .await;
}

#[tokio::test]
async fn an_allowance_that_is_too_small_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let sandboxes = dir.path().join("sandboxes");
    for (change, said) in [
        (
            Box::new(|a: &mut Allowance| a.memory_bytes = 1) as Box<dyn Fn(&mut Allowance)>,
            "memory of a sandbox: 1 is less than 33554432 bytes",
        ),
        (
            Box::new(|a: &mut Allowance| a.cpu_millis = 0),
            "cpu of a sandbox: 0 is less than 10 thousandths of a processor",
        ),
        (
            Box::new(|a: &mut Allowance| a.processes = 255),
            "processes of a sandbox: 255 is less than 256",
        ),
    ] {
        let mut config = Config::beside(&sandboxes);
        change(&mut config.allowance);
        let error = Local::new(sandboxes.clone(), config).err().unwrap();
        assert_eq!(error.to_string(), said);
    }
}

#[tokio::test]
async fn the_probe_says_what_holds_each_limit() {
    let host = host();
    let report = host.local.probe().await;
    drop(host.attach("probed").await);
    for (what, limit) in [
        ("memory of a sandbox", "memory"),
        ("processor time of a sandbox", "cpu"),
        ("processes of a sandbox", "processes"),
    ] {
        let finding = report
            .findings
            .iter()
            .find(|finding| finding.what == what)
            .unwrap();
        assert_eq!(
            finding.ok,
            by_cgroup(&host.path(""), "probed", limit),
            "{finding:?}"
        );
        assert_eq!(finding.ok, finding.mend.is_empty());
        assert!(
            !finding.required && finding.detail.starts_with("at most "),
            "{finding:?}"
        );
    }
}
