//! What teams owe their budget and their client, by example.

use contract::content::Block;
use contract::event::Body;
use contract::patch::Patch;
use session::{Fact, Phase, Status, Step};

use crate::team_scenes::{brought_to, cap_of};
use crate::world::{INTERRUPT, interrupted, used};

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
