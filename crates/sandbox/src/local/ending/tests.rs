//! A conversation that is over ends the sandbox, whatever its hand does.

use std::process::Stdio;
use std::sync::Arc;

use hand::wire::{FromHand, PREFIX_BYTES, VERSION, write_frame};
use jail::plan::{By, Limit, Limits, Live};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::*;

/// Ends, as a supervisor does, when it is told to: by what it is told.
fn supervisor() -> (Supervisor, Body) {
    let (control, theirs) = jail::control::pair().unwrap();
    let child = tokio::process::Command::new("head")
        .arg("-c1")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id().unwrap().cast_signed();
    let pid_one = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let limit = Limit {
        most: 0,
        by: By::Nothing,
    };
    let live = Live {
        pid,
        id_base: 0,
        ids: 1,
        groups: Vec::new(),
        oom_counter: None,
        limits: Limits {
            memory: limit,
            cpu: limit,
            processes: limit,
            disk: limit,
            io: limit,
        },
        network: None,
        gvisor: false,
    };
    let body = Body {
        live,
        pid_one,
        line: None,
        ways_out: None,
    };
    let (leaving, process) = (Arc::default(), body.pid_one.try_clone().unwrap());
    let supervisor = Supervisor::new(control, Some(process), &leaving);
    (supervisor.unwrap(), body)
}

#[tokio::test]
async fn a_conversation_that_is_over_ends_the_sandbox_though_the_hand_does_not() {
    let (ours, mut hand) = UnixStream::pair().unwrap();
    let mut hello = Vec::new();
    write_frame(&mut hello, &FromHand::Hello { version: VERSION }, b"").unwrap();
    hand.write_all(&hello).await.unwrap();
    let tasks = TaskTracker::new();
    let client = Client::connect(ours, 1, &tasks).await.unwrap();
    let stop = CancellationToken::new();
    let (supervisor, body) = supervisor();
    let watched = watch_over(supervisor, body, stop.clone(), client.clone());
    // A hand greets once.
    hand.write_all(&hello).await.unwrap();
    timeout(STOP, watched).await.expect("it goes on");
    assert!(!stop.is_cancelled() && !client.is_open());
    assert!(hand.read_exact(&mut [0; PREFIX_BYTES]).await.is_ok());
}
