//! The rules of budgets, one example each. A reply of these examples costs one cent.

use contract::event::{Body, StopReason};
use contract::patch::Patch;
use contract::time::Micros;
use session::{
    Command, Fact, Input, Phase, Refused, Remedy, Status, Step, Update, UserEvent, Webhook,
};

use crate::world::{
    IDLE, INTERRUPT, RUNNING, World, answer, compacted, executing, finished, message, system, used,
};

/// A session of `cents` whose model is being asked.
fn running_with(cents: u64) -> World {
    let mut world = World::with_budget(5, vec![message("go")], Some(cents));
    world.claim().unwrap();
    world
}

fn set(world: &mut World, budget: Patch<u64>) -> Result<session::Decision, Refused> {
    let update = Update {
        budget,
        ..Update::default()
    };
    world.submit(Input::Command(Command::Update(Box::new(update))))
}

/// What thread and session last said of their rest.
fn reasons(world: &World) -> (StopReason, StopReason) {
    let (mut thread, mut session) = (None, None);
    for placed in &world.log {
        match &placed.event.body {
            Body::ThreadStatusIdle { stop_reason, .. } => thread = Some(stop_reason.clone()),
            Body::StatusIdle { stop_reason, .. } => session = Some(stop_reason.clone()),
            _ => {}
        }
    }
    (thread.unwrap(), session.unwrap())
}

/// A turn of one cent, paused on a budget of one cent after its call.
fn paused() -> World {
    let mut world = running_with(1);
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    assert_eq!(world.report(finished(call, "ran")), Step::Rest);
    world
}

/// A session that has answered and spent its one cent.
fn exhausted() -> World {
    let mut world = running_with(1);
    let reply = world.reply(Some("done"), &[]);
    assert_eq!(world.report(reply), Step::Rest);
    world
}

const REACHED: StopReason = StopReason::BudgetReached {};

#[test]
fn a_spent_budget_pauses_the_turn_before_its_next_request_and_not_before_its_calls() {
    let world = paused();
    assert_eq!(world.state.primary.phase, Phase::Paused);
    assert_eq!(world.state.status(), Status::Idle);
    assert_eq!(reasons(&world), (REACHED, REACHED));
    let from = world.log.len() - 4;
    let expected = [&["agent.tool_result"][..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn a_turn_that_ends_on_the_cap_says_so_on_its_thread_only() {
    assert_eq!(reasons(&exhausted()), (StopReason::EndTurn {}, REACHED));
}

#[test]
fn at_the_cap_nothing_is_accepted_that_would_ask_the_model() {
    for mut world in [paused(), exhausted()] {
        let refused = world.send(vec![INTERRUPT, message("more")]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Invalid user.message event at events[1]: the session has reached its budget; only `user.tool_confirmation`, `user.tool_result`, `user.custom_tool_result`, or `user.interrupt` may be sent until `budget` is raised or removed"
        );
        let refused = world.send(vec![system("note")]).unwrap_err();
        let kind = "system.message";
        assert_eq!(refused, Refused::BudgetReached { index: 0, kind });
    }
}

#[test]
fn at_the_cap_an_interrupt_is_accepted_and_not_even_listed() {
    for mut world in [paused(), exhausted()] {
        let (phase, from) = (world.state.primary.phase.clone(), world.log.len());
        let sent = world.send(vec![INTERRUPT]).unwrap();
        assert_eq!((sent.echo.len(), sent.echo[0].processed_at), (1, None));
        assert!(world.kinds_from(from).is_empty() && world.inbox.is_empty());
        assert_eq!(world.state.primary.phase, phase);
    }
}

#[test]
fn a_higher_cap_resumes_the_turn() {
    let mut world = paused();
    let from = world.log.len();
    let raised = set(&mut world, Patch::Value(2)).unwrap();
    let expected = [&["session.updated"][..], &RUNNING[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(
        raised.webhooks,
        [Webhook::Updated, Webhook::StatusRunStarted]
    );
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
}

#[test]
fn a_cap_that_is_removed_resumes_the_turn_and_cannot_come_back() {
    let mut world = paused();
    set(&mut world, Patch::Null).unwrap();
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
    let refused = set(&mut world, Patch::Value(9)).unwrap_err();
    assert_eq!(refused, Refused::BudgetCreateOnly);
    let from = world.log.len();
    set(&mut world, Patch::Null).unwrap();
    assert!(world.kinds_from(from).is_empty(), "nothing changed");
}

#[test]
fn a_session_made_without_a_cap_gets_none() {
    let mut world = World::new(5, Vec::new());
    assert_eq!(
        set(&mut world, Patch::Value(9)).unwrap_err(),
        Refused::BudgetCreateOnly
    );
}

#[test]
fn a_cap_must_be_more_than_what_is_spent() {
    let mut world = paused();
    let refused = set(&mut world, Patch::Value(1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`budget.max_list_cost` must be greater than the session's consumed list cost (budget_not_raised)"
    );
    let mut world = running_with(9);
    let reply = world.reply(Some("done"), &[]);
    world.report(reply);
    set(&mut world, Patch::Value(1)).unwrap_err();
    set(&mut world, Patch::Value(2)).unwrap();
}

#[test]
fn the_same_cap_again_changes_nothing() {
    let mut world = running_with(9);
    let from = world.log.len();
    let same = set(&mut world, Patch::Value(9)).unwrap();
    assert!(world.kinds_from(from).is_empty() && same.webhooks.is_empty());
}

#[test]
fn what_waited_at_the_cap_is_answered_once_it_is_raised() {
    let mut world = running_with(1);
    world.send(vec![message("more")]).unwrap();
    let reply = world.reply(Some("done"), &[]);
    assert_eq!(world.report(reply), Step::Rest);
    assert_eq!(reasons(&world), (StopReason::EndTurn {}, REACHED));
    assert_eq!(world.inbox.len(), 1);
    let from = world.log.len();
    set(&mut world, Patch::Value(2)).unwrap();
    let expected = [
        &["session.updated"][..],
        &RUNNING[..],
        &["user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn a_message_that_waited_through_a_pause_is_answered_with_the_turn() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    // The cap is reached by the reply; what was sent before it must wait.
    let refused = world.send(vec![message("more")]).unwrap_err();
    assert!(matches!(refused, Refused::BudgetReached { .. }));
    world.report(finished(call, "ran"));
    set(&mut world, Patch::Value(5)).unwrap();
    world.send(vec![message("more")]).unwrap();
    let from = world.log.len();
    world.claim().unwrap();
    assert_eq!(
        world.kinds_from(from),
        ["user.message", "span.model_request_start"]
    );
}

#[test]
fn an_interrupt_while_the_last_affordable_step_runs_ends_the_turn() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    world.send(vec![INTERRUPT]).unwrap();
    assert_eq!(world.report(finished(call, "ran")), Step::Rest);
    assert_eq!(world.state.primary.phase, Phase::Idle);
    assert_eq!(reasons(&world), (StopReason::EndTurn {}, REACHED));
}

#[test]
fn time_that_may_prove_to_be_waiting_refuses_no_message() {
    let mut world = World::with_budget(5, vec![message("go")], Some(8));
    // An hour costs eight cents; nobody was there to claim the turn.
    world.now += 2 * 3_600_000_000;
    world.send(vec![message("more")]).unwrap();
    world.claim().unwrap();
    assert!(!world.state.is_spent(Micros(world.now)));
    let reply = world.reply(Some("done"), &[]);
    world.report(reply);
    assert_eq!(reasons(&world).1, StopReason::EndTurn {});
}

#[test]
fn running_time_counts() {
    let mut world = running_with(8);
    // An hour costs eight cents.
    world.now += 3_600_000_000;
    let mut reply = world.reply(None, &["bash"]);
    if let Fact::Replied { used: spent, .. } = &mut reply {
        *spent = used(0);
    }
    let call = executing(world.report(reply));
    assert_eq!(world.report(finished(call, "ran")), Step::Rest);
    assert_eq!(world.state.primary.phase, Phase::Paused);
}

#[test]
fn a_question_to_the_client_outranks_a_spent_budget() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let event_ids = world.blocked();
    let reason = StopReason::RequiresAction { event_ids };
    assert_eq!(reasons(&world), (reason.clone(), reason));
    assert!(!world.webhooks.contains(&Webhook::BudgetReached));
}

#[test]
fn at_the_cap_answers_are_recorded_without_asking_the_model() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let call = world.blocked()[0];
    let from = world.log.len();
    world.send(vec![answer(call), system("note")]).unwrap();
    assert_eq!(world.claim(), Ok(Step::Rest));
    let expected = [
        &["user.custom_tool_result"][..],
        &RUNNING[..],
        &["system.message"][..],
        &IDLE[..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(reasons(&world), (REACHED, REACHED));
}

#[test]
fn a_late_answer_at_the_cap_makes_its_empty_cycle_and_asks_nobody() {
    let mut world = running_with(2);
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let call = world.blocked()[0];
    world.send(vec![answer(call)]).unwrap();
    world.claim().unwrap();
    let reply = world.reply(Some("done"), &[]);
    world.report(reply);
    let from = world.log.len();
    let sent = world.send(vec![answer(call), system("note")]).unwrap();
    assert_eq!(sent.queued.len(), 1, "the note waits for a higher cap");
    let cycle = [&["user.custom_tool_result"][..], &RUNNING[..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), cycle);
    assert_eq!(reasons(&world), (StopReason::EndTurn {}, REACHED));
}

#[test]
fn a_cap_is_announced_once_for_each_value() {
    let mut world = paused();
    let told = |world: &World| {
        let hooks = world.webhooks.iter();
        hooks.filter(|w| **w == Webhook::BudgetReached).count()
    };
    assert_eq!(told(&world), 1);
    set(&mut world, Patch::Value(2)).unwrap();
    world.claim().unwrap();
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let call = world.blocked()[0];
    world.send(vec![answer(call)]).unwrap();
    world.claim().unwrap();
    assert_eq!(told(&world), 2, "once more for the second value");
    world.send(vec![answer(call)]).unwrap();
    assert_eq!(told(&world), 2);
}

#[test]
fn a_model_without_a_price_cannot_run_under_a_cap() {
    let mut world = running_with(1_000);
    let mut reply = world.reply(None, &["bash"]);
    if let Fact::Replied { used, .. } = &mut reply {
        used.cost = None;
    }
    let call = executing(world.report(reply));
    assert_eq!(world.report(finished(call, "ran")), Step::Rest);
    assert_eq!(world.state.primary.phase, Phase::Paused);
    set(&mut world, Patch::Value(2_000)).unwrap();
    assert_eq!(world.state.primary.phase, Phase::Paused, "no cap helps");
    set(&mut world, Patch::Null).unwrap();
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
}

#[test]
fn a_model_without_a_price_runs_without_a_cap_and_shows_no_cost() {
    let mut world = World::new(5, vec![message("go")]);
    world.claim().unwrap();
    let mut reply = world.reply(Some("done"), &[]);
    if let Fact::Replied { used, .. } = &mut reply {
        used.cost = None;
    }
    world.report(reply);
    let now = contract::time::Micros(world.now);
    assert_eq!(world.state.totals.usage(now).list_cost, None);
    assert_eq!(world.state.totals.usage(now).input_tokens, 10);
}

#[test]
fn a_request_that_never_reached_its_model_leaves_the_cost_known() {
    let mut world = running_with(2);
    world.fail(Remedy::Compact);
    world.report(compacted());
    let now = contract::time::Micros(world.now);
    let cost = world.state.totals.usage(now).list_cost.unwrap();
    assert_eq!(cost.amount, "1");
}

#[test]
fn a_cap_reached_by_a_compaction_pauses_before_the_request_behind_it() {
    let mut world = running_with(1);
    world.fail(Remedy::Compact);
    assert_eq!(world.report(compacted()), Step::Rest);
    assert_eq!(world.state.primary.phase, Phase::Paused);
}

#[test]
fn a_cap_raised_mid_turn_spares_the_pause() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["bash"]);
    let call = executing(world.report(reply));
    let from = world.log.len();
    set(&mut world, Patch::Value(5)).unwrap();
    assert_eq!(world.kinds_from(from), ["session.updated"]);
    assert!(matches!(
        world.report(finished(call, "ran")),
        Step::Request { .. }
    ));
}

#[test]
fn what_waits_behind_a_question_and_a_cap_goes_on_waiting() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["ask", "ask"]);
    world.report(reply);
    let calls = world.blocked();
    world.send(vec![answer(calls[0]), system("note")]).unwrap();
    let from = world.log.len();
    world.send(vec![answer(calls[1])]).unwrap();
    assert_eq!(world.claim(), Ok(Step::Rest));
    assert!(!world.kinds_from(from).contains(&"system.message"));
    assert_eq!(world.inbox.len(), 1);
    set(&mut world, Patch::Value(5)).unwrap();
    assert!(world.inbox.is_empty());
    let last = &world.log.last().unwrap().event.body;
    assert_eq!(last.kind(), "system.message");
}

#[test]
fn an_interrupt_of_a_blocked_session_at_the_cap_still_closes_its_calls() {
    let mut world = running_with(1);
    let reply = world.reply(None, &["ask"]);
    world.report(reply);
    let stop = UserEvent::Interrupt {
        thread: Some(world.state.primary.id),
    };
    let from = world.log.len();
    world.send(vec![stop]).unwrap();
    let expected = [&["user.interrupt", "agent.tool_result"][..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(reasons(&world), (StopReason::EndTurn {}, REACHED));
}
