//! A runner takes a session: the generation goes up, and what a lost runner had in flight is settled
//! openly. Nothing is run again here: a started call gets a result that says what is unknown (law 3).

use contract::content::Block;
use contract::event::{Body, ModelUsage, SessionErrorKind};

use crate::decision::{Decision, Refused};
use crate::input::{Pace, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::state::{Phase, Stage};
use crate::turn::{announce_running, end_span, fail, name, proceed, result};

/// What a lost call's result says: the model must know that it cannot know.
const OUTCOME_UNKNOWN: &str = "The outcome of this call is unknown: the server stopped while it was running and its sandbox was lost. It may have had all, some or none of its effects. Check before you try again.";

/// A runner takes the session.
pub(crate) fn claim(mut s: Scribe, inbox: &[Waiting]) -> Result<Decision, Refused> {
    if !s.state().is_running() {
        return Err(Refused::NothingToRun);
    }
    s.state().generation.0 += 1;
    let lost = match s.state().phase.clone() {
        Phase::Due | Phase::Idle { .. } => false,
        Phase::Requesting { span } => {
            end_span(&mut s, span, true, &ModelUsage::default());
            true
        }
        Phase::Acting { mut calls } => {
            let mut lost = false;
            for call in calls.iter_mut().filter(|c| c.stage == Stage::Started) {
                result(&mut s, call.id, vec![Block::text(OUTCOME_UNKNOWN)], true);
                call.stage = Stage::Done;
                lost = true;
            }
            s.state().phase = Phase::Acting { calls };
            lost
        }
    };
    if lost && !reschedule(&mut s, inbox) {
        return Ok(s.done());
    }
    proceed(&mut s, inbox, Pace::Go);
    Ok(s.done())
}

/// Shows that a turn was taken up again; false if that happened too often without progress.
fn reschedule(s: &mut Scribe, inbox: &[Waiting]) -> bool {
    s.state().recoveries += 1;
    if s.state().recoveries > limits::RECOVERIES {
        let message = "The server was lost several times in a row while it worked on this turn. Send a message to try again.";
        fail(s, SessionErrorKind::UnknownError, message.to_owned(), inbox);
        return false;
    }
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::StatusRescheduled {});
    s.write(Body::ThreadStatusRescheduled {
        agent_name,
        session_thread_id,
    });
    announce_running(s);
    true
}
