//! A sandbox outlives its server: what the next one finds, who may have it, and when it ends all the same.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jail::control;
use jail::plan::{Refusal, Report, Request, VERSION};
use sandbox::{Command, Error, Provider, Sandbox, Spec, Tool, ToolCall};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::life::{marker, processes, start_sleeper, supervisor_of};
use crate::support::{attach, id, lasting_with, long, ok, text, until};

/// What the server process of these tests is told by.
const TOLD: &str = "SANDBOX_TEST_SERVER";

/// The key of the call that is under way when a server is killed.
const KEY: &str = "sevt_under_way";

fn shell(command: &str) -> ToolCall {
    ToolCall {
        name: Tool::Bash,
        input: json!({ "command": command }),
        caller: None,
    }
}

fn other(command: &str) -> ToolCall {
    let mut call = shell(command);
    call.caller = Some("other".to_owned());
    call
}

#[tokio::test]
async fn an_attach_that_is_given_up_half_way_keeps_no_later_one_out() {
    let dir = tempfile::tempdir().unwrap();
    let local = long(dir.path());
    for step in 0..40 {
        // Somewhere between nothing and all of it.
        let patience = Duration::from_micros(step * 500);
        let half = tokio::time::timeout(patience, local.attach(Spec::new(id("half"))));
        drop(half.await);
        let sandbox = attach(&local, "half").await;
        ok(&sandbox, "true").await;
        sandbox.stop().await.unwrap();
    }
    local.shutdown().await;
}

/// A server in a process of its own. It is killed when dropped.
pub struct Server(std::process::Child);

impl Server {
    /// Returns when it says that it is ready.
    pub fn start(dir: &Path, what: &str, marker: &str, orphan: Duration) -> Self {
        let told = json!({
            "dir": dir, "what": what, "marker": marker, "orphan": u64::try_from(orphan.as_millis()).unwrap(),
        });
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "outlive::server_process",
                "--ignored",
                "--nocapture",
            ])
            .env(TOLD, told.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("server-ready")),
            "the server did not start"
        );
        Self(child)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "the body of the process that `Server` starts and kills"]
async fn server_process() {
    let told: serde_json::Value =
        serde_json::from_str(std::env::var_os(TOLD).unwrap().to_str().unwrap()).unwrap();
    let (dir, marker) = (told["dir"].as_str().unwrap(), told["marker"].as_str());
    let orphan = Duration::from_millis(told["orphan"].as_u64().unwrap());
    let local = lasting_with(
        Path::new(dir),
        orphan,
        usize::from(told["what"] == "warm") * 2,
    );
    local.warm_up().await.unwrap();
    let sandbox: Arc<dyn Sandbox> = attach(&local, "lasting").await;
    let marker = marker.unwrap();
    ok(
        &sandbox,
        &format!("x=kept; cd /tmp; {}", start_sleeper(marker)),
    )
    .await;
    until("the daemon runs", || async { processes(marker).len() == 1 }).await;
    let never = CancellationToken::new;
    match told["what"].as_str().unwrap() {
        "waits" => println!("server-ready"),
        "warm" => {
            until("they wait", || async { local.waiting() == 2 }).await;
            println!("server-ready");
        }
        "runs" => {
            let command = "echo begun; touch /workspace/begun; \
                until test -e /workspace/go; do sleep 0.01; done; echo ended; exit 3";
            println!("server-ready");
            let _ = sandbox.keyed(KEY, shell(command), never()).await;
        }
        "has run" => {
            let _ = sandbox.tool(other("cd /usr; y=other"), never()).await;
            let ran = sandbox
                .keyed(KEY, shell("echo result; false"), never())
                .await;
            assert_eq!(text(&ran.unwrap()), "result");
            println!("server-ready");
        }
        "unkeyed" => {
            println!("server-ready");
            let command = "touch /workspace/begun; sleep 1000";
            let _ = sandbox.tool(shell(command), never()).await;
        }
        "drives" => {
            let argv = [
                "bash",
                "-c",
                "touch begun; setsid sleep 1000 & exec -a driven sleep 1000",
            ];
            let _driven = sandbox.spawn(Command::new(argv)).await.unwrap();
            begun(Path::new(dir)).await;
            sandbox.pause().await.unwrap();
            println!("server-ready");
            std::future::pending::<()>().await;
        }
        "keeps" => crate::keeping::serve(&sandbox).await,
        "comes and goes" => {
            println!("server-ready");
            for round in 0.. {
                let sandbox = attach(&local, "fleeting").await;
                ok(&sandbox, &start_sleeper(marker)).await;
                if round % 2 == 0 {
                    sandbox.stop().await.unwrap();
                } else {
                    local.delete(&id("fleeting")).await.unwrap();
                }
            }
        }
        other => panic!("{other}"),
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
}

async fn begun(dir: &Path) {
    let begun = dir.join("sandboxes/lasting/workspace/begun");
    until("the call runs", || async { begun.exists() }).await;
}

#[tokio::test]
async fn the_next_server_finds_the_sandbox_as_it_was_and_the_call_that_was_under_way() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("outlives"));
    let dir = place.path();
    let server = Server::start(dir, "runs", &marker, Duration::from_secs(120));
    begun(dir).await;
    let before = processes(&marker);
    server.kill();
    let local = long(dir);
    let sandbox = attach(&local, "lasting").await;
    let call = || sandbox.resume_call(KEY, shell("?"), CancellationToken::new());
    let (ended, ()) = tokio::join!(call(), async {
        std::fs::write(dir.join("sandboxes/lasting/workspace/go"), "").unwrap();
    });
    let ended = ended.unwrap().expect("the hand knows the call");
    assert!(ended.is_error);
    assert_eq!(text(&ended), "begun\nended");
    // `exit` ended that shell; what ran beside it did not notice.
    assert_eq!(processes(&marker), before);
    sandbox.taken(KEY);
    sandbox.ping().await.unwrap();
    assert_eq!(call().await.unwrap(), None, "it was taken");
}

#[tokio::test]
async fn a_result_that_nobody_has_taken_is_found_by_the_next_server_and_the_one_after() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("result"));
    let dir = place.path();
    Server::start(dir, "has run", &marker, Duration::from_secs(120)).kill();
    for _ in 0..2 {
        let local = long(dir);
        let sandbox = attach(&local, "lasting").await;
        let never = CancellationToken::new();
        let kept = sandbox.resume_call(KEY, shell("?"), never).await.unwrap();
        assert_eq!(text(&kept.unwrap()), "result");
        // The shell is the one that the first server had.
        assert_eq!(ok(&sandbox, "echo $x; pwd").await, "kept\n/tmp");
        let kept = sandbox.tool(other("echo $y; pwd"), CancellationToken::new());
        assert_eq!(text(&kept.await.unwrap()), "other\n/usr");
        // No call is run twice, whoever asks.
        let again = sandbox.keyed(KEY, shell("echo twice"), CancellationToken::new());
        assert!(matches!(again.await, Err(Error::Invalid { .. })));
        let other = sandbox.resume_call("sevt_other", shell("?"), CancellationToken::new());
        assert_eq!(other.await.unwrap(), None);
        local.leave().await;
        drop(sandbox);
        local.shutdown().await;
    }
    assert_eq!(processes(&marker).len(), 1, "it was left");
    long(dir).delete(&id("lasting")).await.unwrap();
    assert!(processes(&marker).is_empty());
    assert!(!dir.join("sandboxes/lasting").exists());
}

#[tokio::test]
async fn a_call_without_a_key_ends_with_its_server() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("unkeyed"));
    let dir = place.path();
    let server = Server::start(dir, "unkeyed", &marker, Duration::from_secs(120));
    begun(dir).await;
    server.kill();
    let local = long(dir);
    let sandbox = attach(&local, "lasting").await;
    // Its shell was ended with it, and with the shell all that it had started.
    assert_eq!(ok(&sandbox, "echo free $x").await, "free");
    assert!(processes(&marker).is_empty());
}

#[tokio::test]
async fn an_orphan_ends_when_its_time_is_over_and_leaves_nothing_but_its_files() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("orphan"));
    let dir = place.path();
    let orphan = Duration::from_millis(300);
    let server = Server::start(dir, "waits", &marker, orphan);
    let supervisor = supervisor_of(&marker).as_raw_nonzero().get();
    server.kill();
    assert_eq!(processes(&marker).len(), 1, "it has its time");
    until("the sandbox has ended", || async {
        processes(&marker).is_empty() && !Path::new(&format!("/proc/{supervisor}/ns")).exists()
    })
    .await;
    assert!(!dir.join("sandboxes/lasting/control.sock").exists());
    let sandbox = attach(&long(dir), "lasting").await;
    assert_eq!(ok(&sandbox, "echo $x").await, "", "another one");
}

#[tokio::test]
async fn an_orphan_that_nobody_can_find_any_more_ends() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("lost"));
    let dir = place.path();
    let server = Server::start(dir, "waits", &marker, Duration::from_secs(120));
    server.kill();
    std::fs::remove_file(dir.join("sandboxes/lasting/control.sock")).unwrap();
    until("the sandbox has ended", || async {
        processes(&marker).is_empty()
    })
    .await;
}

#[tokio::test]
async fn one_that_was_on_its_way_up_when_its_server_died_is_taken_over_when_it_is_there() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("late"));
    let dir = place.path();
    Server::start(dir, "waits", &marker, Duration::from_secs(120)).kill();
    // As long as it is not there to be talked to; its lock it has from the first.
    let socket = dir.join("sandboxes/lasting/control.sock");
    let away = dir.join("sandboxes/lasting/away");
    std::fs::rename(&socket, &away).unwrap();
    let (local, lasting) = (long(dir), id("lasting"));
    let (deleted, ()) = tokio::join!(local.delete(&lasting), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = std::fs::rename(&away, &socket);
    });
    deleted.unwrap();
    assert!(processes(&marker).is_empty());
}

#[tokio::test]
async fn only_a_later_server_of_the_same_build_is_given_a_sandbox_and_only_when_the_former_has_gone()
 {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("generations"));
    let dir = place.path();
    let server = Server::start(dir, "waits", &marker, Duration::from_secs(120));
    let directory = control::directory(dir.join("sandboxes/lasting")).unwrap();
    let ask = |request: Request| {
        let (control, _) = control::connect(&directory).unwrap();
        control::send(&control, &request, &[]).unwrap();
        let ready = rustix::event::PollFlags::IN;
        rustix::event::poll(&mut [rustix::event::PollFd::new(&control, ready)], None).unwrap();
        let (report, descriptors) = control::receive::<Report>(&control).unwrap().unwrap();
        (report, descriptors.len(), control)
    };
    let adopt = |version, generation| Request::Adopt {
        version,
        generation,
    };
    let refused = |why| (Report::Refused { why }, 0);
    let answer = |request| {
        let (report, descriptors, _) = ask(request);
        (report, descriptors)
    };
    // A server that is there is not robbed.
    assert_eq!(answer(adopt(VERSION, 9)), refused(Refusal::Owned));
    assert_eq!(answer(Request::End), refused(Refusal::Owned));
    server.kill();
    assert_eq!(answer(adopt(VERSION + 1, 9)), refused(Refusal::Version));
    // The server that was killed had the first.
    assert_eq!(answer(adopt(VERSION, 1)), refused(Refusal::Stale));
    let (report, descriptors, owner) = ask(adopt(VERSION, 9));
    assert!(matches!(report, Report::Adopted(_)), "{report:?}");
    assert_eq!(descriptors, 2);
    assert_eq!(answer(adopt(VERSION, 10)), refused(Refusal::Owned));
    drop(owner);
    assert_eq!(answer(adopt(VERSION, 9)), refused(Refusal::Stale));
    assert_eq!(processes(&marker).len(), 1);
    let (report, ..) = ask(Request::End);
    assert!(matches!(report, Report::Ended { .. }), "{report:?}");
    assert!(processes(&marker).is_empty());
}

#[tokio::test]
async fn what_is_connected_and_says_nothing_is_in_nobodys_way() {
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("silent"));
    let dir = place.path();
    Server::start(dir, "waits", &marker, Duration::from_secs(120)).kill();
    let directory = control::directory(dir.join("sandboxes/lasting")).unwrap();
    let silent: Vec<_> = (0..3)
        .map(|_| control::connect(&directory).unwrap())
        .collect();
    let sandbox = attach(&long(dir), "lasting").await;
    assert_eq!(ok(&sandbox, "echo $x").await, "kept");
    drop(silent);
}

/// What of this host belongs to the sandboxes below `dir`: processes that stand in a mount of it, hold a file of
/// it or were started for it, cgroups, sockets.
fn left(dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let dir = dir.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        if mounts.contains(dir) {
            left.push(format!("process {name} in its mounts"));
        }
        for file in std::fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let file = std::fs::read_link(file.path()).unwrap_or_default();
            if file.to_string_lossy().contains(dir) {
                left.push(format!("process {name} with {}", file.display()));
            }
        }
    }
    let sandboxes = std::fs::read_dir(Path::new(dir).join("sandboxes")).unwrap();
    for sandbox in sandboxes.flatten() {
        if sandbox.path().join("control.sock").exists() {
            left.push(format!("{}", sandbox.path().join("control.sock").display()));
        }
        let lock = std::fs::read(sandbox.path().join("lock")).unwrap_or_default();
        if let Ok(record) = serde_json::from_slice::<jail::Record>(&lock) {
            let groups = record.groups.iter().filter(|dir| dir.exists());
            left.extend(groups.map(|dir| format!("{}", dir.display())));
        }
    }
    left
}

/// The supervisors of sandboxes below `dir`, and what they started.
fn helpers(dir: &Path) -> Vec<rustix::process::Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let holds = |file: std::fs::DirEntry| {
            let file = std::fs::read_link(file.path()).unwrap_or_default();
            file.starts_with(dir)
        };
        let mut files = std::fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten();
        if line.ends_with(b"supervisor\0") && files.any(|file| file.is_ok_and(holds)) {
            found.extend(rustix::process::Pid::from_raw(name.parse().unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn nothing_is_left_wherever_server_and_supervisors_are_killed() {
    use rustix::process::{Signal, kill_process};
    const ROUNDS: u64 = 24;
    let (place, marker) = (tempfile::tempdir().unwrap(), marker("killed"));
    let dir = place.path();
    for round in 0..ROUNDS {
        // Every other time what is left is adopted and ended by the next server, else it ends by itself.
        let adopted = round % 2 == 0;
        let orphan = Duration::from_secs(if adopted { 120 } else { 0 });
        let server = Server::start(dir, "comes and goes", &marker, orphan);
        // Anywhere in a life of some ten milliseconds: that is what is tested.
        tokio::time::sleep(Duration::from_micros(round * 2_741 % 40_000)).await;
        let kill_helpers = || {
            for helper in helpers(dir) {
                // It may just have ended.
                let _ = kill_process(helper, Signal::KILL);
            }
        };
        match round % 3 {
            0 => server.kill(),
            1 => {
                kill_helpers();
                server.kill();
                kill_helpers();
            }
            _ => {
                server.kill();
                kill_helpers();
            }
        }
        let local = long(dir);
        if adopted {
            for name in ["lasting", "fleeting"] {
                local.delete(&id(name)).await.unwrap();
            }
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !left(dir).is_empty() || !processes(&marker).is_empty() {
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "left in round {round}: {:#?}", left(dir));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
