//! The rules of failures, retries and compaction, one example each.

use contract::event::{Body, RetryStatus, SessionErrorKind, StopReason};
use session::{Fact, Pace, Phase, Remedy, Status, Step, limits};

use crate::world::{
    IDLE, INTERRUPT, RUNNING, World, compacted, executing, failure, finished, message, running_on,
};

const RESCHEDULED: [&str; 2] = [
    "session.status_rescheduled",
    "session.thread_status_rescheduled",
];
const WAIT: Remedy = Remedy::Wait { at_least: None };

fn due_at(world: &World) -> i64 {
    match world.state.primary.phase {
        Phase::Retrying { due_at } => due_at.0,
        ref other => panic!("expected a pause, got {}", other.name()),
    }
}

/// The last `session.error`: which, what it says, what the server does.
fn error(world: &World) -> (SessionErrorKind, String, RetryStatus) {
    let found = world.log.iter().rev().find_map(|p| match &p.event.body {
        Body::SessionError { error } => Some((
            error.kind.clone(),
            error.message.clone(),
            error.retry_status,
        )),
        _ => None,
    });
    found.unwrap()
}

/// Fails, waits as long as it is told to, and asks again.
fn fail_and_try_again(world: &mut World) -> Step {
    world.fail(WAIT);
    world.now = due_at(world);
    world.claim().unwrap()
}

fn crowded(mut reply: Fact) -> Fact {
    if let Fact::Replied { crowded, .. } = &mut reply {
        *crowded = true;
    }
    reply
}

#[test]
fn a_failure_that_may_pass_is_shown_then_rescheduled_then_tried_again() {
    let mut world = running_on("go");
    let from = world.log.len();
    assert_eq!(world.fail(WAIT), Step::Rest);
    let expected = [
        &["span.model_request_end", "session.error"][..],
        &RESCHEDULED[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(error(&world).2, RetryStatus::Retrying {});
    assert_eq!(world.state.status(), Status::Rescheduling);
    assert_eq!(
        world.run.unwrap().due_at,
        due_at(&world),
        "the next try is a row with its time"
    );
    world.now = due_at(&world);
    let from = world.log.len();
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    let expected = [&RUNNING[..], &["span.model_request_start"][..]].concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn pauses_double_up_to_their_bound_and_are_drawn_below_it() {
    let (mut longest, mut shortest) = ([0; 7], [i64::MAX; 7]);
    for seed in 0..300 {
        let mut world = World::new(seed, vec![message("go")]);
        world.claim().unwrap();
        for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
            world.fail(WAIT);
            let pause = due_at(&world) - world.now;
            (*longest, *shortest) = (pause.max(*longest), pause.min(*shortest));
            assert!(pause >= 0);
            world.now = due_at(&world);
            world.claim().unwrap();
        }
    }
    for (n, (longest, shortest)) in longest.into_iter().zip(shortest).enumerate() {
        let bound = (1_000_000 << n).min(30_000_000);
        assert!(
            shortest < bound / 10,
            "pause {n} is never short: {shortest}"
        );
        assert!(longest <= bound, "pause {n} was {longest}");
        assert!(
            longest > bound * 9 / 10,
            "pause {n} is never near its bound: {longest}"
        );
    }
}

#[test]
fn a_provider_that_says_how_long_is_believed_up_to_five_minutes() {
    for (said, wanted) in [(40_000_000, 40_000_000), (3_600_000_000, 300_000_000)] {
        let mut world = running_on("go");
        let at_least = Some(said);
        world.fail(Remedy::Wait { at_least });
        assert_eq!(due_at(&world) - world.now, wanted);
    }
}

#[test]
fn the_eighth_failure_in_a_row_exhausts_the_turn_and_flushes_what_waited() {
    let mut world = running_on("go");
    for _ in 1..limits::TRIES {
        assert!(matches!(
            fail_and_try_again(&mut world),
            Step::Request { .. }
        ));
    }
    world.send(vec![message("still there?")]).unwrap();
    let from = world.log.len();
    assert_eq!(world.fail(WAIT), Step::Rest);
    let expected = [
        &["span.model_request_end", "session.error", "user.message"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    let (kind, text, status) = error(&world);
    assert_eq!(kind, SessionErrorKind::ModelOverloadedError);
    assert_eq!(text, "overloaded (tried 8 times)");
    assert_eq!(status, RetryStatus::Exhausted {});
    let Body::StatusIdle { stop_reason, .. } = &world.log.last().unwrap().event.body else {
        panic!("idle")
    };
    assert_eq!(*stop_reason, StopReason::RetriesExhausted {});
    world.send(vec![message("again")]).unwrap();
    assert!(
        matches!(world.claim(), Ok(Step::Request { .. })),
        "the next message starts fresh"
    );
    world.fail(WAIT);
    assert_eq!(world.state.status(), Status::Rescheduling);
}

#[test]
fn ten_minutes_of_failing_exhaust_the_turn_too() {
    for (after, rests) in [(limits::TRYING - 1, false), (limits::TRYING, true)] {
        let mut world = running_on("go");
        world.fail(WAIT);
        let first = world.now;
        world.now = due_at(&world);
        world.claim().unwrap();
        world.now = first + after;
        world.fail(WAIT);
        assert_eq!(world.state.status() == Status::Idle, rests);
    }
}

#[test]
fn an_answer_of_the_model_forgives_the_failures_before_it() {
    let mut world = running_on("go");
    for _ in 1..limits::TRIES {
        fail_and_try_again(&mut world);
    }
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    world.report(finished(call, "ran"));
    world.fail(WAIT);
    assert_eq!(world.state.status(), Status::Rescheduling);
}

#[test]
fn a_failure_that_no_time_cures_exhausts_at_once() {
    let mut world = running_on("go");
    assert_eq!(world.fail(Remedy::None), Step::Rest);
    assert_eq!(error(&world).2, RetryStatus::Exhausted {});
    assert_eq!(world.state.status(), Status::Idle);
}

#[test]
fn a_message_sent_between_two_tries_waits_for_the_next() {
    let mut world = running_on("go");
    world.fail(WAIT);
    let run = world.run;
    let sent = world.send(vec![message("hurry")]).unwrap();
    assert_eq!(
        (sent.queued.len(), world.run),
        (1, run),
        "it does not bring the try forward"
    );
    world.now = due_at(&world);
    let from = world.log.len();
    world.claim().unwrap();
    let expected = [
        &RUNNING[..],
        &["user.message", "span.model_request_start"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn an_interrupt_between_two_tries_ends_the_turn_at_once() {
    let mut world = running_on("go");
    world.fail(WAIT);
    world.send(vec![message("hurry")]).unwrap();
    let from = world.log.len();
    let sent = world.send(vec![INTERRUPT]).unwrap();
    assert!(sent.echo[0].processed_at.is_some());
    let expected = [
        &["user.interrupt"][..],
        &IDLE[..],
        &RUNNING[..],
        &["user.message"][..],
    ]
    .concat();
    assert_eq!(
        world.kinds_from(from),
        expected,
        "what waited opens the next turn"
    );
    assert_eq!(
        world.run.unwrap().due_at,
        world.now,
        "and that one waits for nothing"
    );
}

#[test]
fn an_interrupt_ends_a_turn_whose_request_failed_meanwhile() {
    for remedy in [Remedy::None, WAIT, Remedy::Compact] {
        let mut world = running_on("go");
        world.send(vec![INTERRUPT]).unwrap();
        let from = world.log.len();
        world.fail(remedy);
        let expected = [&["span.model_request_end", "user.interrupt"][..], &IDLE[..]].concat();
        assert_eq!(world.kinds_from(from), expected);
    }
}

#[test]
fn a_runner_lost_between_two_tries_costs_nothing() {
    let mut world = running_on("go");
    fail_and_try_again(&mut world);
    world.fail(WAIT);
    world.now = due_at(&world);
    let from = world.log.len();
    world.claim().unwrap();
    assert_eq!(world.count("session.status_rescheduled"), 2);
    assert!(
        !world
            .kinds_from(from)
            .contains(&"session.status_rescheduled")
    );
}

#[test]
fn a_crowded_transcript_is_condensed_before_the_waiting_message_takes_its_place() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(crowded(reply)));
    world.send(vec![message("more")]).unwrap();
    let from = world.log.len();
    assert!(matches!(
        world.report(finished(call, "ran")),
        Step::Compact { .. }
    ));
    world.send(vec![message("yet more")]).unwrap();
    assert!(matches!(world.report(compacted()), Step::Request { .. }));
    let expected = [
        &["agent.tool_result", "span.model_request_start"][..],
        &["span.model_request_end", "agent.thread_context_compacted"][..],
        &["user.message", "user.message", "span.model_request_start"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    let summary = world.records.last().unwrap();
    assert_eq!(summary.seq, world.state.primary.history_from);
    let at = usize::try_from(summary.seq).unwrap() - 1;
    assert_eq!(
        world.log[at].event.body.kind(),
        "agent.thread_context_compacted"
    );
    assert!(!world.state.primary.crowded);
}

#[test]
fn a_request_that_no_longer_fits_is_condensed_and_made_again() {
    let mut world = running_on("go");
    let from = world.log.len();
    assert!(matches!(world.fail(Remedy::Compact), Step::Compact { .. }));
    assert!(matches!(world.report(compacted()), Step::Request { .. }));
    let expected = [
        "span.model_request_end",
        "span.model_request_start",
        "span.model_request_end",
        "agent.thread_context_compacted",
        "span.model_request_start",
    ];
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn compactions_that_do_not_help_end_the_turn() {
    let mut world = running_on("go");
    for _ in 0..limits::COMPACTIONS {
        assert!(matches!(world.fail(Remedy::Compact), Step::Compact { .. }));
        assert!(matches!(world.report(compacted()), Step::Request { .. }));
    }
    assert_eq!(world.fail(Remedy::Compact), Step::Rest);
    assert_eq!(
        error(&world).0,
        SessionErrorKind::CompactionLimitReachedError
    );
    let mut world = running_on("go");
    world.fail(Remedy::Compact);
    assert_eq!(
        world.fail(Remedy::Compact),
        Step::Rest,
        "a summary that does not fit either"
    );
    assert_eq!(
        error(&world).0,
        SessionErrorKind::CompactionLimitReachedError
    );
}

#[test]
fn an_answer_of_the_model_forgives_the_compactions_before_it() {
    let mut world = running_on("go");
    for _ in 0..2 * limits::COMPACTIONS {
        world.fail(Remedy::Compact);
        world.report(compacted());
        let reply = world.reply(None, &["unknown"]);
        assert!(matches!(world.report(reply), Step::Request { .. }));
    }
}

#[test]
fn a_compaction_that_failed_for_a_while_is_tried_again_as_one() {
    let mut world = running_on("go");
    world.fail(Remedy::Compact);
    world.fail(WAIT);
    world.now = due_at(&world);
    assert!(matches!(world.claim(), Ok(Step::Compact { .. })));
}

#[test]
fn a_compaction_forgives_the_failures_before_it() {
    let mut world = running_on("go");
    for _ in 1..limits::TRIES {
        fail_and_try_again(&mut world);
    }
    world.fail(Remedy::Compact);
    world.report(compacted());
    world.fail(WAIT);
    assert_eq!(world.state.status(), Status::Rescheduling);
}

#[test]
fn a_compaction_lost_with_its_runner_is_begun_again() {
    let mut world = running_on("go");
    world.fail(Remedy::Compact);
    let from = world.log.len();
    assert!(matches!(world.claim(), Ok(Step::Compact { .. })));
    let expected = [
        &["span.model_request_end"][..],
        &RESCHEDULED[..],
        &RUNNING[..],
        &["span.model_request_start"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn an_interrupt_stops_a_compaction() {
    let mut world = running_on("go");
    world.fail(Remedy::Compact);
    world.send(vec![INTERRUPT]).unwrap();
    let from = world.log.len();
    assert_eq!(world.report(compacted()), Step::Rest);
    let expected = [
        &[
            "span.model_request_end",
            "agent.thread_context_compacted",
            "user.interrupt",
        ][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(
        world.kinds_from(from),
        expected,
        "what is condensed stays condensed"
    );
}

#[test]
fn a_draining_server_begins_neither_a_request_nor_a_compaction() {
    for remedy in [Remedy::Compact, WAIT] {
        let mut world = running_on("go");
        world.send(vec![message("more")]).unwrap();
        let held = world.state.generation;
        assert_eq!(
            world.fact(held, failure(remedy), Pace::Halt),
            Ok(Step::Rest)
        );
        assert!(world.checker.span.is_none());
        assert!(world.run.is_some(), "somebody else goes on");
        if remedy == Remedy::Compact {
            assert!(matches!(world.claim(), Ok(Step::Compact { .. })));
        }
    }
}

#[test]
fn a_turn_that_loses_its_runner_may_get_on_in_between() {
    let mut world = running_on("go");
    for _ in 0..limits::RECOVERIES {
        world.claim().unwrap();
    }
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    world.report(finished(call, "ran"));
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    assert_eq!(world.count("session.error"), 0);
}

#[test]
fn neither_a_queue_nor_a_server_that_was_down_is_running_time() {
    let mut world = running_on("go");
    world.now += 5_000_000;
    let reply = world.reply(None, &["bash"]);
    world.report(reply);
    world.now += 3_600_000_000;
    let Step::Recover { call } = world.claim().unwrap() else {
        panic!("a call was lost")
    };
    world.report(Fact::Lost { call });
    world.now += 2_000_000;
    let reply = world.reply(Some("done"), &[]);
    world.report(reply);
    let seconds = world
        .state
        .totals
        .active_seconds(contract::time::Micros(world.now));
    assert!((6.99..7.01).contains(&seconds), "{seconds}");
}

#[test]
fn what_is_reported_of_a_request_is_taken_once() {
    let mut world = running_on("go");
    world.send(vec![message("and this")]).unwrap();
    let generation = world.state.generation;
    let first = world.reply(Some("said"), &[]);
    let (reply, failed) = (
        world.addressed(first),
        world.addressed(failure(Remedy::None)),
    );
    let step = world.report(reply.clone());
    assert!(matches!(step, Step::Request { .. }), "{step:?}");
    let log = world.log.len();
    for late in [reply, failed] {
        let refused = world.fact(generation, late, Pace::Go);
        assert!(
            matches!(refused, Err(session::Refused::OutOfPlace { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(world.log.len(), log);
    let next = world.reply(Some("this too"), &[]);
    assert_eq!(world.report(next), Step::Rest);
}
