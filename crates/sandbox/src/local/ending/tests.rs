//! A conversation that is over ends the sandbox, whatever its hand does.

use std::os::fd::OwnedFd;
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
    supervised(control, theirs)
}

/// The same with that line to it.
fn supervised(control: OwnedFd, theirs: OwnedFd) -> (Supervisor, Body) {
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

/// The server's side of a line on which a supervisor has said how its sandbox ended, and has gone.
fn line_of_one_that_has_gone(unread: bool) -> OwnedFd {
    let (ours, theirs) = jail::control::pair().unwrap();
    let last = Report::Ended {
        code: None,
        signal: Some(9),
        oom_kills: 3,
    };
    jail::control::send(&theirs, &last, &[]).unwrap();
    if unread {
        jail::control::send(&ours, &jail::plan::Request::End, &[]).unwrap();
    }
    ours
}

#[tokio::test]
async fn how_it_ended_is_heard_of_a_supervisor_that_has_gone_whether_it_has_read_all_or_not() {
    for unread in [false, true] {
        let control = line_of_one_that_has_gone(unread);
        let mut supervisor = Supervisor::new(control, None, &Arc::default()).unwrap();
        if !unread {
            supervisor.end();
        }
        let heard = supervisor.report().await;
        assert!(
            matches!(heard, Some((Report::Ended { oom_kills: 3, .. }, _))),
            "{heard:?}"
        );
        assert!(supervisor.report().await.is_none());
    }
}

#[tokio::test]
async fn how_it_ended_is_known_whoever_was_heard_first() {
    // Which of two that are ready is heard is left to chance.
    for _ in 0..16 {
        let (ours, mut hand) = UnixStream::pair().unwrap();
        let mut hello = Vec::new();
        write_frame(&mut hello, &FromHand::Hello { version: VERSION }, b"").unwrap();
        hand.write_all(&hello).await.unwrap();
        let client = Client::connect(ours, 1, &TaskTracker::new()).await.unwrap();
        let (_, theirs) = jail::control::pair().unwrap();
        let (_, body) = supervised(theirs.try_clone().unwrap(), theirs);
        let control = line_of_one_that_has_gone(false);
        let supervisor = Supervisor::new(control, None, &Arc::default()).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let ended = watch_over(supervisor, body, stop, client).await.ended;
        assert_eq!(
            (ended.oom_kills, ended.by_signal, ended.whole),
            (3, true, true)
        );
    }
}
