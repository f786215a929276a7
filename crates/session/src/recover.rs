//! A runner takes a session: the generation goes up, and what a lost runner had in flight is settled
//! openly. Nothing is run again here: a started call gets a result that says what is unknown (law 3).

use contract::event::SessionErrorKind;

use crate::decision::{Decision, Refused};
use crate::faults::{self, Fault};
use crate::input::{Pace, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::state::{Phase, Stage, Used};
use crate::turn::{announce_rescheduled, announce_running, end_span, fail, proceed, result, run};

/// What a lost call's result says: the model must know that it cannot know.
const OUTCOME_UNKNOWN: &str = "The outcome of this call is unknown: whoever was running it was lost before it could say. It may have had all, some or none of its effects. Check before you try again.";

/// A runner takes the session.
pub(crate) fn claim(mut s: Scribe, inbox: &[Waiting]) -> Result<Decision, Refused> {
    if !s.out.state.is_open() {
        return Err(Refused::NothingToRun);
    }
    s.state().generation.0 += 1;
    // Nobody ran it since its last event: neither a queue nor a server that was down is running time.
    s.restart_clock();
    let lost = match s.thread().phase.clone() {
        Phase::Retrying { .. } => {
            s.thread().phase = Phase::Due;
            run(&mut s);
            false
        }
        Phase::Requesting { span } | Phase::Compacting { span } => {
            end_span(&mut s, span, true, &Used::default());
            s.thread().phase = Phase::Due;
            true
        }
        Phase::Grading { .. } => {
            s.thread().phase = Phase::Due;
            true
        }
        Phase::Acting { mut calls } => {
            let mut lost = false;
            for call in calls.iter_mut().filter(|c| c.stage == Stage::Started) {
                if faults::on(Fault::DoubleStart) {
                    call.stage = Stage::Ready;
                } else {
                    result(&mut s, call.id, OUTCOME_UNKNOWN.to_owned());
                    call.stage = Stage::Done;
                }
                lost = true;
            }
            s.thread().phase = Phase::Acting { calls };
            lost
        }
        Phase::Due | Phase::Idle | Phase::Blocked { .. } | Phase::Paused => false,
    };
    if lost && !reschedule(&mut s, inbox) {
        return Ok(s.done());
    }
    proceed(&mut s, inbox, Pace::Go);
    Ok(s.done())
}

/// Shows that a turn was taken up again; false if that happened too often without progress.
fn reschedule(s: &mut Scribe, inbox: &[Waiting]) -> bool {
    s.thread().effort.recoveries += 1;
    if s.thread().effort.recoveries > limits::RECOVERIES {
        let calls = s.thread().calls().to_vec();
        crate::turn::close(s, &calls, "The call was not run: the turn was given up.");
        let message = "The server was lost several times in a row while it worked on this turn. Send a message to try again.";
        fail(s, SessionErrorKind::UnknownError, message.to_owned(), inbox);
        return false;
    }
    announce_rescheduled(s);
    announce_running(s);
    true
}
