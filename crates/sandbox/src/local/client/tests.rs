//! The client against hands that were taken over: scripted peers on the socket. Whatever they do, calls
//! end and nothing they say beyond the protocol counts.

use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use hand::limits::{CHUNK_BYTES, PROCESSES, SPILL_CHARS, WINDOW_CHUNKS};
use hand::wire::{Output, Stream, Tool, read_frame as parse, write_frame};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::limits::TOOL_GRACE;
use crate::process::Command;
use crate::provider::ToolCall;

mod fuzz;

/// The scripted end of the conversation.
struct Hand(UnixStream);

impl Hand {
    async fn say(&mut self, message: &FromHand, body: &[u8]) {
        let mut frame = Vec::new();
        write_frame(&mut frame, message, body).unwrap();
        // The client may have ended the conversation already: that is what is tested.
        let _ = self.0.write_all(&frame).await;
    }

    /// What the server says next; `None` when it has ended the conversation.
    async fn hear(&mut self) -> Option<ToHand> {
        let mut frame = vec![0; PREFIX_BYTES];
        self.0.read_exact(&mut frame).await.ok()?;
        let (header, body) = lengths(frame.as_slice().try_into().unwrap()).unwrap();
        frame.resize(PREFIX_BYTES + header + body, 0);
        let read = self.0.read_exact(&mut frame[PREFIX_BYTES..]).await;
        read.ok()?;
        parse(&mut frame.as_slice())
            .unwrap()
            .map(|(message, _)| message)
    }

    /// Answers pings, and says what a call or a process is asked for under.
    async fn asked(&mut self) -> Option<Id> {
        loop {
            match self.hear().await? {
                ToHand::Ping { id } => self.say(&FromHand::Pong { id }, b"").await,
                ToHand::Call { id, .. } | ToHand::Spawn { id, .. } => return Some(id),
                _ => {}
            }
        }
    }
}

async fn connected() -> (Client, Hand) {
    connected_to(VERSION).await
}

/// A client and the hand of a build that speaks this version.
async fn connected_to(version: u32) -> (Client, Hand) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut hand = Hand(theirs);
    let tasks = TaskTracker::new();
    let hello = FromHand::Hello { version };
    let (client, heard) = tokio::join!(Client::connect(ours, 1, &tasks), async {
        hand.say(&hello, b"").await;
        hand.hear().await
    });
    assert_eq!(heard, Some(ToHand::Hello { version }));
    (client.unwrap(), hand)
}

fn call(name: Tool, input: serde_json::Value) -> ToolCall {
    ToolCall {
        name,
        input,
        caller: None,
    }
}

fn bash(timeout_ms: u64) -> ToolCall {
    call(
        Tool::Bash,
        json!({"command": "true", "timeout_ms": timeout_ms}),
    )
}

fn output(text: impl Into<String>) -> Vec<u8> {
    serde_json::to_vec(&Output::text(text)).unwrap()
}

/// Runs a call while `script` plays the hand, which gets the call's id.
async fn played<F: Future<Output = Hand>>(
    tool: Tool,
    script: impl FnOnce(Hand, Id) -> F,
) -> (Result<Output, Error>, Client) {
    let (client, mut hand) = connected().await;
    let call = call(tool, json!({"command": "true"}));
    let (answer, _hand) = tokio::join!(client.tool(None, call, CancellationToken::new()), async {
        let id = hand.asked().await.unwrap();
        script(hand, id).await
    });
    (answer, client)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_is_lost_at_its_limit_and_the_grace_though_pings_are() {
    for (asked, limit) in [
        (bash(3_600_000), Duration::from_secs(3600)),
        (bash(0), hand::limits::BASH_DEFAULT_TIMEOUT),
        (call(Tool::Read, json!({})), hand::limits::FILE_TIME),
        (call(Tool::Grep, json!({})), hand::limits::SEARCH_TIME),
    ] {
        let (client, mut hand) = connected().await;
        let start = tokio::time::Instant::now();
        let (answer, ()) =
            tokio::join!(client.tool(None, asked, CancellationToken::new()), async {
                while hand.asked().await.is_some() {}
            });
        assert!(matches!(answer, Err(Error::Lost)), "{answer:?}");
        assert_eq!(start.elapsed().as_secs(), (limit + TOOL_GRACE).as_secs());
        assert!(!client.is_open(), "the sandbox is to be stopped");
    }
}

/// As [`bash`], of that caller.
fn bash_of(caller: &str, timeout_ms: u64) -> ToolCall {
    ToolCall {
        caller: Some(caller.to_owned()),
        ..bash(timeout_ms)
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_waits_for_those_of_its_own_caller_only_unless_an_older_hand_has_one_shell() {
    for (version, first_limit) in [(VERSION, 1), (OLDEST, 600)] {
        let (client, mut hand) = connected_to(version).await;
        let start = tokio::time::Instant::now();
        let never = CancellationToken::new;
        let (long, short, callers) = tokio::join!(
            client.tool(None, bash_of("a", 600_000), never()),
            async {
                let answer = client.tool(None, bash_of("b", 1_000), never()).await;
                (answer, start.elapsed())
            },
            async {
                let mut callers = Vec::new();
                for _ in 0..2 {
                    loop {
                        match hand.hear().await.unwrap() {
                            ToHand::Call { caller, .. } => break callers.push(caller),
                            ToHand::Ping { id } => hand.say(&FromHand::Pong { id }, b"").await,
                            _ => {}
                        }
                    }
                }
                while hand.asked().await.is_some() {}
                callers
            }
        );
        assert!(matches!(
            (long, short.0),
            (Err(Error::Lost), Err(Error::Lost))
        ));
        let limit = Duration::from_secs(first_limit) + TOOL_GRACE;
        assert_eq!(short.1.as_secs(), limit.as_secs(), "version {version}");
        let known = (version == VERSION).then(|| vec![Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!(callers, known.unwrap_or(vec![None, None]));
    }
}

#[tokio::test]
async fn an_older_hand_is_told_nothing_of_callers_and_one_of_no_known_version_is_not_spoken_to() {
    for (version, first) in [(VERSION, true), (OLDEST, false)] {
        let (client, mut hand) = connected_to(version).await;
        client.callers(vec!["a".to_owned()]);
        client.taken("key");
        let heard = hand.hear().await.unwrap();
        assert_eq!(matches!(heard, ToHand::Callers { .. }), first, "{heard:?}");
    }
    for version in [OLDEST - 1, VERSION + 1] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut hand = Hand(theirs);
        hand.say(&FromHand::Hello { version }, b"").await;
        let client = Client::connect(ours, 1, &TaskTracker::new()).await;
        assert!(client.is_err(), "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_has_its_own_limit_after_those_that_run_before_it() {
    let (client, mut hand) = connected().await;
    let (first, second, ()) = tokio::join!(
        client.tool(None, bash(600_000), CancellationToken::new()),
        client.tool(None, bash(1_000), CancellationToken::new()),
        async {
            let ids = (hand.asked().await.unwrap(), hand.asked().await.unwrap());
            let pings_only = timeout(Duration::from_secs(600), hand.asked()).await;
            assert!(pings_only.is_err(), "{pings_only:?}");
            for id in [ids.0, ids.1] {
                hand.say(&FromHand::Done { id }, &output("late")).await;
            }
        }
    );
    assert_eq!(first.unwrap(), Output::text("late"));
    assert_eq!(second.unwrap(), Output::text("late"));
    assert!(client.0.shells.waiting().is_empty(), "the turns are over");
}

#[tokio::test(start_paused = true)]
async fn a_hand_that_answers_no_ping_loses_its_calls_before_their_limit() {
    let (client, mut hand) = connected().await;
    let start = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(
        client.tool(None, bash(3_600_000), CancellationToken::new()),
        async { while hand.hear().await.is_some() {} }
    );
    assert!(matches!(answer, Err(Error::Lost)), "{answer:?}");
    assert_eq!(start.elapsed(), PING_INTERVAL + PING);
    assert!(!client.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_start_of_a_process_that_is_never_answered_is_lost() {
    let (client, mut hand) = connected().await;
    let (answer, ()) = tokio::join!(client.spawn(Command::new(["cat"])), async {
        while hand.asked().await.is_some() {}
    });
    assert!(matches!(answer, Err(Error::Lost)), "{answer:?}");
    assert!(!client.is_open());
}

#[tokio::test]
async fn a_call_that_cannot_be_sent_yet_listens_to_its_cancel() {
    let (client, hand) = connected().await;
    let never = CancellationToken::new();
    // The hand reads nothing: the socket fills, then the queue.
    let content = "x".repeat(1 << 20);
    let stuck = join_all((0..QUEUED_FRAMES + 8).map(|_| {
        let input = json!({"file_path": "f", "content": content});
        client.tool(None, call(Tool::Write, input), never.clone())
    }));
    let cancel = CancellationToken::new();
    let late = async {
        while client.0.frames.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        let (answer, ()) = tokio::join!(client.tool(None, bash(1_000), cancel.clone()), async {
            tokio::task::yield_now().await;
            cancel.cancel();
        });
        answer
    };
    let answer = tokio::select! {
        answer = timeout(Duration::from_secs(10), late) => answer.expect("it does not listen"),
        _ = stuck => panic!("the hand answers"),
    };
    assert!(matches!(answer, Err(Error::Cancelled)), "{answer:?}");
    drop(hand);
}

#[tokio::test]
async fn an_honest_answer_passes_also_after_the_cancel() {
    let (answer, client) = played(Tool::Bash, async |mut hand, id| {
        hand.say(&FromHand::Done { id }, &output("fine")).await;
        hand
    })
    .await;
    assert_eq!(answer.unwrap(), Output::text("fine"));
    let (client, mut hand) = {
        drop(client);
        connected().await
    };
    let cancel = CancellationToken::new();
    let (answer, ()) = tokio::join!(client.tool(None, bash(0), cancel.clone()), async {
        let id = hand.asked().await.unwrap();
        cancel.cancel();
        assert_eq!(hand.hear().await, Some(ToHand::Cancel { id }));
        hand.say(&FromHand::Done { id }, &output("ended all the same"))
            .await;
    });
    assert_eq!(answer.unwrap(), Output::text("ended all the same"));
    assert!(client.is_open());
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_ends_the_conversation() {
    let picture = json!({"content": [{"type": "image", "media_type": "image/png", "data": "AAAA"}], "is_error": false});
    let picture = picture.to_string().into_bytes();
    type Say = fn(Id) -> FromHand;
    let done: Say = |id| FromHand::Done { id };
    let wrong: [(&str, Say, Vec<u8>); 9] = [
        ("a pong", |id| FromHand::Pong { id }, vec![]),
        ("a process", |id| FromHand::Spawned { id }, vec![]),
        ("an unasked end", |id| FromHand::Cancelled { id }, vec![]),
        (
            "another hello",
            |_| FromHand::Hello { version: VERSION },
            vec![],
        ),
        ("no JSON", done, b"nonsense".to_vec()),
        ("too long a text", done, output("x".repeat(SPILL_CHARS + 1))),
        ("a picture from bash", done, picture),
        (
            "an id never used",
            |id| FromHand::Done { id: id + 7 },
            output("x"),
        ),
        (
            "a process never started",
            |id| FromHand::StdinAck { id: id + 7 },
            vec![],
        ),
    ];
    for (what, say, body) in wrong {
        let (answer, client) = played(Tool::Bash, async move |mut hand, id| {
            hand.say(&say(id), &body).await;
            hand
        })
        .await;
        assert!(matches!(answer, Err(Error::Lost)), "{what}: {answer:?}");
        assert!(!client.is_open(), "{what}");
    }
}

/// Starts a process, says what `script` does, and tells whether the conversation went on.
async fn survives<F: Future<Output = Hand>>(script: impl FnOnce(Hand, Id) -> F) -> bool {
    let (client, mut hand) = connected().await;
    let (process, (id, hand)) = tokio::join!(client.spawn(Command::new(["cat"])), async {
        let id = hand.asked().await.unwrap();
        hand.say(&FromHand::Spawned { id }, b"").await;
        (id, hand)
    });
    let _process = process.unwrap();
    let mut hand = script(hand, id).await;
    // What comes after it is heard only if the conversation goes on.
    tokio::select! {
        alive = client.ping() => alive.is_ok() && client.is_open(),
        _ = hand.asked() => false,
    }
}

#[tokio::test]
async fn a_chunk_over_the_limit_or_the_window_ends_the_conversation() {
    let chunk = |id| FromHand::Chunk {
        id,
        stream: Stream::Stdout,
    };
    assert!(
        survives(async |mut hand, id| {
            hand.say(&chunk(id), &vec![0; CHUNK_BYTES]).await;
            hand
        })
        .await
    );
    assert!(
        !survives(async |mut hand, id| {
            hand.say(&chunk(id), &vec![0; CHUNK_BYTES + 1]).await;
            hand
        })
        .await
    );
    assert!(
        !survives(async |mut hand, id| {
            // Nobody reads: what the caller's pipe holds, what waits behind it, and more.
            for _ in 0..2 * WINDOW_CHUNKS {
                hand.say(&chunk(id), &vec![0; CHUNK_BYTES]).await;
            }
            hand
        })
        .await
    );
}

#[tokio::test]
async fn a_process_ends_once_and_acknowledges_only_what_it_was_sent() {
    let exited = |id| FromHand::Exited {
        id,
        code: Some(0),
        signal: None,
        timed_out: false,
    };
    assert!(
        survives(async |mut hand, id| {
            hand.say(&exited(id), b"").await;
            hand
        })
        .await
    );
    assert!(
        !survives(async |mut hand, id| {
            hand.say(&exited(id), b"").await;
            hand.say(&exited(id), b"").await;
            hand
        })
        .await
    );
    assert!(
        !survives(async |mut hand, id| {
            hand.say(&FromHand::StdinAck { id }, b"").await;
            hand
        })
        .await
    );
}

#[tokio::test]
async fn a_hand_that_refuses_no_process_does_not_get_more_than_it_may() {
    let (client, mut hand) = connected().await;
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let (process, ()) = tokio::join!(client.spawn(Command::new(["cat"])), async {
            let id = hand.asked().await.unwrap();
            hand.say(&FromHand::Spawned { id }, b"").await;
        });
        processes.push(process.unwrap());
    }
    let refused = client.spawn(Command::new(["cat"])).await;
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
}
