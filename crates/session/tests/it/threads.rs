//! What a coordinator and its threads do, by example.

use contract::content::Block;
use contract::event::{Body, StopReason};
use contract::ids::{EventId, ThreadId};
use contract::patch::Patch;
use session::{Command, Decision, Fact, Input, Order, Pace, Refused, Step, UserEvent, limits};

use crate::team_fold::Owed;
use crate::team_world::{Team, newcomer};
use crate::world::{INTERRUPT, answer, finished, interrupted, message};

/// A coordinator whose model is being asked.
fn lead() -> (Team, ThreadId) {
    let mut team = Team::new(1, None);
    team.claim();
    let primary = team.state.primary.id;
    (team, primary)
}

fn call_of(decision: &Decision) -> EventId {
    match decision.step {
        Step::Execute { call } => call,
        step => panic!("expected a call, got {step:?}"),
    }
}

/// The primary's model gives `text` to a thread of its own.
fn delegate(team: &mut Team, text: &str) -> Decision {
    let primary = team.state.primary.id;
    let reply = team.reply(primary, None, &["send_to_agent"]);
    let call = call_of(&team.report(primary, reply));
    let order = Order::Begin {
        agent: newcomer("coder"),
        content: vec![Block::text(text)],
    };
    team.report(primary, Fact::Delegated { call, order })
}

/// A coordinator that has ended its turn, and a thread of it at work.
fn delegated() -> (Team, ThreadId, ThreadId) {
    let (mut team, primary) = lead();
    delegate(&mut team, "do it");
    let child = team.state.children[0].id;
    let reply = team.reply(primary, Some("I wait"), &[]);
    team.report(primary, reply);
    (team, primary, child)
}

/// What each event of the log from `from` on is, and of which thread.
fn told(team: &Team, from: usize) -> Vec<(&'static str, bool)> {
    let primary = team.state.primary.id;
    let log = team.log[from..].iter();
    log.map(|p| (p.event.body.kind(), p.thread == primary))
        .collect()
}

fn owed(team: &Team) -> EventId {
    team.fold.asked()[0]
}

#[test]
fn a_task_begins_a_thread_in_the_commit_of_its_call() {
    let (mut team, _) = lead();
    let from = team.log.len() + 2;
    let done = delegate(&mut team, "do it");
    assert_eq!(
        told(&team, from),
        [
            ("session.thread_created", true),
            ("agent.thread_message_sent", true),
            ("session.thread_status_running", false),
            ("agent.thread_message_received", false),
            ("agent.tool_result", true),
            ("span.model_request_start", true),
            ("span.model_request_start", false),
        ]
    );
    let child = team.state.children[0].id;
    assert!(matches!(done.step, Step::Request { .. }));
    assert!(matches!(done.others.as_slice(), [(thread, Step::Request { .. })] if *thread == child));
}

#[test]
fn an_answer_opens_the_coordinators_next_turn_and_the_session_runs_all_the_while() {
    let (mut team, primary, child) = delegated();
    let from = team.log.len();
    let reply = team.reply(child, Some("done"), &[]);
    let done = team.report(child, reply);
    assert_eq!(
        told(&team, from),
        [
            ("agent.message", false),
            ("span.model_request_end", false),
            ("agent.thread_message_sent", false),
            ("session.thread_status_running", true),
            ("agent.thread_message_received", true),
            ("session.thread_status_idle", false),
            ("span.model_request_start", true),
        ]
    );
    assert_eq!(done.step, Step::Rest);
    assert!(
        matches!(done.others.as_slice(), [(thread, Step::Request { .. })] if *thread == primary)
    );
}

#[test]
fn an_answer_waits_for_a_coordinator_that_is_at_work_and_is_drained_before_its_next_request() {
    let (mut team, primary) = lead();
    delegate(&mut team, "do it");
    let child = team.state.children[0].id;
    let reply = team.reply(child, Some("done"), &[]);
    team.report(child, reply);
    assert_eq!(team.inbox.len(), 1);
    let reply = team.reply(primary, Some("meanwhile"), &[]);
    let done = team.report(primary, reply);
    assert!(
        matches!(done.step, Step::Request { .. }),
        "the same turn goes on"
    );
    assert!(team.inbox.is_empty());
}

#[test]
fn the_session_waits_for_what_any_thread_asks_and_takes_no_message_meanwhile() {
    let (mut team, _, child) = delegated();
    let reply = team.reply(child, None, &["ask", "write"]);
    let done = team.report(child, reply);
    let last = done.events.last().map(|p| p.event.body.clone());
    let Some(Body::StatusIdle {
        stop_reason: StopReason::RequiresAction { event_ids },
        ..
    }) = last
    else {
        panic!("{last:?}")
    };
    assert_eq!(event_ids, team.fold.asked());
    let refused = team.send(vec![message("hello")]).err();
    assert!(
        matches!(refused, Some(Refused::WaitingOn { .. })),
        "{refused:?}"
    );
    assert_eq!(team.fold.lines[&child].open[0].1, Owed::Result);
    let first = owed(&team);
    let done = team.send(vec![answer(first)]).unwrap();
    let Body::UserCustomToolResult {
        session_thread_id, ..
    } = &done.echo[0].body
    else {
        panic!("{:?}", done.echo)
    };
    assert_eq!(*session_thread_id, Some(child), "the echo names the thread");
}

#[test]
fn an_answer_that_names_another_thread_is_refused_and_changes_nothing() {
    let (mut team, primary, child) = delegated();
    let reply = team.reply(child, None, &["ask"]);
    team.report(child, reply);
    let call = owed(&team);
    let named = |thread| UserEvent::CustomToolResult {
        call,
        content: Vec::new(),
        is_error: None,
        thread: Some(thread),
    };
    let refused = team.send(vec![named(primary)]).err();
    assert_eq!(
        refused,
        Some(Refused::OtherThread {
            index: 0,
            call,
            thread: primary
        })
    );
    team.send(vec![named(child)]).unwrap();
}

#[test]
fn a_twenty_sixth_thread_is_an_error_for_the_model() {
    let (mut team, primary) = lead();
    for _ in 0..limits::THREADS {
        delegate(&mut team, "one more");
    }
    let from = team.log.len() + 2;
    delegate(&mut team, "one too many");
    let said = told(&team, from);
    assert_eq!(said[0], ("agent.tool_result", true), "{said:?}");
    let Body::AgentToolResult { is_error, .. } = team.log[from].event.body else {
        panic!()
    };
    assert!(is_error);
    // An archived thread leaves room.
    let child = team.state.children[3].id;
    let reply = team.reply(child, Some("done"), &[]);
    team.report(child, reply);
    team.submit(Input::Command(Command::ArchiveThread(child)))
        .unwrap();
    delegate(&mut team, "now there is room");
    assert_eq!(team.state.children.len(), limits::THREADS);
    assert!(team.state.thread(primary).is_some());
}

#[test]
fn nothing_is_sent_to_oneself_or_to_a_thread_that_is_not_there() {
    let (mut team, primary) = lead();
    for thread in [primary, ThreadId::from_bits(5)] {
        let reply = team.reply(primary, None, &["send_to_agent"]);
        let call = call_of(&team.report(primary, reply));
        let content = vec![Block::text("hello")];
        let order = Order::Tell { thread, content };
        let done = team.report(primary, Fact::Delegated { call, order });
        let kinds = done.events.iter().map(|p| p.event.body.kind());
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            ["agent.tool_result", "span.model_request_start"]
        );
    }
}

#[test]
fn an_interrupt_of_one_thread_leaves_the_others_and_tells_the_coordinator_without_waking_it() {
    let (mut team, _, child) = delegated();
    team.send(vec![UserEvent::Interrupt {
        thread: Some(child),
    }])
    .unwrap();
    let from = team.log.len();
    let done = team.report(child, interrupted());
    let said = told(&team, from);
    assert!(
        said.contains(&("agent.thread_message_received", true)),
        "{said:?}"
    );
    assert!(
        !said.contains(&("session.thread_status_running", true)),
        "{said:?}"
    );
    assert_eq!(
        done.events.last().unwrap().event.body.kind(),
        "session.status_idle"
    );
}

#[test]
fn an_interrupt_of_all_takes_its_place_with_the_first_that_stops_and_the_message_behind_it_goes_on()
{
    let (mut team, primary, child) = delegated();
    team.send(vec![INTERRUPT, message("rather this")]).unwrap();
    assert!(team.state.thread(child).unwrap().interrupting);
    assert!(
        team.state.primary.is_open(),
        "the message has opened a turn"
    );
    let done = team.report(child, interrupted());
    assert!(
        matches!(done.others.as_slice(), [(thread, Step::Request { .. })] if *thread == primary)
    );
    let interrupts = team
        .log
        .iter()
        .filter(|p| p.event.body.kind() == "user.interrupt");
    assert_eq!(interrupts.count(), 1);
    assert!(team.inbox.is_empty());
}

#[test]
fn a_running_thread_is_not_archived_and_a_blocked_one_is_closed_and_told_of() {
    let (mut team, primary, child) = delegated();
    let archive = |thread| Input::Command(Command::ArchiveThread(thread));
    assert_eq!(
        team.submit(archive(child)).err(),
        Some(Refused::ThreadRunning)
    );
    assert_eq!(
        team.submit(archive(primary)).err(),
        Some(Refused::PrimaryThread)
    );
    assert_eq!(
        team.submit(archive(ThreadId::from_bits(9))).err(),
        Some(Refused::NoThread)
    );
    let reply = team.reply(child, None, &["ask"]);
    team.report(child, reply);
    let call = owed(&team);
    let done = team.submit(archive(child)).unwrap();
    assert_eq!(done.ended.len(), 1);
    let refused = team.send(vec![answer(call)]).err();
    assert_eq!(refused, Some(Refused::ThreadEnded { index: 0, call }));
    // Again: it has ended, and nothing is told twice.
    assert!(team.submit(archive(child)).unwrap().events.is_empty());
}

#[test]
fn a_claim_settles_every_thread_and_runs_a_lost_delegation_again() {
    let (mut team, primary) = lead();
    delegate(&mut team, "do it");
    let child = team.state.children[0].id;
    let reply = team.reply(child, None, &["bash"]);
    let run = call_of(&team.report(child, reply));
    let reply = team.reply(primary, None, &["send_to_agent"]);
    let call = call_of(&team.report(primary, reply));
    let from = team.log.len();
    let done = team.claim();
    assert_eq!(
        done.step,
        Step::Execute { call },
        "nothing of it exists yet"
    );
    assert_eq!(done.others, [(child, Step::Recover { call: run })]);
    assert_eq!(
        told(&team, from),
        [
            ("session.status_rescheduled", true),
            ("session.thread_status_rescheduled", true),
            ("session.thread_status_rescheduled", false),
            ("session.status_running", true),
            ("session.thread_status_running", true),
            ("session.thread_status_running", false),
        ]
    );
}

#[test]
fn a_thread_that_is_exhausted_ends_and_its_coordinator_hears_of_it() {
    let (mut team, primary, child) = delegated();
    let Some(Step::Request { span }) = team.fold.steps.get(&child).copied() else {
        panic!()
    };
    let failed = Fact::RequestFailed {
        span,
        kind: contract::event::SessionErrorKind::BillingError,
        message: "no money".to_owned(),
        used: session::Used::default(),
        remedy: session::Remedy::None,
    };
    let done = team.report(child, failed);
    assert_eq!(done.ended[0].id, child);
    assert!(!done.ended[0].archived);
    assert!(team.state.thread(child).is_none());
    assert!(
        matches!(done.others.as_slice(), [(thread, Step::Request { .. })] if *thread == primary)
    );
}

#[test]
fn a_turn_that_a_client_opens_beside_others_is_taken_up_when_its_runner_hears_of_it() {
    let (mut team, primary, _) = delegated();
    team.send(vec![message("and this")]).unwrap();
    assert!(!team.fold.steps.contains_key(&primary));
    let done = team.fact(primary, Fact::TakeUp, Pace::Go).unwrap();
    assert!(matches!(done.step, Step::Request { .. }));
    // With nothing in flight the run is due, and only a claim takes it up.
    let (mut idle, primary, child) = delegated();
    let reply = idle.reply(child, Some("done"), &[]);
    idle.fact(child, reply, Pace::Halt).unwrap();
    let refused = idle.fact(primary, Fact::TakeUp, Pace::Go).err();
    assert!(
        matches!(refused, Some(Refused::OutOfPlace { .. })),
        "{refused:?}"
    );
}

#[test]
fn advice_has_a_thread_of_its_own_and_no_call() {
    let (mut team, primary) = lead();
    let from = team.log.len();
    let reply = team.reply(primary, None, &["ask_advisor"]);
    let call = call_of(&team.report(primary, reply));
    let advice = Fact::Advised {
        call,
        content: vec![Block::text("mind the gap")],
        is_error: false,
        used: crate::world::used(3),
    };
    let done = team.report(primary, advice);
    assert_eq!(
        told(&team, from),
        [
            ("span.model_request_end", true),
            ("session.thread_created", true),
            ("session.thread_status_running", false),
            ("agent.thread_message_received", true),
            ("session.thread_status_idle", false),
            ("session.thread_status_terminated", false),
            ("span.model_request_start", true),
        ]
    );
    assert_eq!(done.ended.len(), 1);
    assert_eq!(done.ended[0].totals.input, 10);
    assert!(team.state.children.is_empty());
    assert_eq!(team.state.begun, 1, "it has a place among all threads");
}

#[test]
fn an_outcome_is_graded_when_the_threads_have_answered() {
    let (mut team, primary, child) = delegated();
    team.send(vec![crate::graded::outcome(7, None)]).unwrap();
    team.fact(primary, Fact::TakeUp, Pace::Go).unwrap();
    let reply = team.reply(primary, Some("the thread is at it"), &[]);
    assert_eq!(team.report(primary, reply).step, Step::Rest);
    let reply = team.reply(child, Some("done"), &[]);
    team.report(child, reply);
    let reply = team.reply(primary, Some("all done"), &[]);
    let done = team.report(primary, reply);
    assert!(matches!(done.step, Step::Grade { .. }), "{:?}", done.step);
}

#[test]
fn a_spent_budget_keeps_answers_until_it_is_raised() {
    let mut team = Team::new(1, Some(2));
    team.claim();
    let primary = team.state.primary.id;
    delegate(&mut team, "do it");
    let child = team.state.children[0].id;
    let reply = team.reply(primary, Some("I wait"), &[]);
    team.report(primary, reply);
    let reply = team.reply(child, Some("done"), &[]);
    let done = team.report(child, reply);
    let last = done.events.last().map(|p| p.event.body.clone());
    assert!(
        matches!(
            &last,
            Some(Body::StatusIdle {
                stop_reason: StopReason::BudgetReached {},
                ..
            })
        ),
        "{last:?}"
    );
    assert_eq!(team.inbox.len(), 1);
    let update = session::Update {
        budget: Patch::Null,
        ..session::Update::default()
    };
    team.submit(Input::Command(Command::Update(Box::new(update))))
        .unwrap();
    assert!(team.inbox.is_empty() && team.state.primary.is_open());
}

#[test]
fn usage_is_counted_by_thread_and_together() {
    let (mut team, _, child) = delegated();
    let reply = team.reply(child, None, &["bash"]);
    let call = call_of(&team.report(child, reply));
    team.report(child, finished(call, "ran"));
    let (all, lead) = (team.state.totals, team.state.primary.totals);
    let own = team.state.thread(child).unwrap().totals;
    assert_eq!(all.input, lead.input + own.input);
    assert_eq!((lead.input, own.input), (20, 10));
}
