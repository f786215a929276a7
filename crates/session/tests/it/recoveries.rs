//! What becomes of a turn whose runner was lost, one example a rule.

use contract::content::Block;
use contract::event::Body;
use contract::ids::EventId;
use session::{Fact, Pace, Refused, Status, Step};

use crate::world::{INTERRUPT, RUNNING, World, executing, finished, interrupted, running_on};

#[test]
fn a_call_whose_runner_was_lost_is_looked_for_and_not_run_again() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "read"]);
    let lost = executing(world.report(reply));
    let from = world.log.len();
    assert_eq!(world.claim(), Ok(Step::Recover { call: lost }));
    let expected = [
        &["session.status_rescheduled"][..],
        &["session.thread_status_rescheduled"][..],
        &RUNNING[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    // A second loss in a row changes nothing.
    assert_eq!(world.claim(), Ok(Step::Recover { call: lost }));
    let from = world.log.len();
    let next = executing(world.report(finished(lost, "went on")));
    assert_ne!(lost, next, "the call behind it is started");
    assert_eq!(world.kinds_from(from), ["agent.tool_result"]);
    let result = &world.log[from].event.body;
    assert!(
        matches!(result, Body::AgentToolResult { tool_use_id, is_error: false, .. } if *tool_use_id == lost)
    );
}

#[test]
fn a_call_of_which_nothing_can_be_found_out_is_reported_as_unknown() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "read"]);
    let lost = executing(world.report(reply));
    world.claim().unwrap();
    let from = world.log.len();
    let next = executing(world.report(Fact::Lost { call: lost }));
    assert_ne!(lost, next, "it is not started again; the one behind it is");
    is_unknown(&world, from, lost);
    let refused = world.fact(world.state.generation, Fact::Lost { call: lost }, Pace::Go);
    assert!(matches!(refused, Err(Refused::OutOfPlace { .. })));
}

fn is_unknown(world: &World, at: usize, call: EventId) {
    let body = &world.log[at].event.body;
    let Body::AgentToolResult {
        tool_use_id,
        is_error: true,
        content,
    } = body
    else {
        panic!("expected an error result, got {body:?}")
    };
    assert_eq!(*tool_use_id, call);
    assert!(matches!(&content[0], Block::Text { text } if text.contains("unknown")));
}

#[test]
fn a_call_that_goes_on_without_its_runner_is_left_to_the_next_one_to_interrupt() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "read"]);
    let lost = executing(world.report(reply));
    world.send(vec![INTERRUPT]).unwrap();
    assert_eq!(world.claim(), Ok(Step::Recover { call: lost }));
    assert_eq!(world.report(interrupted()), Step::Rest);
    assert_eq!(world.state.status(), Status::Idle);
}

#[test]
fn a_call_whose_runners_are_lost_again_and_again_is_given_up_as_unknown() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "read"]);
    let lost = executing(world.report(reply));
    for _ in 0..session::limits::RECOVERIES {
        assert_eq!(world.claim(), Ok(Step::Recover { call: lost }));
    }
    let from = world.log.len();
    assert_eq!(world.claim(), Ok(Step::Rest));
    is_unknown(&world, from, lost);
    assert_eq!(
        world.kinds_from(from)[..3],
        ["agent.tool_result", "agent.tool_result", "session.error"]
    );
}

#[test]
fn a_turn_that_keeps_losing_its_runner_ends_visibly() {
    let mut world = running_on("go");
    for _ in 0..session::limits::RECOVERIES {
        assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    }
    assert_eq!(world.claim(), Ok(Step::Rest));
    assert_eq!(world.state.status(), Status::Idle);
    assert!(world.kinds().contains(&"session.error"));
}
