//! Life and death: what persists, what dies with what, and who may own a sandbox.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sandbox::{Command, Error, Provider, Sandbox, Spec, Tool, ToolCall};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{attach, bash, host, id, impatient_in, local_in, ok, text, until};

/// What the owner process of the kill tests is told by.
const OWNER_DIR: &str = "SANDBOX_TEST_OWNER_DIR";

/// Pids of this host's processes whose command line has `marker` as one of its arguments.
pub fn processes(marker: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line
            .split(|byte| *byte == 0)
            .any(|part| part == marker.as_bytes())
        {
            found.push(pid);
        }
    }
    found
}

/// An argument that no other test's process has.
pub fn marker(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

pub fn start_sleeper(marker: &str) -> String {
    format!("setsid bash -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 &")
}

/// The supervisor of the sandbox in which the one process with `marker` runs.
pub fn supervisor_of(marker: &str) -> rustix::process::Pid {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = processes(marker);
    let inside = namespace(&inside.first().unwrap().to_string());
    // Other tests have theirs: the one whose child is in the same namespace.
    let ours = |pid: &u32| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        inside.is_some() && namespace(children.trim()) == inside
    };
    let found = processes("nursery").into_iter().find(ours).unwrap();
    rustix::process::Pid::from_raw(found.cast_signed()).unwrap()
}

#[tokio::test]
async fn files_persist_over_stop_and_attach_except_in_tmp() {
    let host = host();
    let sandbox = host.attach("persist").await;
    ok(&sandbox, "for d in /workspace /etc /root /var/lib /home /opt /mnt/session/outputs /tmp /run /dev/shm; do echo kept > $d/mark; done; chown 1000:1000 /workspace/mark; rm /etc/hosts; mv /etc/fonts /etc/moved 2>/dev/null").await;
    sandbox.stop().await.unwrap();
    let sandbox = host.attach("persist").await;
    let seen = ok(&sandbox, "for d in /workspace /etc /root /var/lib /home /opt /mnt/session/outputs /tmp /run /dev/shm; do test -e $d/mark && echo $d; done; stat -c %u /workspace/mark; test -e /etc/hosts || echo removed").await;
    assert_eq!(
        seen,
        "/workspace\n/etc\n/root\n/var/lib\n/home\n/opt\n/mnt/session/outputs\n1000\nremoved"
    );
}

#[tokio::test]
async fn files_on_the_hosts_disk_carry_the_ids_seen_inside() {
    use std::os::unix::fs::MetadataExt;
    let host = host();
    let sandbox = host.attach("ids").await;
    ok(&sandbox, "touch a; touch b; chown 1000:50 b; touch /etc/c").await;
    let owner = |below: &str| {
        let metadata = std::fs::metadata(host.path("sandboxes/ids").join(below)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(
        (
            owner("workspace/a"),
            owner("workspace/b"),
            owner("root/upper/etc/c")
        ),
        ((0, 0), (1000, 50), (0, 0))
    );
    std::fs::write(host.path("sandboxes/ids/uploads/u"), "from outside").unwrap();
    assert_eq!(
        ok(
            &sandbox,
            "cat /mnt/session/uploads/u; stat -c %U /mnt/session/uploads/u"
        )
        .await,
        "from outsideroot"
    );
}

#[tokio::test]
async fn stop_kills_everything_daemons_too() {
    let host = host();
    let marker = marker("stopped");
    let sandbox = host.attach("stop").await;
    ok(&sandbox, &start_sleeper(&marker)).await;
    until("the daemon runs", || async {
        processes(&marker).len() == 1
    })
    .await;
    sandbox.stop().await.unwrap();
    assert!(processes(&marker).is_empty());
    assert!(matches!(
        sandbox.ping().await,
        Err(Error::Gone | Error::Lost)
    ));
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_under_way_when_the_sandbox_dies_is_lost_and_a_later_one_is_gone() {
    let host = host();
    let sandbox = host.attach("dies").await;
    let input = json!({"command": "touch started; sleep 1000"});
    let running = sandbox.tool(
        ToolCall {
            name: Tool::Bash,
            input: input.clone(),
            caller: None,
        },
        CancellationToken::new(),
    );
    let (result, ()) = tokio::join!(running, async {
        until("it runs", || async {
            host.path("sandboxes/dies/workspace/started").exists()
        })
        .await;
        sandbox.stop().await.unwrap();
    });
    assert!(matches!(result, Err(Error::Lost)), "{result:?}");
    let later = sandbox
        .tool(
            ToolCall {
                name: Tool::Bash,
                input,
                caller: None,
            },
            CancellationToken::new(),
        )
        .await;
    assert!(matches!(later, Err(Error::Gone)), "{later:?}");
}

#[tokio::test]
async fn the_last_handle_dropped_ends_the_sandbox() {
    let host = host();
    let marker = marker("handle");
    let sandbox = host.attach("handle").await;
    ok(&sandbox, &start_sleeper(&marker)).await;
    until("the daemon runs", || async {
        processes(&marker).len() == 1
    })
    .await;
    drop(sandbox);
    until("the daemon is dead", || async {
        processes(&marker).is_empty()
    })
    .await;
    ok(&host.attach("handle").await, "true").await;
}

#[tokio::test]
async fn attaching_again_gives_the_one_that_runs() {
    let host = host();
    let first = host.attach("again").await;
    ok(&first, "x=1").await;
    let second = host.attach("again").await;
    assert_eq!(ok(&second, "echo $x").await, "1");
    assert!(Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn only_one_process_owns_a_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let marker = marker("owned");
    let mut owner = Owner::start(dir.path(), &marker);
    let other = impatient_in(dir.path().to_owned());
    let refused = other.attach(Spec::new(id("owned"))).await.err().unwrap();
    assert!(matches!(refused, Error::Busy { .. }), "{refused:?}");
    assert!(matches!(
        other.delete(&id("owned")).await,
        Err(Error::Busy { .. })
    ));
    owner.kill();
    let sandbox = attach(&local_in(dir.path().to_owned()), "owned").await;
    assert_eq!(ok(&sandbox, "cat mark").await, "kept");
}

#[tokio::test]
async fn the_sandbox_dies_with_its_server_and_the_workspace_stays() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let marker = format!("{}r{round}", marker("server"));
        let mut owner = Owner::start(dir.path(), &marker);
        assert_eq!(processes(&marker).len(), 1);
        owner.kill();
        until("everything of it is dead", || async {
            processes(&marker).is_empty()
        })
        .await;
    }
    let sandbox = attach(&local_in(dir.path().to_owned()), "owned").await;
    assert_eq!(ok(&sandbox, "cat mark; cat /etc/mark").await, "kept\nkept");
}

#[tokio::test]
async fn the_sandbox_dies_with_its_supervisor() {
    let host = host();
    let marker = marker("supervisor");
    let sandbox = host.attach("supervised").await;
    ok(&sandbox, &start_sleeper(&marker)).await;
    until("the daemon runs", || async {
        processes(&marker).len() == 1
    })
    .await;
    rustix::process::kill_process(supervisor_of(&marker), rustix::process::Signal::KILL).unwrap();
    until("the daemon is dead", || async {
        processes(&marker).is_empty()
    })
    .await;
    until("it is noticed", || async { !sandbox.is_alive() }).await;
    ok(&host.attach("supervised").await, "true").await;
}

#[tokio::test]
async fn a_deleted_workspace_is_gone_at_once_and_its_bytes_soon() {
    let host = host();
    let sandbox = host.attach("deleted").await;
    ok(
        &sandbox,
        "mkdir -p a/b; touch a/b/c; chmod 000 a; ln -s /etc l; echo x > f",
    )
    .await;
    host.local.delete(&id("deleted")).await.unwrap();
    assert!(!sandbox.is_alive());
    assert!(!host.path("sandboxes/deleted").exists());
    host.local.delete(&id("deleted")).await.unwrap();
    let empty = || {
        std::fs::read_dir(host.path("trash"))
            .unwrap()
            .next()
            .is_none()
    };
    until("the trash is empty", || async { empty() }).await;
    assert!(Path::new("/etc/passwd").exists());
    let sandbox = host.attach("deleted").await;
    assert_eq!(ok(&sandbox, "ls").await, "");
}

#[tokio::test]
async fn what_a_crash_left_in_the_trash_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    // Made here and not by a first start, whose own worker may still look for what it removes.
    let left = dir.path().join("trash/1-0/old/x");
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700).create(left).unwrap();
    let _local = local_in(dir.path().to_owned());
    until("the trash is empty", || async {
        std::fs::read_dir(dir.path().join("trash"))
            .unwrap()
            .next()
            .is_none()
    })
    .await;
}

#[tokio::test]
async fn shutdown_ends_every_sandbox() {
    let host = host();
    let (a, b) = (host.attach("a").await, host.attach("b").await);
    host.local.shutdown().await;
    assert!(!a.is_alive() && !b.is_alive());
}

#[tokio::test]
async fn two_sandboxes_see_nothing_of_each_other() {
    let host = host();
    let (a, b) = (host.attach("one").await, host.attach("two").await);
    let marker = marker("stranger");
    ok(
        &a,
        &format!(
            "echo secret > /workspace/f; echo secret > /tmp/f; echo secret > /etc/f; {}",
            start_sleeper(&marker)
        ),
    )
    .await;
    ok(&a, "python3 - <<'E' >/dev/null 2>&1 &\nimport socket, time\ns = socket.socket(socket.AF_UNIX); s.bind('\\0abstract'); s.listen(); t = socket.create_server(('127.0.0.1', 4321)); open('ready', 'w'); time.sleep(1000)\nE").await;
    until("both listen", || async {
        host.path("sandboxes/one/workspace/ready").exists()
    })
    .await;
    assert_eq!(
        ok(&b, "ls /workspace /tmp; cat /etc/f 2>&1 || true").await,
        "/tmp:\n\n/workspace:\ncat: /etc/f: No such file or directory"
    );
    assert_eq!(ok(&b, &format!("pgrep -f {marker}[0-9]* | grep -v $$ | wc -l; ls /proc | grep -c '^[0-9]' | awk '{{print ($1 < 10)}}'")).await.lines().last(), Some("1"));
    let connect = "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); print(s.connect_ex('\\0abstract'), socket.socket().connect_ex(('127.0.0.1', 4321)))\"";
    assert_eq!(ok(&a, connect).await, "0 0");
    assert_eq!(ok(&b, connect).await, "111 111");
    // Different ids on the host, so that limits of one are not limits of the other.
    let uid = |marker: &str| {
        use std::os::unix::fs::MetadataExt;
        processes(marker)
            .first()
            .map(|pid| std::fs::metadata(format!("/proc/{pid}")).unwrap().uid())
    };
    let other = format!("{marker}b");
    ok(&b, &start_sleeper(&other)).await;
    until("the other daemon runs", || async {
        processes(&other).len() == 1
    })
    .await;
    let (first, second) = (uid(&marker).unwrap(), uid(&other).unwrap());
    assert!(
        first != second && first >= 0x7000_0000 && second >= 0x7000_0000,
        "{first} {second}"
    );
}

#[tokio::test]
async fn one_process_or_call_too_many_is_refused_and_room_comes_back() {
    let host = host();
    let sandbox = host.attach("bounded").await;
    let mut processes = Vec::new();
    let refused = loop {
        match sandbox.spawn(Command::new(["/bin/cat"])).await {
            Ok(process) => processes.push(process),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Error::Busy { .. }), "{refused:?}");
    assert_eq!(processes.len(), 32);
    processes.clear();
    until("there is room again", || async {
        sandbox.spawn(Command::new(["/bin/cat"])).await.is_ok()
    })
    .await;
    let slow = || {
        let input = json!({"command": "sleep 1000"});
        sandbox.tool(
            ToolCall {
                name: Tool::Bash,
                input,
                caller: None,
            },
            CancellationToken::new(),
        )
    };
    let calls = FuturesUnordered::from_iter((0..33).map(|_| slow()));
    // The first that ends is the one that is refused; dropping the others cancels them.
    let first = calls.into_future().await.0.unwrap();
    assert!(matches!(first, Err(Error::Busy { .. })), "{first:?}");
    until("there is room again", || async {
        let input = json!({"command": "echo room"});
        let call = ToolCall {
            name: Tool::Bash,
            input,
            caller: None,
        };
        sandbox.tool(call, CancellationToken::new()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn the_probe_says_that_this_host_can() {
    let host = host();
    let report = host.local.probe().await;
    assert!(report.can_run(), "{report:#?}");
    assert_eq!(host.local.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_host_that_cannot_is_told_the_step_the_errno_and_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = sandbox::Config::beside(&dir.path().join("sandboxes"));
    config.usr = dir.path().join("no-usr");
    let local = sandbox::Local::new(dir.path().join("sandboxes"), config).unwrap();
    match local.attach(Spec::new(id("none"))).await.err().unwrap() {
        Error::Unsupported { step, errno, hint } => {
            assert_eq!((step.as_str(), errno), ("bind /usr", 2));
            assert!(!hint.is_empty());
        }
        other => panic!("{other:?}"),
    }
    let report = local.probe().await;
    assert!(!report.can_run());
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.what == "bind /usr" && !finding.mend.is_empty())
    );
}

/// A server in a process of its own, which can be killed.
pub struct Owner(std::process::Child);

impl Owner {
    /// Returns when its sandbox runs a daemon under the name `marker`.
    pub fn start(dir: &Path, marker: &str) -> Self {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::owner_process", "--ignored", "--nocapture"])
            .env(OWNER_DIR, format!("{}:{marker}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("owner-ready")),
            "the owner did not start"
        );
        Self(child)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "the body of the process that `Owner` starts and kills"]
async fn owner_process() {
    let told = std::env::var_os(OWNER_DIR).unwrap().into_string().unwrap();
    let (dir, marker) = told.split_once(':').unwrap();
    let sandbox: Arc<dyn Sandbox> = attach(&local_in(dir.into()), "owned").await;
    ok(
        &sandbox,
        &format!(
            "echo kept > mark; echo kept > /etc/mark; sync; {}",
            start_sleeper(marker)
        ),
    )
    .await;
    until("the daemon runs", || async { processes(marker).len() == 1 }).await;
    println!("owner-ready");
    // Busy when it is killed: the hand is in the middle of a call.
    let _ = text(&bash(&sandbox, "sleep 1000").await);
    tokio::time::sleep(Duration::from_secs(600)).await;
}
