//! What teams owe their budget and their client, by example.

use contract::content::Block;
use contract::event::Body;
use contract::ids::ThreadId;
use contract::patch::Patch;
use session::{Fact, Phase, Status, Step, WaitsOn};

use crate::team_scenes::{brought_to, cap_of};
use crate::world::{INTERRUPT, allow, answer, interrupted, used};

#[test]
fn an_advisor_that_was_lost_is_not_asked_again_beyond_the_budget() {
    for spent in [false, true] {
        let mut team = brought_to("works / works", 3);
        let (lead, child) = (team.state.primary.id, team.child());
        team.says(lead, &["ask_advisor"]);
        let question = team.running(lead);
        if spent {
            team.last_cent();
            team.says(child, &[]);
        }
        let from = team.log.len();
        let claimed = team.claim();
        assert_eq!(
            claimed.step,
            if spent {
                Step::Rest
            } else {
                Step::Execute { call: question }
            }
        );
        let told = team.log[from..].iter().find_map(|p| match &p.event.body {
            Body::ThreadMessageReceived { content, .. } if p.thread == lead => {
                Some(content.clone())
            }
            _ => None,
        });
        let said = told.as_deref().map(|content| match content {
            [Block::Text { text }] => text.contains("reached its budget"),
            _ => false,
        });
        assert_eq!(said, spent.then_some(true), "why there is no advice");
        assert_eq!(team.state.advising.is_some(), !spent);
        if !spent {
            let advised = Fact::Advised {
                call: question,
                content: vec![Block::text("mind the gap")],
                is_error: false,
                used: used(1),
            };
            assert!(matches!(
                team.report(lead, advised).step,
                Step::Request { .. }
            ));
        }
    }
}

#[test]
fn a_budget_that_is_raised_while_an_interrupt_waits_leaves_no_turn_paused() {
    for budget in [Patch::Null, Patch::Value(1_000)] {
        let mut team = brought_to("paused / works", 3);
        let (lead, child) = (team.state.primary.id, team.child());
        team.send(vec![INTERRUPT]).unwrap();
        team.submit(cap_of(budget)).unwrap();
        let stopped = team.report(child, interrupted());
        assert_eq!(team.state.thread(lead).unwrap().phase, Phase::Idle);
        assert_eq!(
            (team.state.status(), stopped.step),
            (Status::Idle, Step::Rest)
        );
        assert!(team.inbox.is_empty(), "{:?}", team.inbox);
        team.send(vec![crate::world::message("on with it")])
            .unwrap();
        assert!(matches!(team.claim().step, Step::Request { .. }));
    }
}

/// What waits the last decisions ended, as thread, whom and how long.
fn waits(decision: &session::Decision) -> Vec<(ThreadId, WaitsOn, Option<ThreadId>, i64)> {
    let ended = decision.waits.iter();
    ended
        .map(|w| (w.thread, w.on, w.whom, w.until.0 - w.since.0))
        .collect()
}

#[test]
fn a_wait_says_who_waited_for_whom_and_how_long() {
    let mut team = brought_to("rests / works", 3);
    let (lead, child) = (team.state.primary.id, team.child());
    team.now += 5_000_000;
    let reply = team.reply(child, Some("done"), &[]);
    let heard = team.report(child, reply);
    assert_eq!(
        waits(&heard),
        [(lead, WaitsOn::Threads, Some(child), 5_000_000)]
    );

    let mut team = brought_to("rests / asks", 3);
    for (first, expected) in [
        (true, vec![]),
        (false, vec![(child, WaitsOn::Client, None, 7_000_000)]),
    ] {
        let call = team.fold.asked()[0];
        team.now += if first { 3_000_000 } else { 4_000_000 };
        let answer = if first { answer(call) } else { allow(call) };
        let sent = team.send(vec![answer]).unwrap();
        assert_eq!(waits(&sent), expected, "a part of the answers ends no wait");
    }

    let mut team = brought_to("rests / retries", 3);
    team.now = team.state.due_at(contract::time::Micros(team.now)).0;
    let claimed = team.claim();
    assert!(matches!(waits(&claimed)[..], [(thread, WaitsOn::Retry, None, _)] if thread == child));

    let mut team = brought_to("rests / paused", 3);
    let raised = team.submit(cap_of(Patch::Null)).unwrap();
    assert!(waits(&raised).contains(&(child, WaitsOn::Budget, None, 0)));
}

#[test]
fn a_coordinator_waits_no_longer_than_one_of_its_threads_has_a_turn() {
    let mut team = brought_to("rests / works", 3);
    let (lead, child) = (team.state.primary.id, team.child());
    let stop = session::UserEvent::Interrupt {
        thread: Some(child),
    };
    team.send(vec![stop]).unwrap();
    team.now += 2_000_000;
    let stopped = team.report(child, interrupted());
    assert_eq!(
        waits(&stopped),
        [(lead, WaitsOn::Threads, Some(child), 2_000_000)]
    );

    let mut team = brought_to("rests / asks", 3);
    team.now += 2_000_000;
    let archived = team
        .submit(session::Input::Command(session::Command::ArchiveThread(
            child,
        )))
        .unwrap();
    assert_eq!(
        waits(&archived),
        [
            (child, WaitsOn::Client, None, 2_000_000),
            (lead, WaitsOn::Threads, Some(child), 2_000_000)
        ]
    );
}
