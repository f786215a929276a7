//! Processes that the caller drives over pipes.

use sandbox::{Command, Error, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{host, ok, until};

#[tokio::test]
async fn a_process_answers_line_by_line() {
    let host = host();
    let sandbox = host.attach("dialog").await;
    let mut process = sandbox
        .spawn(Command::new([
            "/bin/bash",
            "-c",
            "while read x; do echo got $x; done; echo bye >&2; exit 5",
        ]))
        .await
        .unwrap();
    let (mut stdin, mut stdout) = (
        process.stdin.take().unwrap(),
        process.stdout.take().unwrap(),
    );
    for word in ["one", "two"] {
        stdin
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = vec![0; 8];
        stdout.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, format!("got {word}\n").as_bytes());
    }
    drop(stdin);
    let mut rest = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .await
        .unwrap();
    assert_eq!(rest, "bye\n");
    let status = process.wait().await.unwrap();
    assert_eq!(
        (status.code, status.signal, status.success()),
        (Some(5), None, false)
    );
    assert_eq!(process.wait().await.unwrap(), status);
}

#[tokio::test]
async fn programs_that_only_wait_have_no_threads_in_the_hand() {
    let host = host();
    let sandbox = host.attach("waiting").await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let program = Command::new(["/usr/bin/sleep", "1000"]);
        waiting.push(sandbox.spawn(program).await.unwrap());
    }
    let mut look = sandbox
        .spawn(Command::new(["/usr/bin/ls", "/proc/1/task"]))
        .await
        .unwrap();
    let mut threads = String::new();
    let mut stdout = look.stdout.take().unwrap();
    stdout.read_to_string(&mut threads).await.unwrap();
    assert!(look.wait().await.unwrap().success());
    // One that listens, one that reaps, one that carries, and those that wait for something to do.
    let most = 3 + hand::limits::WORKERS_WAITING;
    assert!(threads.lines().count() <= most, "{threads}");
    for program in waiting {
        program.signal(Signal::Terminate);
        let status = program.wait().await.unwrap();
        assert_eq!(status.signal, Some(15));
    }
}

#[tokio::test]
async fn a_program_that_closes_its_output_and_runs_on_is_told_of_at_once() {
    let host = host();
    let sandbox = host.attach("closed").await;
    let mut process = sandbox
        .spawn(Command::new([
            "/bin/bash",
            "-c",
            "exec >&- 2>&-; read x; exit 7",
        ]))
        .await
        .unwrap();
    let mut said = String::new();
    for stream in [&mut process.stdout, &mut process.stderr] {
        let mut stream = stream.take().unwrap();
        stream.read_to_string(&mut said).await.unwrap();
    }
    assert_eq!(said, "");
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"go\n").await.unwrap();
    assert_eq!(process.wait().await.unwrap().code, Some(7));
}

#[tokio::test]
async fn megabytes_pass_both_ways_and_a_slow_reader_holds_up_nobody_else() {
    let host = host();
    let sandbox = host.attach("bulk").await;
    let mut idle = sandbox
        .spawn(Command::new([
            "/usr/bin/head",
            "-c",
            "20000000",
            "/dev/zero",
        ]))
        .await
        .unwrap();
    let mut echo = sandbox.spawn(Command::new(["/bin/cat"])).await.unwrap();
    let sent: Vec<u8> = (0..8_000_000u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2])
        .collect();
    let (mut stdin, mut stdout) = (echo.stdin.take().unwrap(), echo.stdout.take().unwrap());
    let feed = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(feed, stdout.read_to_end(&mut got));
    read.unwrap();
    assert!(got == sent);
    assert_eq!(ok(&sandbox, "echo here").await, "here");
    let mut all = Vec::new();
    idle.stdout
        .take()
        .unwrap()
        .read_to_end(&mut all)
        .await
        .unwrap();
    assert_eq!(all.len(), 20_000_000);
    assert!(idle.wait().await.unwrap().success());
}

#[tokio::test]
async fn environment_and_directory_are_the_callers() {
    let host = host();
    let sandbox = host.attach("place").await;
    let mut command = Command::new(["/bin/sh", "-c", "pwd; echo $A $HOME"]);
    command.env.push(("A".to_owned(), "b".to_owned()));
    command.cwd = "/tmp".to_owned();
    let mut process = sandbox.spawn(command).await.unwrap();
    let mut seen = String::new();
    process
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut seen)
        .await
        .unwrap();
    assert_eq!(seen, "/tmp\nb /root\n");
}

#[tokio::test]
async fn what_cannot_be_started_is_the_callers_mistake() {
    let host = host();
    let sandbox = host.attach("missing").await;
    let mut nowhere = Command::new(["true"]);
    nowhere.cwd = "/nowhere".to_owned();
    for command in [
        Command::new(["no-such-program"]),
        Command::new(Vec::<String>::new()),
        nowhere,
    ] {
        let refused = sandbox.spawn(command).await.err().unwrap();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_killed_or_dropped_process_takes_its_children_along() {
    let host = host();
    let sandbox = host.attach("killed").await;
    let start = || {
        sandbox.spawn(Command::new([
            "/bin/bash",
            "-c",
            "sleep 1000 & sleep 1000; true",
        ]))
    };
    let count = async || ok(&sandbox, "pgrep -c sleep || true").await;
    let process = start().await.unwrap();
    until("it sleeps", || async { count().await == "2" }).await;
    process.kill();
    assert_eq!(process.wait().await.unwrap().signal, Some(9));
    until("its children are gone", || async { count().await == "0" }).await;
    let process = start().await.unwrap();
    until("it sleeps", || async { count().await == "2" }).await;
    drop(process);
    until("all are gone", || async { count().await == "0" }).await;
}

#[tokio::test]
async fn a_process_of_a_stopped_sandbox_is_lost() {
    let host = host();
    let sandbox = host.attach("lost").await;
    let mut process = sandbox
        .spawn(Command::new(["/bin/sleep", "1000"]))
        .await
        .unwrap();
    sandbox.stop().await.unwrap();
    assert!(matches!(process.wait().await, Err(Error::Lost)));
    let mut rest = Vec::new();
    process
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut rest)
        .await
        .unwrap();
    assert!(matches!(
        sandbox.spawn(Command::new(["true"])).await,
        Err(Error::Gone)
    ));
}
