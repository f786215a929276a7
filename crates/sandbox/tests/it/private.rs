//! What the host keeps of sandboxes: nobody else's to enter, and nobody's to take while anything lives.

use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use sandbox::{Config, Error, Local, Provider, Spec};

use crate::support::{attach, host, id, local_in, ok};

fn opened(dir: &Path) -> Result<Local, Error> {
    let sandboxes = dir.join("sandboxes");
    let config = Config::beside(&sandboxes);
    Local::new(sandboxes, config)
}

fn refusal(error: Option<Error>) -> String {
    match error {
        Some(Error::Unsupported { step, hint, .. }) => format!("{step}: {hint}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn directories_that_others_may_enter_or_own_are_refused_at_the_start_with_the_mend() {
    for name in ["sandboxes", "trash", "templates"] {
        for (owner, mode) in [(0, 0o755), (0, 0o710), (0, 0o701), (1234, 0o700)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            create_dir(&path).unwrap();
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(owner), None).unwrap();
            let said = refusal(opened(dir.path()).err());
            assert!(
                said.starts_with(&format!("keep {} from", path.display())),
                "{said}"
            );
            assert!(
                said.contains(&format!("user {owner} with mode {mode:o}")),
                "{said}"
            );
            assert!(said.contains("chmod 700"), "{said}");
            assert_eq!(
                path.metadata().unwrap().mode() & 0o777,
                mode,
                "left as it was"
            );
        }
    }
    let dir = tempfile::tempdir().unwrap();
    opened(dir.path()).unwrap();
    opened(dir.path()).unwrap();
    for name in ["sandboxes", "trash", "templates"] {
        let metadata = dir.path().join(name).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o700));
    }
}

#[tokio::test]
async fn directories_that_were_opened_to_others_later_are_refused_at_the_next_attach() {
    let host = host();
    drop(host.attach("kept").await);
    for name in ["sandboxes", "sandboxes/kept"] {
        set_permissions(host.path(name), Permissions::from_mode(0o755)).unwrap();
        let said = refusal(host.local.attach(Spec::new(id("kept"))).await.err());
        assert!(said.contains("mode 755"), "{said}");
        set_permissions(host.path(name), Permissions::from_mode(0o700)).unwrap();
    }
    ok(&host.attach("kept").await, "true").await;
}

/// The process of this host whose command line has `marker`, and its supervisor.
fn found(marker: &str) -> (Pid, Pid) {
    let status = |pid: i32, field: &str| -> i32 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap().trim().parse().unwrap()
    };
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Ok(pid) = name.parse::<i32>() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !line
            .split(|byte| *byte == 0)
            .any(|part| part == marker.as_bytes())
        {
            continue;
        }
        let mut above = pid;
        loop {
            let parent = status(above, "PPid:");
            let line = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
            if line.split(|byte| *byte == 0).any(|part| part == b"nursery") {
                let pid = |number| Pid::from_raw(number).unwrap();
                return (pid(pid_of(entry.path().as_path())), pid(parent));
            }
            above = parent;
        }
    }
    panic!("{marker} does not run");
}

fn pid_of(entry: &Path) -> i32 {
    entry
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn nobody_takes_a_sandbox_over_before_the_last_process_of_a_killed_supervisor_has_died() {
    let dir = tempfile::tempdir().unwrap();
    let marker = format!("slow-to-die-{}", std::process::id());
    let owner = local_in(dir.path().to_owned());
    let sandbox = attach(&owner, "orphan").await;
    // Memory that is in use takes a while to give back.
    let command = format!(
        "cat > slow.py <<'E'\nimport mmap, time\nm = mmap.mmap(-1, 1 << 30)\nfor at in range(0, 1 << 30, 4096): m[at] = 1\nopen('ready', 'w')\ntime.sleep(1000)\nE\n\
         (python3 slow.py {marker} >/dev/null 2>&1 &); until test -e ready; do sleep 0.1; done"
    );
    ok(&sandbox, &command).await;
    let (slow, supervisor) = found(&marker);
    let slow = pidfd_open(slow, PidfdFlags::empty()).unwrap();
    let gone = pidfd_open(supervisor, PidfdFlags::empty()).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    poll(&mut [PollFd::new(&gone, PollFlags::IN)], None).unwrap();
    // Another server, which takes what is free.
    let other = local_in(dir.path().to_owned());
    other.delete(&id("orphan")).await.unwrap();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(&slow, PollFlags::IN)], Some(&now)).unwrap();
    assert_eq!(ready, 1, "a process of the sandbox still lives");
    owner.shutdown().await;
}
