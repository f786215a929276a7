//! Processes: arguments, streams, signals, time, terminals, ports.

use std::time::Duration;

use sandbox::{Command, Error, Provider, Signal, Size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{sandbox, text};
use crate::support::{ok, until};

pub async fn arguments_and_environment_arrive_as_they_are(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "words").await;
    let odd = "a 'b' \"c\" $HOME \\ \n é";
    let mut command = Command::new(["/usr/bin/printf", "%s|%s|", odd, ""]);
    command.cwd = "/tmp".to_owned();
    let mut process = sandbox.spawn(command).await.unwrap();
    assert_eq!(text(&mut process.stdout).await, format!("{odd}||"));
    let mut command = Command::new(["/bin/sh", "-c", "printf %s \"$ODD\"; pwd >&2; exit 3"]);
    command.env.push(("ODD".to_owned(), odd.to_owned()));
    command.cwd = "/tmp".to_owned();
    let mut process = sandbox.spawn(command).await.unwrap();
    assert_eq!(text(&mut process.stdout).await, odd);
    assert_eq!(text(&mut process.stderr).await, "/tmp\n");
    let status = process.wait().await.unwrap();
    assert_eq!((status.code, status.timed_out), (Some(3), false));
}

pub async fn input_is_streamed_and_its_end_is_seen(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "input").await;
    let mut process = sandbox
        .spawn(Command::new(["/usr/bin/wc", "-c"]))
        .await
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    for _ in 0..100 {
        stdin.write_all(&[b'x'; 30_000]).await.unwrap();
    }
    drop(stdin);
    assert_eq!(text(&mut process.stdout).await.trim(), "3000000");
    assert!(process.wait().await.unwrap().success());
}

pub async fn a_process_that_runs_too_long_is_killed_and_says_so(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "long").await;
    let mut command = Command::new(["/bin/bash", "-c", "echo begun; sleep 1000 & sleep 1000"]);
    command.time_limit = Some(Duration::from_millis(300));
    let mut process = sandbox.spawn(command).await.unwrap();
    let status = process.wait().await.unwrap();
    assert!(status.timed_out && status.signal == Some(9), "{status:?}");
    assert_eq!(text(&mut process.stdout).await, "begun\n");
    until("its children are gone", || async {
        ok(&sandbox, "pgrep -c sleep || true").await == "0"
    })
    .await;
}

pub async fn a_signal_reaches_the_process_and_its_children(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "signals").await;
    let script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut process = sandbox
        .spawn(Command::new(["/bin/bash", "-c", script]))
        .await
        .unwrap();
    let mut ready = [0; 6];
    let stdout = process.stdout.as_mut().unwrap();
    stdout.read_exact(&mut ready).await.unwrap();
    process.signal(Signal::Terminate);
    assert_eq!(text(&mut process.stdout).await, "told\n");
    assert_eq!(process.wait().await.unwrap().code, Some(7));
    process.signal(Signal::Kill);
    let process = sandbox
        .spawn(Command::new(["/bin/sleep", "1000"]))
        .await
        .unwrap();
    process.signal(Signal::Interrupt);
    assert_eq!(process.wait().await.unwrap().signal, Some(2));
}

pub async fn a_terminal_is_one_and_has_the_size_it_was_given(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "terminal").await;
    let script =
        "test -t 0 && test -t 1 && test -t 2 && stty size; read x; stty size; echo $x >&2; exit 4";
    let mut command = Command::new(["/bin/bash", "-c", script]);
    command.terminal = Some(Size {
        rows: 33,
        columns: 101,
    });
    let mut process = sandbox.spawn(command).await.unwrap();
    let mut first = [0; 8];
    let stdout = process.stdout.as_mut().unwrap();
    stdout.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"33 101\r\n");
    process.resize(Size {
        rows: 7,
        columns: 9,
    });
    let stdin = process.stdin.as_mut().unwrap();
    stdin.write_all(b"word\n").await.unwrap();
    // What is typed is shown, and errors come on the same terminal.
    assert_eq!(text(&mut process.stdout).await, "word\r\n7 9\r\nword\r\n");
    assert_eq!(text(&mut process.stderr).await, "");
    assert_eq!(process.wait().await.unwrap().code, Some(4));
}

pub async fn a_terminal_passes_keys_on_as_signals(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "keys").await;
    let mut command = Command::new(["/bin/bash", "-c", "echo ready; sleep 1000; echo $?; exit 5"]);
    command.terminal = Some(Size {
        rows: 24,
        columns: 80,
    });
    let mut process = sandbox.spawn(command).await.unwrap();
    let mut ready = [0; 7];
    let stdout = process.stdout.as_mut().unwrap();
    stdout.read_exact(&mut ready).await.unwrap();
    let stdin = process.stdin.as_mut().unwrap();
    stdin.write_all(b"\x03").await.unwrap();
    let status = process.wait().await.unwrap();
    assert_eq!(status.signal, Some(2), "{status:?}");
}

pub async fn what_is_typed_ends_with_the_input(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "typed").await;
    let mut command = Command::new(["/bin/cat"]);
    command.terminal = Some(Size {
        rows: 24,
        columns: 80,
    });
    let mut process = sandbox.spawn(command).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"line\n").await.unwrap();
    drop(stdin);
    assert!(process.wait().await.unwrap().success());
}

pub async fn ports_inside_can_be_reached(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "ports").await;
    assert!(matches!(
        sandbox.connect(4100).await,
        Err(Error::Missing { .. })
    ));
    let server = "import socket\n\
        s = socket.create_server(('127.0.0.1', 4100))\n\
        print('ready', flush=True)\n\
        c, _ = s.accept()\n\
        d = b''\n\
        while True:\n    x = c.recv(65536)\n    if not x: break\n    d += x\n\
        c.sendall(d[::-1])\n";
    let mut process = sandbox
        .spawn(Command::new(["/usr/bin/python3", "-c", server]))
        .await
        .unwrap();
    let mut ready = [0; 6];
    let stdout = process.stdout.as_mut().unwrap();
    stdout.read_exact(&mut ready).await.unwrap();
    let mut connection = sandbox.connect(4100).await.unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    connection.write.write_all(&sent).await.unwrap();
    let silence: Box<dyn tokio::io::AsyncWrite + Send + Sync + Unpin> = Box::new(tokio::io::sink());
    drop(std::mem::replace(&mut connection.write, silence));
    let mut got = Vec::new();
    connection.read.read_to_end(&mut got).await.unwrap();
    got.reverse();
    assert!(got == sent);
    assert!(process.wait().await.unwrap().success());
}
