//! A runner takes a session: the generation goes up, and what a lost runner had in flight is settled
//! openly. Nothing is run again here: a started call keeps its place until the new runner has found out how
//! it ended, or says that nobody can (law 3).

use contract::event::SessionErrorKind;
use contract::ids::EventId;

use crate::decision::{Decision, Refused, Step};
use crate::faults::{self, Fault};
use crate::input::{Pace, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::state::{Call, Phase, Stage, Used};
use crate::turn::{announce_rescheduled, announce_running, end_span, fail, proceed, result, run};

/// What a lost call's result says: the model must know that it cannot know.
pub(crate) const OUTCOME_UNKNOWN: &str = "The outcome of this call is unknown: whoever was running it was lost before it could say. It may have had all, some or none of its effects. Check before you try again.";

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
            Lost::Nothing
        }
        Phase::Requesting { span } | Phase::Compacting { span } => {
            end_span(&mut s, span, true, &Used::default());
            s.thread().phase = Phase::Due;
            Lost::Request
        }
        Phase::Grading { .. } => {
            s.thread().phase = Phase::Due;
            Lost::Request
        }
        Phase::Acting { calls } => started(&mut s, &calls),
        Phase::Due | Phase::Idle | Phase::Blocked { .. } | Phase::Paused => Lost::Nothing,
    };
    if lost != Lost::Nothing && !reschedule(&mut s, inbox) {
        return Ok(s.done());
    }
    match lost {
        // Also if an interrupt waits: the call may run on, and only its runner can end it.
        Lost::Call(call) => s.out.step = Step::Recover { call },
        Lost::Nothing | Lost::Request => proceed(&mut s, inbox, Pace::Go),
    }
    Ok(s.done())
}

/// What went with the former runner.
#[derive(PartialEq, Eq)]
enum Lost {
    Nothing,
    Request,
    Call(EventId),
}

/// The call that the former runner had started, if there is one.
fn started(s: &mut Scribe, calls: &[Call]) -> Lost {
    let Some(call) = calls.iter().find(|c| c.stage == Stage::Started) else {
        return Lost::Nothing;
    };
    let id = call.id;
    if faults::on(Fault::DoubleStart) {
        for call in s.thread().calls_mut().iter_mut().filter(|c| c.id == id) {
            call.stage = Stage::Ready;
        }
        return Lost::Request;
    }
    Lost::Call(id)
}

/// Shows that a turn was taken up again; false if that happened too often without progress.
fn reschedule(s: &mut Scribe, inbox: &[Waiting]) -> bool {
    s.thread().effort.recoveries += 1;
    if s.thread().effort.recoveries > limits::RECOVERIES {
        let calls = s.thread().calls().to_vec();
        for call in calls.iter().filter(|c| c.stage == Stage::Started) {
            result(s, call.id, OUTCOME_UNKNOWN.to_owned());
        }
        let open: Vec<Call> = calls
            .into_iter()
            .filter(|c| c.stage != Stage::Started)
            .collect();
        crate::turn::close(s, &open, "The call was not run: the turn was given up.");
        let message = "The server was lost several times in a row while it worked on this turn. Send a message to try again.";
        fail(s, SessionErrorKind::UnknownError, message.to_owned(), inbox);
        return false;
    }
    announce_rescheduled(s);
    announce_running(s);
    true
}
