//! The rules of a session, one example each: turns, answers, interrupts, losses, limits. The orders of
//! events are those of the recordings.

use contract::event::{Body, StopReason};
use contract::ids::EventId;
use session::{Command, Fact, Input, Intent, Pace, Refused, Remedy, Stage, Status, Step, Update};

use crate::world::{
    IDLE, INTERRUPT, RUNNING, World, answer, executing, finished, interrupted, message, running_on,
};

#[test]
fn a_plain_turn_has_the_recorded_order() {
    let mut world = running_on("hi");
    let reply = world.reply(Some("hello"), &[]);
    assert_eq!(world.report(reply), Step::Rest);
    let expected = [
        &RUNNING[..],
        &[
            "user.message",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
        ],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds(), expected);
    assert_eq!(world.state.status(), Status::Idle);
}

#[test]
fn a_row_leaves_out_what_a_new_session_has_and_one_with_all_of_it_is_read() {
    let world = World::new(5, Vec::new());
    let short = serde_json::to_string(&world.state).unwrap();
    assert!(!short.contains("\"totals\"") && !short.contains("false") && !short.contains("null"));
    // As rows were written before.
    let totals = serde_json::json!({
        "input": 0, "output": 0, "cache_read": 0, "cache_5m": 0, "cache_1h": 0, "cost": 0, "priced": false,
        "unpriced": false, "active": 0, "running_since": null,
    });
    let mut long = serde_json::from_str::<serde_json::Value>(&short).unwrap();
    for (key, value) in [
        ("children", serde_json::json!([])),
        ("begun", 0.into()),
        ("ended_active", 0.into()),
        ("advising", ().into()),
        ("archived", false.into()),
        ("waiting", 0.into()),
        ("waiting_bytes", 0.into()),
        ("budget", serde_json::json!({"is": "none"})),
        ("totals", totals.clone()),
        ("outcome", ().into()),
        ("outcome_waits", false.into()),
        ("outcomes", 0.into()),
    ] {
        assert!(long.get(key).is_none(), "{key}");
        long[key] = value;
    }
    let effort = serde_json::json!({
        "rounds": 0, "recoveries": 0, "failures": 0, "failing_since": null, "compactions": 0,
    });
    for (key, value) in [
        ("turn", 0.into()),
        ("interrupting", false.into()),
        ("waiting", 0.into()),
        ("rest", ().into()),
        ("totals", totals),
        ("effort", effort),
        ("crowded", false.into()),
        ("history_from", 0.into()),
    ] {
        assert!(long["primary"].get(key).is_none(), "{key}");
        long["primary"][key] = value;
    }
    for row in [short, long.to_string()] {
        assert_eq!(
            serde_json::from_str::<session::State>(&row).unwrap(),
            world.state
        );
    }
}

#[test]
fn the_echo_of_a_message_has_no_time_yet() {
    let mut world = World::new(5, Vec::new());
    let sent = world.send(vec![message("hi")]).unwrap();
    assert_eq!(sent.echo.len(), 1);
    assert_eq!(sent.echo[0].processed_at, None);
    assert_eq!(sent.intents, [Intent::Run]);
    assert_eq!(
        world.log[2].event.id, sent.echo[0].id,
        "it took its place under the same id"
    );
}

#[test]
fn a_call_is_recorded_as_started_before_it_runs_and_calls_run_in_order() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "read"]);
    let first = executing(world.report(reply));
    assert_eq!(world.records.len(), 2, "the reply, and the first call only");
    let second = executing(world.report(finished(first, "one")));
    assert_ne!(first, second);
    assert_eq!(world.records.len(), 3);
    assert!(matches!(
        world.report(finished(second, "two")),
        Step::Request { .. }
    ));
}

#[test]
fn a_message_sent_mid_turn_appears_after_the_tool_result_in_the_same_pair() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    let sent = world.send(vec![message("also this")]).unwrap();
    assert_eq!(sent.queued.len(), 1);
    let from = world.log.len();
    world.report(finished(call, "out"));
    let reply = world.reply(Some("both done"), &[]);
    world.report(reply);
    let expected = [
        &[
            "agent.tool_result",
            "user.message",
            "span.model_request_start",
        ][..],
        &["agent.message", "span.model_request_end"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(
        world
            .kinds()
            .iter()
            .filter(|k| **k == "session.status_running")
            .count(),
        1
    );
}

#[test]
fn a_message_sent_while_the_model_speaks_its_last_is_answered_in_the_same_turn() {
    let mut world = running_on("go");
    world.send(vec![message("wait")]).unwrap();
    let from = world.log.len();
    let reply = world.reply(Some("first"), &[]);
    assert!(matches!(world.report(reply), Step::Request { .. }));
    assert_eq!(
        world.kinds_from(from),
        [
            "agent.message",
            "span.model_request_end",
            "user.message",
            "span.model_request_start"
        ]
    );
}

#[test]
fn a_custom_call_idles_the_session_and_its_answer_resumes_it() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["ask", "bash", "ask"]);
    let call = executing(world.report(reply));
    assert_eq!(world.report(finished(call, "ran")), Step::Rest);
    let blocked = world.blocked();
    assert_eq!(blocked.len(), 2);
    let refused = world
        .send(vec![answer(blocked[0]), message("?")])
        .unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with(
            "Invalid user.message event at events[1]: waiting on responses to events [sevt_"
        ),
        "{text}"
    );

    let from = world.log.len();
    let sent = world.send(vec![answer(blocked[1])]).unwrap();
    assert!(
        sent.echo[0].processed_at.is_some(),
        "an answer is processed on receipt"
    );
    assert_eq!(
        world.kinds_from(from),
        [&["user.custom_tool_result"][..], &IDLE[..]].concat()
    );
    assert_eq!(world.blocked(), [blocked[0]]);

    let from = world.log.len();
    world.send(vec![answer(blocked[0])]).unwrap();
    assert_eq!(
        world.kinds_from(from),
        [&["user.custom_tool_result"][..], &RUNNING[..]].concat()
    );
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
}

#[test]
fn an_answer_that_came_early_spares_the_stop() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "ask"]);
    let call = executing(world.report(reply));
    let custom = world
        .log
        .iter()
        .rev()
        .find(|p| matches!(p.event.body, Body::AgentCustomToolUse { .. }));
    let custom = custom.unwrap().event.id;
    let answer = answer(custom);
    world.send(vec![answer]).unwrap();
    assert!(matches!(
        world.report(finished(call, "ran")),
        Step::Request { .. }
    ));
}

#[test]
fn an_answer_after_completion_makes_an_empty_cycle() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let call = world.blocked()[0];
    let answer = answer(call);
    world.send(vec![answer.clone()]).unwrap();
    world.claim().unwrap();
    let reply = world.reply(Some("thanks"), &[]);
    world.report(reply);
    let from = world.log.len();
    let sent = world.send(vec![answer]).unwrap();
    let cycle = [&["user.custom_tool_result"][..], &RUNNING[..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), cycle);
    assert!(sent.intents.is_empty(), "nobody needs to run");
}

#[test]
fn an_answer_to_no_call_names_the_id() {
    let mut world = running_on("go");
    let call = EventId::from_bits(9);
    let answer = answer(call);
    let refused = world.send(vec![message("m"), answer]).unwrap_err();
    assert_eq!(
        refused,
        Refused::UnknownCall {
            index: 1,
            field: "custom_tool_use_id",
            wanted: "agent.custom_tool_use",
            id: call
        }
    );
    assert!(world.inbox.is_empty(), "a batch is refused whole");
}

#[test]
fn an_interrupt_waits_for_the_runner_then_ends_the_turn_and_the_next_message_starts_one() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "ask"]);
    world.report(reply);
    let from = world.log.len();
    let sent = world.send(vec![INTERRUPT, message("rather this")]).unwrap();
    assert!(sent.intents.contains(&Intent::Stop));
    assert!(sent.echo.iter().all(|e| e.processed_at.is_none()));
    assert_eq!(world.report(interrupted()), Step::Rest);
    let expected = [
        &["user.interrupt", "agent.tool_result", "agent.tool_result"][..],
        &IDLE[..],
        &RUNNING[..],
        &["user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn an_interrupt_closes_calls_that_wait_for_the_client() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let from = world.log.len();
    world.send(vec![INTERRUPT]).unwrap();
    let expected = [&["user.interrupt", "agent.tool_result"][..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    assert!(world.blocked().is_empty());
}

#[test]
fn an_interrupt_of_an_idle_session_changes_nothing_but_is_kept() {
    let mut world = World::new(5, Vec::new());
    let sent = world.send(vec![INTERRUPT]).unwrap();
    assert!(sent.echo[0].processed_at.is_some());
    assert_eq!(world.kinds(), ["user.interrupt"]);
}

#[test]
fn a_failed_request_ends_the_turn_and_flushes_what_waited() {
    let mut world = running_on("go");
    world.send(vec![message("more")]).unwrap();
    let from = world.log.len();
    world.fail(Remedy::None);
    let expected = [
        &["span.model_request_end", "session.error", "user.message"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn a_stale_generation_is_refused() {
    let mut world = running_on("go");
    let old = world.state.generation;
    world.claim().unwrap();
    let reply = world.reply(Some("late"), &[]);
    let refused = world.fact(old, reply, Pace::Go).unwrap_err();
    assert!(matches!(refused, Refused::Stale { .. }));
}

#[test]
fn a_draining_server_leaves_nothing_in_flight() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash"]);
    let generation = world.state.generation;
    assert_eq!(world.fact(generation, reply, Pace::Halt), Ok(Step::Rest));
    let session::Phase::Acting { calls } = &world.state.primary.phase else {
        panic!("a call waits")
    };
    assert_eq!(calls[0].stage, Stage::Ready);
    let from = world.log.len();
    executing(world.claim().unwrap());
    assert!(
        world.kinds_from(from).is_empty(),
        "taken up without any loss to show"
    );
}

#[test]
fn a_tool_the_session_does_not_have_is_denied_with_a_result() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["web_fetch"]);
    assert!(matches!(world.report(reply), Step::Request { .. }));
    assert!(world.kinds().contains(&"agent.tool_result"));
}

#[test]
fn a_turn_cannot_loop_for_ever() {
    let mut world = running_on("go");
    for _ in 0..session::limits::TOOL_ROUNDS {
        let reply = world.reply(None, &["unknown"]);
        assert!(matches!(world.report(reply), Step::Request { .. }));
    }
    let reply = world.reply(None, &["bash", "ask"]);
    assert_eq!(world.report(reply), Step::Rest);
    let last = world.kinds_from(world.log.len() - 6);
    let expected = [
        &["agent.tool_result", "agent.tool_result", "session.error"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(last, expected);
    assert!(world.blocked().is_empty());
}

#[test]
fn a_reply_alone_does_not_forgive_the_losses_before_it() {
    let mut world = running_on("go");
    for _ in 0..session::limits::RECOVERIES {
        world.claim().unwrap();
        let reply = world.reply(None, &["unknown"]);
        world.report(reply);
    }
    assert_eq!(world.claim(), Ok(Step::Rest));
    assert_eq!(world.count("session.error"), 1);
}

#[test]
fn archive_and_delete_wait_for_the_turn_and_an_archived_session_takes_nothing() {
    let mut world = running_on("go");
    let refused = world.submit(Input::Command(Command::Delete)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Cannot delete session while it is running. Send an interrupt event or wait for the session to complete."
    );
    assert!(world.submit(Input::Command(Command::Archive)).is_err());
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    world.submit(Input::Command(Command::Archive)).unwrap();
    assert_eq!(world.state.status(), Status::Terminated);
    assert_eq!(
        world.send(vec![message("more")]).unwrap_err(),
        Refused::Archived
    );
}

#[test]
fn the_inbox_is_bounded() {
    let mut world = running_on("go");
    for _ in 0..session::limits::INBOX / 100 {
        world
            .send((0..100).map(|_| message("x")).collect())
            .unwrap();
    }
    let refused = world.send(vec![message("one too many")]).unwrap_err();
    assert_eq!(
        refused,
        Refused::InboxFull {
            limit: session::limits::INBOX
        }
    );
}

#[test]
fn a_full_inbox_does_not_keep_its_client_from_stopping_the_session() {
    let mut world = running_on("go");
    for _ in 0..session::limits::INBOX / 100 {
        world
            .send((0..100).map(|_| message("x")).collect())
            .unwrap();
    }
    world.send(vec![INTERRUPT]).unwrap();
    assert_eq!(world.report(interrupted()), Step::Rest);
    let stop = INTERRUPT;
    let too_many = vec![stop; session::limits::INTERRUPTS as usize + 1];
    let mut world = running_on("go");
    for _ in 0..session::limits::INBOX / 100 {
        world
            .send((0..100).map(|_| message("x")).collect())
            .unwrap();
    }
    assert!(matches!(
        world.send(too_many),
        Err(Refused::InboxFull { .. })
    ));
}

#[test]
fn two_updates_cannot_add_up_to_more_metadata_than_one_may_have() {
    let mut world = World::new(5, Vec::new());
    let update = |from: usize, to: usize| {
        let metadata = (from..to)
            .map(|n| (format!("k{n}"), Some("v".to_owned())))
            .collect();
        Input::Command(Command::Update(Box::new(Update {
            metadata,
            ..Update::default()
        })))
    };
    world.submit(update(0, 10)).unwrap();
    let refused = world.submit(update(10, 20)).unwrap_err();
    assert_eq!(
        refused,
        Refused::TooManyPairs {
            limit: session::limits::METADATA_PAIRS
        }
    );
    assert_eq!(world.profile.metadata.len(), 10);
}

#[test]
fn a_refusal_of_the_model_ends_the_turn_and_says_so() {
    let mut world = running_on("go");
    let mut reply = world.reply(None, &[]);
    let details = contract::event::RefusalDetails {
        kind: "refusal".to_owned(),
        category: None,
        explanation: Some("no".to_owned()),
    };
    if let Fact::Replied { end, .. } = &mut reply {
        *end = session::input::ReplyEnd::Refused(Some(details.clone()));
    }
    assert_eq!(world.report(reply), Step::Rest);
    let shown = world.log.iter().rev().find_map(|p| match &p.event.body {
        Body::StatusIdle {
            stop_reason: StopReason::Refusal {},
            stop_details,
        } => stop_details.clone(),
        _ => None,
    });
    assert_eq!(shown, Some(details));
}
