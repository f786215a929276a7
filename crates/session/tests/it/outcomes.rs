//! The rules of outcomes, one example each.

use contract::event::{Body, StopReason};
use contract::ids::EventId;
use contract::patch::Patch;
use session::input::{Grade, ReplyEnd};
use session::{
    Command, Fact, Input, Pace, Phase, Refused, Remedy, Standing, Status, Step, Update, limits,
};

use crate::graded::{graded, outcome};
use crate::world::{IDLE, INTERRUPT, OPEN, RUNNING, World, finished, interrupted, message, used};

const START: &str = "span.outcome_evaluation_start";
const ONGOING: &str = "span.outcome_evaluation_ongoing";
const END: &str = "span.outcome_evaluation_end";

/// A session whose model works on an outcome of so many iterations.
fn working(most: u32) -> World {
    let mut world = World::new(5, vec![outcome(1, Some(most))]);
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    world
}

/// The same, with a grader at work.
fn grading(most: u32) -> World {
    let mut world = working(most);
    let step = say(&mut world, "a report");
    assert!(matches!(step, Step::Grade { .. }));
    world
}

fn say(world: &mut World, text: &str) -> Step {
    let reply = world.reply(Some(text), &[]);
    world.report(reply)
}

/// Start, iteration and result of each evaluation that ended.
fn ends(world: &World) -> Vec<(Option<EventId>, u32, String)> {
    let end = |body: &Body| match body {
        Body::SpanOutcomeEvaluationEnd {
            outcome_evaluation_start_id: start,
            iteration,
            result,
            ..
        } => Some((*start, *iteration, result.clone())),
        _ => None,
    };
    let events = world.log.iter().map(|p| &p.event.body);
    events.filter_map(end).collect()
}

fn results(world: &World) -> Vec<String> {
    ends(world)
        .into_iter()
        .map(|(_, _, result)| result)
        .collect()
}

fn kinds(parts: &[&[&'static str]]) -> Vec<&'static str> {
    parts.concat()
}

#[test]
fn an_outcome_starts_the_work_without_a_message_and_its_echo_carries_the_time() {
    let mut world = World::new(5, vec![]);
    let sent = world.send(vec![outcome(1, None)]).unwrap();
    assert!(sent.echo[0].processed_at.is_some());
    assert_eq!(world.kinds(), kinds(&[&RUNNING, &["user.define_outcome"]]));
    assert_eq!(world.checker.shown, [Standing::Running]);
}

#[test]
fn a_satisfied_grader_ends_the_turn() {
    let mut world = working(3);
    let from = world.log.len();
    say(&mut world, "a report");
    assert_eq!(world.report(graded(Grade::Satisfied)), Step::Rest);
    let expected: [&[&str]; 3] = [
        &["agent.message", "span.model_request_end", START],
        &[END],
        &IDLE,
    ];
    assert_eq!(world.kinds_from(from), kinds(&expected));
    assert_eq!(world.checker.shown, [Standing::Satisfied]);
    assert_eq!(world.state.outcome, None);
}

#[test]
fn a_revision_is_another_iteration_of_the_same_turn() {
    let mut world = grading(3);
    let step = world.report(graded(Grade::NeedsRevision));
    assert!(matches!(step, Step::Request { .. }));
    assert_eq!(world.checker.shown, [Standing::Running]);
    say(&mut world, "a better report");
    world.report(graded(Grade::Satisfied));
    assert_eq!(results(&world), ["needs_revision", "satisfied"]);
    let iterations = ends(&world).into_iter().map(|(_, n, _)| n);
    assert_eq!(iterations.collect::<Vec<_>>(), [0, 1]);
    assert_eq!(world.count("session.status_running"), 1);
}

#[test]
fn after_the_last_iteration_the_agent_says_one_more_word_and_nobody_grades_it() {
    let mut world = grading(1);
    let step = world.report(graded(Grade::NeedsRevision));
    assert!(matches!(step, Step::Request { .. }));
    assert_eq!(world.checker.shown, [Standing::MaxIterationsReached]);
    assert_eq!(say(&mut world, "this is missing"), Step::Rest);
    assert_eq!(results(&world), ["max_iterations_reached"]);
}

#[test]
fn three_iterations_unless_the_client_says_otherwise() {
    let mut world = World::new(5, vec![outcome(1, None)]);
    world.claim().unwrap();
    for _ in 0..3 {
        say(&mut world, "a report");
        world.report(graded(Grade::NeedsRevision));
    }
    let last = results(&world).pop();
    assert_eq!(last.as_deref(), Some("max_iterations_reached"));
    assert_eq!(limits::ITERATIONS, 3);
}

#[test]
fn a_rubric_that_does_not_apply_ends_the_turn() {
    let mut world = grading(3);
    assert_eq!(world.report(graded(Grade::Failed)), Step::Rest);
    assert_eq!(world.checker.shown, [Standing::Failed]);
    assert_eq!(world.state.status(), Status::Idle);
}

#[test]
fn an_interrupt_stops_the_grader_and_ends_the_outcome() {
    let mut world = grading(3);
    world.send(vec![INTERRUPT]).unwrap();
    assert_eq!(
        world.state.status(),
        Status::Running,
        "its runner stops first"
    );
    let from = world.log.len();
    world.report(Fact::Interrupted { used: used(1) });
    assert_eq!(
        world.kinds_from(from),
        kinds(&[&["user.interrupt", END], &IDLE])
    );
    let Phase::Idle = world.state.primary.phase else {
        panic!("idle")
    };
    let ends = ends(&world);
    let [(Some(_), 0, result)] = ends.as_slice() else {
        panic!("an evaluation that had begun")
    };
    assert_eq!(result, "interrupted");
    let Body::SpanOutcomeEvaluationEnd { usage, .. } = &world.log[from + 1].event.body else {
        panic!("an end")
    };
    assert_eq!(usage.output_tokens, 3, "what the grader used is shown");
}

#[test]
fn an_interrupt_of_the_work_ends_the_outcome_with_an_evaluation_that_never_began() {
    let mut world = working(3);
    let reply = world.reply(None, &["write"]);
    world.report(reply);
    let from = world.log.len();
    world.send(vec![INTERRUPT]).unwrap();
    let expected: [&[&str]; 2] = [&["user.interrupt", "agent.tool_result", END], &IDLE];
    assert_eq!(world.kinds_from(from), kinds(&expected));
    assert_eq!(ends(&world), [(None, 0, "interrupted".to_owned())]);
}

#[test]
fn a_verdict_that_comes_while_an_interrupt_waits_counts_unless_it_wants_more_work() {
    let all = [
        (Grade::Satisfied, "satisfied"),
        (Grade::Failed, "failed"),
        (Grade::NeedsRevision, "interrupted"),
    ];
    for (grade, result) in all {
        let mut world = grading(3);
        world.send(vec![INTERRUPT]).unwrap();
        assert_eq!(world.report(graded(grade)), Step::Rest);
        assert_eq!(results(&world), [result]);
        assert_eq!(world.count("user.interrupt"), 1);
    }
}

#[test]
fn an_interrupt_with_an_outcome_behind_it_redirects_the_work() {
    let mut world = grading(3);
    let sent = world.send(vec![INTERRUPT, outcome(2, None)]).unwrap();
    assert_eq!(sent.queued.len(), 2, "both wait for the runner");
    assert_eq!(
        world.checker.shown,
        [Standing::Evaluating, Standing::Pending]
    );
    let from = world.log.len();
    world.report(interrupted());
    let expected: [&[&str]; 4] = [
        &["user.interrupt", END],
        &IDLE,
        &RUNNING,
        &["user.define_outcome"],
    ];
    assert_eq!(world.kinds_from(from), kinds(&expected));
    assert_eq!(
        world.checker.shown,
        [Standing::Interrupted, Standing::Running]
    );
}

#[test]
fn a_second_outcome_is_refused_while_one_is_open_or_waits() {
    let second = |world: &mut World, events| world.send(events).unwrap_err();
    for mut world in [working(3), grading(3)] {
        let refused = second(&mut world, vec![outcome(2, None)]);
        assert_eq!(refused, Refused::OutcomeOpen { index: 0 });
    }
    let mut world = World::new(5, vec![message("go")]);
    world.claim().unwrap();
    world.send(vec![outcome(1, None)]).unwrap();
    let refused = second(&mut world, vec![message("and"), outcome(2, None)]);
    assert_eq!(refused, Refused::OutcomeOpen { index: 1 });
    let mut world = World::new(5, vec![]);
    let refused = second(&mut world, vec![outcome(1, None), outcome(2, None)]);
    assert_eq!(refused, Refused::OutcomeOpen { index: 1 });
}

#[test]
fn the_next_outcome_may_follow_the_final_evaluation() {
    let mut world = grading(3);
    world.report(graded(Grade::Satisfied));
    world.send(vec![outcome(2, None)]).unwrap();
    assert_eq!(
        world.checker.shown,
        [Standing::Satisfied, Standing::Running]
    );
}

#[test]
fn a_session_has_a_limited_number_of_outcomes() {
    let mut world = World::new(5, vec![]);
    for n in 0..limits::OUTCOMES {
        world
            .send(vec![outcome(u128::from(n) + 1, None), INTERRUPT])
            .unwrap();
    }
    let refused = world.send(vec![outcome(1_000, None)]).unwrap_err();
    let limit = limits::OUTCOMES;
    assert_eq!(refused, Refused::TooManyOutcomes { index: 0, limit });
}

#[test]
fn an_outcome_that_comes_in_the_middle_of_a_turn_waits_for_the_next_request() {
    let mut world = World::new(5, vec![message("go")]);
    world.claim().unwrap();
    let sent = world.send(vec![outcome(1, None)]).unwrap();
    assert_eq!(sent.echo[0].processed_at, None);
    assert_eq!(world.checker.shown, [Standing::Pending]);
    let step = say(&mut world, "hello");
    assert!(matches!(step, Step::Request { .. }), "in the same turn");
    assert_eq!(world.checker.shown, [Standing::Running]);
}

#[test]
fn a_message_that_comes_while_the_agent_works_is_answered_before_anybody_grades() {
    let mut world = working(3);
    world.send(vec![message("and shorter")]).unwrap();
    let step = say(&mut world, "a report");
    assert!(matches!(step, Step::Request { .. }));
    let step = say(&mut world, "a shorter one");
    assert!(matches!(step, Step::Grade { .. }));
}

#[test]
fn a_message_that_comes_while_a_grader_works_waits_for_the_verdict_and_is_answered() {
    for grade in [Grade::Satisfied, Grade::NeedsRevision, Grade::Failed] {
        let mut world = grading(3);
        world.send(vec![message("well?")]).unwrap();
        let from = world.log.len();
        let step = world.report(graded(grade));
        assert!(matches!(step, Step::Request { .. }));
        assert_eq!(
            world.kinds_from(from),
            [END, "user.message", "span.model_request_start"]
        );
    }
}

#[test]
fn a_heartbeat_is_shown_and_changes_nothing() {
    let mut world = grading(3);
    let Step::Grade { start, beat } = world.step else {
        panic!("a grader is at work")
    };
    let from = world.log.len();
    let held = world.state.generation;
    let heartbeat = Fact::Grading {
        start,
        beat,
        used: None,
    };
    let after = world.fact(held, heartbeat.clone(), Pace::Halt).unwrap();
    let beat = beat + 1;
    assert_eq!(after, Step::Grade { start, beat }, "not even for a drain");
    assert_eq!(world.kinds_from(from), [ONGOING]);
    let again = world.fact(held, heartbeat, Pace::Go).unwrap_err();
    assert!(matches!(again, Refused::OutOfPlace { .. }), "said twice");
}

#[test]
fn a_grader_s_requests_are_summed_and_each_is_judged_by_the_budget() {
    let mut world = World::with_budget(5, vec![outcome(1, None)], Some(3));
    world.claim().unwrap();
    say(&mut world, "a report");
    let round = Fact::Grading {
        start: OPEN,
        beat: 0,
        used: Some(used(1)),
    };
    assert!(matches!(world.report(round.clone()), Step::Grade { .. }));
    assert_eq!(world.report(round), Step::Rest, "three cents are spent");
    assert_eq!(world.state.primary.phase, Phase::Paused);
    assert_eq!(world.checker.shown, [Standing::Evaluating]);
    let raise = Update {
        budget: Patch::Value(10),
        ..Update::default()
    };
    let raise = Input::Command(Command::Update(Box::new(raise)));
    world.submit(raise).unwrap();
    assert!(matches!(world.claim(), Ok(Step::Grade { .. })));
    world.report(graded(Grade::Satisfied));
    let end = world.log.iter().rev().find_map(|p| match &p.event.body {
        Body::SpanOutcomeEvaluationEnd { usage, .. } => Some(usage.input_tokens),
        _ => None,
    });
    assert_eq!(end, Some(30), "three requests in one evaluation");
}

#[test]
fn a_session_that_spends_its_budget_on_the_work_is_graded_when_it_may_again() {
    let mut world = World::with_budget(5, vec![outcome(1, None)], Some(1));
    world.claim().unwrap();
    assert_eq!(say(&mut world, "a report"), Step::Rest);
    assert_eq!(world.state.primary.phase, Phase::Paused);
    let refused = world.send(vec![outcome(2, None)]).unwrap_err();
    assert!(matches!(refused, Refused::BudgetReached { index: 0, .. }));
    let raise = Update {
        budget: Patch::Null,
        ..Update::default()
    };
    let raise = Input::Command(Command::Update(Box::new(raise)));
    world.submit(raise).unwrap();
    assert!(matches!(world.claim(), Ok(Step::Grade { .. })));
}

#[test]
fn a_grader_that_fails_for_a_while_is_asked_again_in_the_same_evaluation() {
    let mut world = grading(3);
    world.fail(Remedy::Wait { at_least: None });
    assert_eq!(world.state.status(), Status::Rescheduling);
    world.now = world.run.unwrap().due_at;
    let from = world.log.len();
    assert!(matches!(world.claim(), Ok(Step::Grade { .. })));
    assert_eq!(world.kinds_from(from), kinds(&[&RUNNING, &[ONGOING]]));
    assert_eq!(world.count(START), 1);
}

#[test]
fn a_grader_that_cannot_be_asked_fails_the_outcome_and_the_turn() {
    for remedy in [Remedy::None, Remedy::Compact] {
        let mut world = grading(3);
        let from = world.log.len();
        assert_eq!(world.fail(remedy), Step::Rest);
        assert_eq!(
            world.kinds_from(from),
            kinds(&[&["session.error", END], &IDLE])
        );
        assert_eq!(world.checker.shown, [Standing::Failed]);
        let Body::StatusIdle { stop_reason, .. } = &world.log.last().unwrap().event.body else {
            panic!("idle")
        };
        assert_eq!(*stop_reason, StopReason::RetriesExhausted {});
    }
}

#[test]
fn a_model_that_refuses_fails_the_outcome() {
    let mut world = working(3);
    let mut reply = world.reply(Some("no"), &[]);
    if let Fact::Replied { end, .. } = &mut reply {
        *end = ReplyEnd::Refused(None);
    }
    world.report(reply);
    assert_eq!(ends(&world), [(None, 0, "failed".to_owned())]);
}

#[test]
fn a_lost_grader_is_taken_over_in_the_same_evaluation() {
    let mut world = grading(3);
    let from = world.log.len();
    assert!(matches!(world.claim(), Ok(Step::Grade { .. })));
    let expected: [&[&str]; 3] = [
        &[
            "session.status_rescheduled",
            "session.thread_status_rescheduled",
        ],
        &RUNNING,
        &[ONGOING],
    ];
    assert_eq!(world.kinds_from(from), kinds(&expected));
}

#[test]
fn a_grader_that_is_lost_again_and_again_fails_the_outcome() {
    let mut world = grading(3);
    for _ in 0..limits::RECOVERIES {
        assert!(matches!(world.claim(), Ok(Step::Grade { .. })));
    }
    assert_eq!(world.claim(), Ok(Step::Rest));
    assert_eq!(world.checker.shown, [Standing::Failed]);
}

#[test]
fn a_draining_server_begins_no_grading_and_the_next_one_does() {
    let mut world = working(3);
    let reply = world.reply(Some("a report"), &[]);
    let held = world.state.generation;
    assert_eq!(world.fact(held, reply, Pace::Halt), Ok(Step::Rest));
    assert_eq!(world.count(START), 0);
    assert!(matches!(world.claim(), Ok(Step::Grade { .. })));
}

#[test]
fn a_message_in_front_of_a_grading_that_has_not_begun_is_answered_first() {
    let mut world = working(3);
    let reply = world.reply(Some("a report"), &[]);
    let held = world.state.generation;
    world.fact(held, reply, Pace::Halt).unwrap();
    world.send(vec![message("one more thing")]).unwrap();
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    let step = say(&mut world, "done");
    assert!(matches!(step, Step::Grade { .. }));
}

#[test]
fn archiving_a_session_ends_its_outcome() {
    let mut world = working(3);
    let reply = world.reply(None, &["write"]);
    world.report(reply);
    world.submit(Input::Command(Command::Archive)).unwrap();
    assert_eq!(world.checker.shown, [Standing::Interrupted]);
}

#[test]
fn an_outcome_is_a_message_to_a_session_that_waits_for_answers() {
    let mut world = World::new(5, vec![message("go")]);
    world.claim().unwrap();
    let reply = world.reply(None, &["write"]);
    world.report(reply);
    let asked = world.calls[0];
    let refused = world.send(vec![outcome(1, None)]).unwrap_err();
    assert!(matches!(refused, Refused::WaitingOn { index: 0, .. }));
    let deny = crate::world::deny(asked, None);
    world.send(vec![deny, outcome(1, None)]).unwrap();
    assert_eq!(world.checker.shown, [Standing::Running]);
}

#[test]
fn work_goes_on_through_calls_before_anybody_grades() {
    let mut world = working(3);
    let reply = world.reply(None, &["bash"]);
    let call = crate::world::executing(world.report(reply));
    let step = world.report(finished(call, "ran"));
    assert!(matches!(step, Step::Request { .. }));
    assert_eq!(world.count(START), 0);
}
