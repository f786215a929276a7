//! `longhand sandbox …` and `/v1/x/sandboxes` against the real server: programs, terminals, files, ports, pauses.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::{api, script, wait};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::stage::Stage;
use crate::terminal::{Terminal, command, lines, piped};

/// A sandbox of our own; its id.
async fn fresh(dir: &Path) -> String {
    let made = lines(dir, &["sandbox", "create"]).await;
    made[0]["id"].as_str().expect("an id").to_owned()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn complains(output: &std::process::Output, of: &str) {
    let said = said(&output.stderr);
    assert!(said.contains(of), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_with_its_arguments_streams_and_exit_code() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let id = fresh(dir).await;
    let script = "echo out $0 $NAME; echo err >&2; pwd; exit 7";
    let words = [
        "sandbox", "exec", &id, "--cwd", "/tmp", "-e", "NAME=a b", "--", "/bin/sh", "-c", script,
        "zero",
    ];
    let ran = piped(dir, &words).await;
    assert_eq!(said(&ran.stdout), "out zero a b\n/tmp\n");
    assert_eq!(said(&ran.stderr), "err\n");
    assert_eq!(ran.status.code(), Some(7));
    let long = [
        "sandbox",
        "exec",
        &id,
        "--timeout",
        "1",
        "--",
        "sleep",
        "1000",
    ];
    assert_eq!(piped(dir, &long).await.status.code(), Some(124));
    let none = piped(dir, &["sandbox", "exec", &id, "--", "no-such-program"]).await;
    assert_eq!(none.status.code(), Some(1));
    complains(&none, "no-such-program");
    let missing = piped(dir, &["sandbox", "exec", "nobody", "--", "true"]).await;
    complains(&missing, "sandbox ps");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_goes_in_and_a_large_output_comes_out_whole() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let id = fresh(dir).await;
    let mut cat = command(dir, &["sandbox", "exec", &id, "-i", "--", "cat"]);
    cat.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cat = cat.spawn().expect("it runs");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (mut input, mut output) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let feed = async {
        input.write_all(&sent).await.expect("it reads");
        drop(input);
    };
    let mut got = Vec::new();
    let both = async { tokio::join!(feed, output.read_to_end(&mut got)) };
    wait::within("all of it to come back", both)
        .await
        .1
        .expect("it prints");
    assert!(got == sent);
    // Something that stays behind does not hold up whoever started it.
    let words = [
        "sandbox",
        "exec",
        &id,
        "--",
        "/bin/sh",
        "-c",
        "sleep 1000 & echo away",
    ];
    assert_eq!(said(&piped(dir, &words).await.stdout), "away\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_on_a_real_terminal() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let id = fresh(dir).await;
    let mut shell = Terminal::start(command(dir, &["sandbox", "shell", &id]));
    shell.types("stty size; test -t 0 && echo is-a-$((40+2))-terminal");
    let seen = shell.shows("is-a-42-terminal", 1).await;
    assert!(seen.contains("50 160"), "{seen}");
    // Its word says that it has the terminal: before that, the interrupt is the shell's own, and the sleep goes on.
    shell.types("sh -c 'echo sleeps-$((40+2)); exec sleep 1000'");
    shell.shows("sleeps-42", 1).await;
    shell.types("\u{3}echo still-$((6*7))");
    shell.shows("still-42", 1).await;
    shell.types("exit 0");
    let (seen, well) = shell.ends().await;
    assert!(well, "{seen}");
    let refused = piped(dir, &["sandbox", "shell", &id]).await;
    complains(&refused, "no terminal");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_directories_are_copied_both_ways() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let id = fresh(dir).await;
    let here = tempfile::tempdir().unwrap();
    let path = |below: &str| here.path().join(below).to_str().unwrap().to_owned();
    std::fs::create_dir_all(path("tree/deep er")).unwrap();
    std::fs::write(path("tree/a"), "one").unwrap();
    std::fs::write(path("tree/deep er/b"), vec![7; 700_000]).unwrap();
    let copied = piped(dir, &["sandbox", "cp", &path("tree"), &format!("{id}:")]).await;
    assert!(copied.status.success(), "{}", said(&copied.stderr));
    let script =
        "ln -s /etc/passwd tree/link; chmod 751 tree/a; cat tree/a; wc -c <'tree/deep er/b'";
    let words = ["sandbox", "exec", &id, "--", "/bin/sh", "-c", script];
    assert_eq!(said(&piped(dir, &words).await.stdout), "one700000\n");
    let back = path("back");
    let copied = piped(
        dir,
        &["sandbox", "cp", &format!("{id}:/workspace/tree"), &back],
    )
    .await;
    assert!(copied.status.success(), "{}", said(&copied.stderr));
    complains(&copied, "link (symlink)");
    assert_eq!(std::fs::read_to_string(path("back/a")).unwrap(), "one");
    assert_eq!(
        std::fs::read(path("back/deep er/b")).unwrap(),
        vec![7; 700_000]
    );
    assert!(!Path::new(&path("back/link")).exists());
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path("back/a"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o751);
    let missing = piped(dir, &["sandbox", "cp", &format!("{id}:none"), &back]).await;
    complains(&missing, "no such file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_inside_is_reached_from_here() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let id = fresh(dir).await;
    let serve = "cd /tmp; echo page >index.html; python3 -m http.server 8000 >/dev/null 2>&1 & \
        until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000))' 2>/dev/null; do :; done";
    let words = ["sandbox", "exec", &id, "--", "/bin/sh", "-c", serve];
    assert!(piped(dir, &words).await.status.success());
    let mut forward = command(dir, &["sandbox", "forward", &id, "0:8000"]);
    let mut forward = forward.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut first = String::new();
    let mut lines = BufReader::new(forward.stdout.take().unwrap());
    wait::within("the address", lines.read_line(&mut first))
        .await
        .unwrap();
    let address = serde_json::from_str::<Value>(&first).unwrap()["listening"].clone();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(address.as_str().unwrap()).await.unwrap();
        connection
            .write_all(b"GET /index.html HTTP/1.0\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read = connection.read_to_string(&mut answer);
        wait::within("the page", read).await.unwrap();
        assert!(answer.ends_with("page\n"), "{answer}");
    }
    forward.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_listed_paused_resumed_stopped_and_removed() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let id = fresh(dir).await;
    let status = async |verb: &str| lines(dir, &["sandbox", verb, &id]).await[0]["status"].clone();
    assert_eq!(status("pause").await, "paused");
    assert_eq!(status("show").await, "paused");
    assert_eq!(status("resume").await, "running");
    let words = [
        "sandbox",
        "exec",
        &id,
        "--",
        "/bin/sh",
        "-c",
        "sleep 1000 >/dev/null 2>&1 & until grep -qz '^1000$' /proc/$!/cmdline; do :; done",
    ];
    assert!(piped(dir, &words).await.status.success());
    let running = lines(dir, &["sandbox", "ps", &id]).await;
    assert!(
        running.iter().any(|one| one["command"] == "sleep 1000"),
        "{running:?}"
    );
    let shown = lines(dir, &["sandbox", "show", &id]).await;
    assert!(shown[0]["usage"]["disk_bytes"].is_u64(), "{shown:?}");
    assert_eq!(status("stop").await, "stopped");
    assert_eq!(
        lines(dir, &["sandbox", "ps", &id]).await,
        Vec::<Value>::new()
    );
    let run = piped(dir, &["sandbox", "run", "--", "echo", "once"]).await;
    assert_eq!(said(&run.stdout), "once\n");
    let all = lines(dir, &["sandbox", "ps"]).await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        lines(dir, &["sandbox", "gc", "--dry-run"]).await[0]["id"],
        json!(id)
    );
    // What runs is nobody's to collect.
    let other = fresh(dir).await;
    let gone = lines(dir, &["sandbox", "gc"]).await;
    assert_eq!((gone.len(), &gone[0]["id"]), (1, &json!(id)), "{gone:?}");
    let left = lines(dir, &["sandbox", "ps"]).await;
    assert_eq!((left.len(), &left[0]["id"]), (1, &json!(other)), "{left:?}");
    lines(dir, &["sandbox", "rm", &other]).await;
    assert_eq!(lines(dir, &["sandbox", "ps"]).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_same_commands_work_on_the_directory() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let id = fresh(dir).await;
    let words = [
        "sandbox",
        "exec",
        &id,
        "--",
        "/bin/sh",
        "-c",
        "echo kept >file; echo here; exit 3",
    ];
    let ran = piped(dir, &words).await;
    assert_eq!(
        (said(&ran.stdout).as_str(), ran.status.code()),
        ("here\n", Some(3))
    );
    let file = dir.join("out");
    let copy = [
        "sandbox",
        "cp",
        &format!("{id}:file"),
        file.to_str().unwrap(),
    ];
    assert!(piped(dir, &copy).await.status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_time_to_live_ends_its_sandbox_and_the_model_is_told() {
    let stage = Stage::new(0).await;
    let api = stage.api();
    // The stage has made one of each.
    let first = async |path: &str| api.get(path).await.expect("a list")["data"][0]["id"].clone();
    let body = json!({
        "agent": first("/v1/agents").await,
        "environment_id": first("/v1/environments").await,
        "metadata": {"longhand.sandbox_ttl_seconds": "1"},
    });
    let session = api::id(&api.post("/v1/sessions", &body).await.expect("a session"));
    let turn = async |token: &str, command: &str| {
        let steps = json!([
            {"text": "Now.", "tool": "bash", "input": {"command": command}},
            {"text": "Done."},
        ]);
        let sent = api.send(&session, &[script::message(token, &steps)]).await;
        sent.expect("it is taken");
        let events = api.idle(&session).await;
        let results = events
            .iter()
            .filter(|event| event["type"] == "agent.tool_result");
        results.map(api::texts).next_back().expect("a result")
    };
    assert_eq!(
        turn("one", "cd /tmp; export A=1; echo first").await,
        "first"
    );
    let dir = stage.launch.data_dir();
    wait::until("its sandbox to end", || async {
        let all = lines(dir, &["sandbox", "ps"]).await;
        (all[0]["status"] == "stopped").then_some(())
    })
    .await;
    let second = turn("two", "pwd; echo $A").await;
    assert!(
        second.starts_with(
            "/tmp\n1\n[The sandbox was stopped: its time to live of 1 seconds was over"
        ),
        "{second}"
    );
}

/// A frame in a chunk of its own.
fn chunk(kind: u8, payload: &str) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
    frame.extend(payload.as_bytes());
    let mut chunk = format!("{:x}\r\n", frame.len()).into_bytes();
    chunk.extend(frame);
    chunk.extend(b"\r\n");
    chunk
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_talks_when_its_program_has_ended_is_heard_out() {
    let stage = Stage::new(0).await;
    let dir = stage.launch.data_dir();
    let path = format!("/v1/x/sandboxes/{}/exec", fresh(dir).await);
    let mut socket = UnixStream::connect(dir.join("control.sock"))
        .await
        .expect("a server");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: control\r\ntransfer-encoding: chunked\r\n\
         content-type: application/vnd.longhand.exec\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("the head");
    let start = json!({"command": ["/bin/sh", "-c", "echo done"]}).to_string();
    socket
        .write_all(&chunk(b'c', &start))
        .await
        .expect("a start");
    let mut answer = Vec::new();
    while !said(&answer).contains("exit_code") {
        let read = socket.read_buf(&mut answer).await.expect("an answer");
        assert_ne!(read, 0, "{}", said(&answer));
    }
    // A connection that was closed takes nothing more.
    for _ in 0..2 {
        socket
            .write_all(&chunk(b'i', "late"))
            .await
            .expect("it listens");
        tokio::task::yield_now().await;
    }
    socket.write_all(b"0\r\n\r\n").await.expect("it listens");
    while !answer.ends_with(b"0\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut answer).await.expect("the end"), 0);
    }
    assert!(said(&answer).contains("done\n"), "{}", said(&answer));
}
