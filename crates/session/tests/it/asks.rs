//! The rules of calls that ask, of judged calls and of system messages, one example each.

use contract::content::Block;
use contract::event::{AskReason, Body, DenyReason, Evaluation, Judgement, Permission, StopReason};
use contract::ids::{EventId, ThreadId};
use session::{Intent, Refused, Stage, Status, Step, UserEvent};

use crate::world::{
    IDLE, INTERRUPT, RUNNING, World, allow, answer, deny, executing, finished, interrupted,
    message, running_on, system,
};

/// A session whose model wants `calls` of one reply; those that could run have run.
fn wanting(calls: &[&str]) -> World {
    let mut world = running_on("go");
    let reply = world.reply(None, calls);
    let mut step = world.report(reply);
    while let Step::Execute { call } = step {
        step = world.report(finished(call, "ran"));
    }
    assert_eq!(step, Step::Rest);
    world
}

fn last_stop(world: &World) -> StopReason {
    let stops = world.log.iter().rev();
    let mut stops = stops.filter_map(|p| match &p.event.body {
        Body::StatusIdle { stop_reason, .. } => Some(stop_reason.clone()),
        _ => None,
    });
    stops.next().unwrap()
}

/// The result the model got for `call`, and whether it is an error.
fn told(world: &World, call: EventId) -> Option<(String, bool)> {
    world.log.iter().find_map(|p| match &p.event.body {
        Body::AgentToolResult {
            tool_use_id,
            content,
            is_error,
        } if *tool_use_id == call => match &content[..] {
            [Block::Text { text }] => Some((text.clone(), *is_error)),
            _ => panic!("a result of one text"),
        },
        _ => None,
    })
}

#[test]
fn a_call_that_asks_idles_the_session_and_says_what_it_waits_for() {
    let mut world = running_on("go");
    let from = world.log.len();
    let reply = world.reply(None, &["write"]);
    assert_eq!(world.report(reply), Step::Rest);
    let expected = [&["agent.tool_use", "span.model_request_end"][..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    let event_ids = world.blocked();
    assert_eq!(event_ids, world.calls);
    assert_eq!(last_stop(&world), StopReason::RequiresAction { event_ids });
    assert!(matches!(
        world.log[from].event.body,
        Body::AgentToolUse {
            evaluated_permission: Permission::Ask,
            evaluation: Some(Evaluation::AlwaysAsk {}),
            ..
        }
    ));
}

#[test]
fn an_allowed_call_runs_once_a_runner_has_the_session() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    let from = world.log.len();
    let sent = world.send(vec![allow(call)]).unwrap();
    assert_eq!(sent.echo[0].processed_at, None, "as recorded");
    assert_eq!(sent.intents, [Intent::Run]);
    let expected = [&["user.tool_confirmation"][..], &RUNNING[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(executing(world.claim().unwrap()), call);
    assert!(matches!(
        world.report(finished(call, "ok")),
        Step::Request { .. }
    ));
    assert_eq!(told(&world, call), Some(("ok".to_owned(), false)));
}

#[test]
fn a_denied_call_is_told_with_the_clients_words_and_the_model_goes_on() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    let from = world.log.len();
    world.send(vec![deny(call, Some("too risky"))]).unwrap();
    let expected = [
        &["user.tool_confirmation"][..],
        &RUNNING[..],
        &["agent.tool_result"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    let text = "Permission to use write has been rejected. Rejection message: too risky";
    assert_eq!(told(&world, call), Some((text.to_owned(), true)));
    assert!(matches!(world.claim(), Ok(Step::Request { .. })));
}

#[test]
fn a_denial_without_words_says_only_that() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    world.send(vec![deny(call, None)]).unwrap();
    let text = "Permission to use write has been rejected.";
    assert_eq!(told(&world, call), Some((text.to_owned(), true)));
}

#[test]
fn a_partial_answer_announces_the_rest_again() {
    let mut world = wanting(&["write", "ask", "write"]);
    let asked = world.blocked();
    assert_eq!(asked.len(), 3);
    let from = world.log.len();
    world.send(vec![allow(asked[0])]).unwrap();
    let expected = [&["user.tool_confirmation"][..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    let event_ids = asked[1..].to_vec();
    assert_eq!(last_stop(&world), StopReason::RequiresAction { event_ids });
    let from = world.log.len();
    world.send(vec![answer(asked[1])]).unwrap();
    let expected = [&["user.custom_tool_result"][..], &IDLE[..]].concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(world.blocked(), [asked[2]]);
}

#[test]
fn several_answers_of_one_request_free_the_session_together() {
    let mut world = wanting(&["write", "ask", "write"]);
    let asked = world.blocked();
    let from = world.log.len();
    let answers = vec![deny(asked[2], None), answer(asked[1]), allow(asked[0])];
    world.send(answers).unwrap();
    let expected = [
        &[
            "user.tool_confirmation",
            "user.custom_tool_result",
            "user.tool_confirmation",
        ][..],
        &RUNNING[..],
        &["agent.tool_result"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    assert_eq!(executing(world.claim().unwrap()), asked[0]);
}

#[test]
fn a_call_is_confirmed_once() {
    let mut world = wanting(&["write", "write"]);
    let asked = world.blocked();
    let twice = world.send(vec![allow(asked[0]), deny(asked[0], None)]);
    assert_eq!(
        twice.unwrap_err(),
        Refused::Resolved {
            index: 1,
            id: asked[0]
        }
    );
    assert_eq!(world.blocked(), asked, "a batch is refused whole");
    world.send(vec![allow(asked[0])]).unwrap();
    let refused = world.send(vec![deny(asked[0], None)]).unwrap_err();
    assert!(refused.to_string().ends_with("has already been resolved"));
}

#[test]
fn of_many_conflicting_confirmations_one_wins() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    let won = (0..100)
        .filter(|n| {
            let confirmation = if n % 2 == 0 {
                deny(call, None)
            } else {
                allow(call)
            };
            let sent = world.send(vec![confirmation]);
            assert!(matches!(sent, Ok(_) | Err(Refused::Resolved { .. })));
            sent.is_ok()
        })
        .collect::<Vec<_>>();
    assert_eq!(won, [0]);
}

#[test]
fn a_confirmation_of_no_call_or_of_another_kind_of_call_names_the_id() {
    let mut world = wanting(&["bash", "ask"]);
    let unknown = EventId::from_bits(9);
    let custom = world.blocked()[0];
    for call in [unknown, custom] {
        let refused = world.send(vec![allow(call)]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "events[0].tool_use_id: `tool_use_id` \"{call}\" does not match any `agent.tool_use` event in this session"
            )
        );
    }
    let refused = world.send(vec![answer(world.calls[0])]).unwrap_err();
    assert!(matches!(
        refused,
        Refused::UnknownCall {
            wanted: "agent.custom_tool_use",
            ..
        }
    ));
}

#[test]
fn a_call_that_did_not_ask_cannot_be_confirmed() {
    let mut world = wanting(&["bash", "write"]);
    let ran = world.calls[0];
    let refused = world.send(vec![allow(ran)]).unwrap_err();
    assert_eq!(refused, Refused::NotAsked { index: 0, id: ran });
}

#[test]
fn a_confirmation_that_came_early_spares_the_stop() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "write", "write"]);
    let call = executing(world.report(reply));
    let (first, second) = (world.calls[1], world.calls[2]);
    world.send(vec![allow(first)]).unwrap();
    world.send(vec![deny(second, None)]).unwrap();
    assert_eq!(
        told(&world, second),
        None,
        "the model is told in the order of the turn"
    );
    assert_eq!(executing(world.report(finished(call, "ran"))), first);
    assert!(told(&world, second).is_some());
    assert!(matches!(
        world.report(finished(first, "ran")),
        Step::Request { .. }
    ));
    assert_eq!(world.count("session.status_idle"), 0);
}

#[test]
fn what_is_said_after_the_last_answer_waits_for_the_call_that_now_runs() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    let sent = world.send(vec![allow(call), message("and then")]).unwrap();
    assert_eq!(sent.queued.len(), 1);
    world.claim().unwrap();
    let from = world.log.len();
    world.report(finished(call, "ok"));
    let expected = [
        "agent.tool_result",
        "user.message",
        "span.model_request_start",
    ];
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn what_is_said_after_the_last_denial_takes_its_place_behind_the_result() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    let from = world.log.len();
    world
        .send(vec![deny(call, None), message("do this")])
        .unwrap();
    let expected = [
        &["user.tool_confirmation"][..],
        &RUNNING[..],
        &["agent.tool_result", "user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn a_message_ahead_of_the_answers_of_its_batch_is_answered_after_them() {
    let mut world = wanting(&["write"]);
    let call = world.blocked()[0];
    let from = world.log.len();
    world
        .send(vec![message("do this"), deny(call, None)])
        .unwrap();
    let expected = [
        &["user.tool_confirmation"][..],
        &RUNNING[..],
        &["agent.tool_result", "user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn an_interrupt_closes_what_asks_what_may_run_and_what_was_denied() {
    let mut world = wanting(&["write", "write", "ask"]);
    let asked = world.blocked();
    world.send(vec![allow(asked[0])]).unwrap();
    world.send(vec![deny(asked[1], Some("no"))]).unwrap();
    let from = world.log.len();
    world.send(vec![INTERRUPT, message("rather this")]).unwrap();
    let expected = [
        &["user.interrupt"][..],
        &["agent.tool_result"; 3][..],
        &IDLE[..],
        &RUNNING[..],
        &["user.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
    for call in &asked {
        let text = "Tool execution was interrupted before completion. Please retry.";
        assert_eq!(told(&world, *call), Some((text.to_owned(), true)));
    }
    let refused = world.send(vec![allow(asked[2])]).unwrap_err();
    assert!(matches!(refused, Refused::UnknownCall { .. }));
    let refused = world.send(vec![allow(asked[0])]).unwrap_err();
    assert!(matches!(refused, Refused::Resolved { .. }));
}

#[test]
fn a_confirmation_behind_an_interrupt_of_the_same_batch_comes_too_late() {
    let mut world = wanting(&["write"]);
    let id = world.blocked()[0];
    let refused = world.send(vec![INTERRUPT, allow(id)]).unwrap_err();
    assert_eq!(refused, Refused::Resolved { index: 1, id });
}

#[test]
fn an_interrupt_of_a_running_turn_closes_its_unconfirmed_calls_too() {
    let mut world = running_on("go");
    let reply = world.reply(None, &["bash", "write"]);
    world.report(reply);
    world.send(vec![INTERRUPT]).unwrap();
    let late = world.send(vec![allow(world.calls[1])]).unwrap_err();
    assert!(matches!(late, Refused::Resolved { index: 0, .. }));
    world.report(interrupted());
    assert_eq!(world.count("agent.tool_result"), 2);
    assert_eq!(world.state.status(), Status::Idle);
    assert!(world.blocked().is_empty());
}

#[test]
fn an_interrupt_of_another_thread_is_refused_and_of_the_own_taken() {
    let mut world = wanting(&["write"]);
    let thread = ThreadId::from_bits(7);
    let stop = |thread| UserEvent::Interrupt {
        thread: Some(thread),
    };
    let refused = world.send(vec![stop(thread)]).unwrap_err();
    assert_eq!(refused, Refused::UnknownThread { index: 0, thread });
    world.send(vec![stop(world.state.primary.id)]).unwrap();
    assert!(world.blocked().is_empty());
}

#[test]
fn a_judge_lets_a_call_run_refuses_it_or_leaves_it_to_the_client() {
    let judged = |judgement| {
        let mut world = running_on("go");
        let reply = world.judged_reply(None, &[("grep", judgement)]);
        let step = world.report(reply);
        (world, step)
    };
    let (world, step) = judged(Some(Judgement::Allow {}));
    assert_eq!(
        step,
        Step::Execute {
            call: world.calls[0]
        }
    );

    let refuses = Judgement::Deny {
        reason_code: DenyReason::HighRisk,
    };
    let (world, step) = judged(Some(refuses));
    assert!(matches!(step, Step::Request { .. }), "the session goes on");
    let text = "Permission to use grep has been denied.";
    assert_eq!(told(&world, world.calls[0]), Some((text.to_owned(), true)));

    let unsure = Judgement::Ask {
        reason_code: AskReason::Indeterminate,
    };
    for judgement in [Some(unsure), None] {
        let (mut world, step) = judged(judgement);
        assert_eq!(step, Step::Rest, "without a judgement the client is asked");
        let evaluation = world.log.iter().find_map(|p| match &p.event.body {
            Body::AgentToolUse { evaluation, .. } => *evaluation,
            _ => None,
        });
        let evaluated_permission = unsure;
        assert_eq!(
            evaluation,
            Some(Evaluation::Auto {
                evaluated_permission
            })
        );
        let call = world.blocked()[0];
        world.send(vec![allow(call)]).unwrap();
        assert_eq!(executing(world.claim().unwrap()), call);
    }
}

#[test]
fn a_judges_refusal_cannot_be_overridden_by_the_client() {
    let mut world = running_on("go");
    let refuses = Judgement::Deny {
        reason_code: DenyReason::HighRisk,
    };
    let reply = world.judged_reply(None, &[("grep", Some(refuses))]);
    world.report(reply);
    let id = world.calls[0];
    let refused = world.send(vec![allow(id)]).unwrap_err();
    assert_eq!(refused, Refused::NotAsked { index: 0, id });
}

#[test]
fn a_judgement_counts_only_where_the_policy_asks_for_one() {
    let mut world = running_on("go");
    let allows = Some(Judgement::Allow {});
    let reply = world.judged_reply(None, &[("write", allows), ("unknown", allows)]);
    assert_eq!(world.report(reply), Step::Rest);
    assert_eq!(world.blocked(), [world.calls[0]]);
    let unknown = told(&world, world.calls[1]).unwrap();
    assert_eq!(
        unknown.0,
        "There is no tool named `unknown` in this session."
    );
    assert!(world.state.primary.rules.wants_judge("grep"));
    assert!(!world.state.primary.rules.wants_judge("write"));
}

#[test]
fn a_system_message_opens_a_turn_and_follows_the_message_it_came_with() {
    let mut world = World::new(5, Vec::new());
    world.send(vec![message("hi"), system("be brief")]).unwrap();
    let expected = [&RUNNING[..], &["user.message", "system.message"][..]].concat();
    assert_eq!(world.kinds(), expected);
    let mut world = World::new(5, Vec::new());
    let sent = world.send(vec![system("be brief")]).unwrap();
    assert_eq!(sent.intents, [Intent::Run]);
}

#[test]
fn a_system_message_reaches_a_waiting_session_only_behind_an_answer() {
    let mut world = wanting(&["ask", "ask"]);
    let asked = world.blocked();
    let refused = world.send(vec![system("note")]).unwrap_err();
    assert!(matches!(
        refused,
        Refused::WaitingOn {
            kind: "system.message",
            ..
        }
    ));
    let sent = world.send(vec![answer(asked[0]), system("note")]).unwrap();
    assert_eq!(sent.queued.len(), 1, "it waits behind the other call");
    assert_eq!(world.blocked(), [asked[1]]);
    let from = world.log.len();
    world.send(vec![answer(asked[1]), system("more")]).unwrap();
    let expected = [
        &["user.custom_tool_result"][..],
        &RUNNING[..],
        &["system.message", "system.message"][..],
    ]
    .concat();
    assert_eq!(world.kinds_from(from), expected);
}

#[test]
fn a_system_message_mid_turn_waits_like_any_other() {
    let mut world = running_on("go");
    let sent = world.send(vec![system("note")]).unwrap();
    assert_eq!(sent.queued.len(), 1);
    let from = world.log.len();
    let reply = world.reply(Some("done"), &[]);
    world.report(reply);
    assert_eq!(
        world.kinds_from(from)[2..],
        ["system.message", "span.model_request_start"]
    );
}

#[test]
fn a_waiting_session_holds_no_call_that_is_done() {
    let mut world = wanting(&["bash", "write", "ask"]);
    let asked = world.blocked();
    world.send(vec![answer(asked[1])]).unwrap();
    let calls = world.state.primary.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].id, &calls[0].stage), (asked[0], &Stage::Asked));
}
