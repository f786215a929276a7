//! What teams owe their budget and their client, by example.

use contract::content::Block;
use contract::event::Body;
use session::{Fact, Step};

use crate::team_scenes::brought_to;
use crate::world::used;

#[test]
fn an_advisor_that_was_lost_is_not_asked_again_beyond_the_budget() {
    for spent in [false, true] {
        let mut team = brought_to("works / works");
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
