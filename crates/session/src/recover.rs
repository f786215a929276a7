//! A runner takes a session: the generation goes up, and what a lost runner had in flight is settled
//! openly. Nothing is run again here: a started call keeps its place until the new runner has found out how
//! it ended, or says that nobody can (law 3).

use contract::event::SessionErrorKind;
use contract::ids::{EventId, ThreadId};

use crate::decision::{Decision, Refused, Step};
use crate::faults::{self, Fault};
use crate::input::Waiting;
use crate::limits;
use crate::mint::Scribe;
use crate::state::{Call, Phase, Stage, Status, Thread, Used};
use crate::turn::{
    announce_running, close, close_call, end_span, fail, resume, say_rescheduled, step,
    thread_rescheduled,
};

/// What a lost call's result says: the model must know that it cannot know.
pub(crate) const OUTCOME_UNKNOWN: &str = "The outcome of this call is unknown: whoever was running it was lost before it could say. It may have had all, some or none of its effects. Check before you try again.";

/// A runner takes the session: every thread that nobody works on any more, and every one that is due.
pub(crate) fn claim(mut s: Scribe, inbox: &[Waiting]) -> Result<Decision, Refused> {
    if !s.out.state.is_open() {
        return Err(Refused::NothingToRun);
    }
    s.state().generation.0 += 1;
    // Nobody ran it since its last event: neither a queue nor a server that was down is running time.
    s.restart_clock();
    // It was taken for what is due first, also if the clock was set back since.
    let until = s.out.state.due_at(s.now).max(s.now);
    let taken = s.out.state.threads().filter(|thread| {
        let due = thread.due_at(s.now).is_some_and(|at| at <= until);
        thread.is_in_flight() || due
    });
    let taken = taken.map(|thread| thread.id).collect::<Vec<_>>();
    let mut lost = Vec::new();
    for thread in &taken {
        let what = s.on(*thread, settle);
        lost.push((*thread, what));
    }
    let given_up = reschedule(&mut s, &lost);
    for (thread, what) in lost {
        // An interrupt of all that another thread came to first has ended its turn.
        if !s.out.state.thread(thread).is_some_and(Thread::is_open) {
            continue;
        }
        s.on(thread, |s| match what {
            _ if given_up.contains(&thread) => give_up(s, inbox),
            // Also if an interrupt waits: the call may run on, and only its runner can end it.
            Lost::Call(call) => step(s, Step::Recover { call }),
            Lost::Question(call) if !s.thread().interrupting => ask_again(s, call, inbox),
            Lost::Nothing | Lost::Request | Lost::Question(_) => resume(s, inbox),
        });
    }
    Ok(s.done())
}

/// A question that was lost begins again, unless nobody pays an advisor any more.
fn ask_again(s: &mut Scribe, call: EventId, inbox: &[Waiting]) {
    if s.out.state.advising.is_none() || !s.out.state.is_spent(s.now) {
        step(s, Step::Execute { call });
        return;
    }
    let mut calls = s.thread().calls_mut().iter_mut();
    if let Some(asked) = calls.find(|asked| asked.id == call) {
        asked.stage = Stage::Ready;
    }
    resume(s, inbox);
}

/// What went with the former runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nothing,
    Request,
    /// A call of which nothing exists before its result.
    Question(EventId),
    Call(EventId),
}

/// Settles what the former runner had in flight in a thread.
fn settle(s: &mut Scribe) -> Lost {
    match s.thread().phase.clone() {
        Phase::Requesting { span } | Phase::Compacting { span } => {
            end_span(s, span, true, &Used::default());
            s.thread().phase = Phase::Due;
            Lost::Request
        }
        Phase::Grading { .. } => {
            s.thread().phase = Phase::Due;
            Lost::Request
        }
        Phase::Acting { calls } => started(s, &calls),
        Phase::Retrying { .. }
        | Phase::Due
        | Phase::Idle
        | Phase::Blocked { .. }
        | Phase::Paused => Lost::Nothing,
    }
}

/// The call that the former runner had started, if there is one.
fn started(s: &mut Scribe, calls: &[Call]) -> Lost {
    let Some(call) = calls.iter().find(|c| c.stage == Stage::Started) else {
        return Lost::Nothing;
    };
    let id = call.id;
    if call.kind.is_repeatable() {
        return Lost::Question(id);
    }
    if faults::on(Fault::DoubleStart) {
        for call in s.thread().calls_mut().iter_mut().filter(|c| c.id == id) {
            call.stage = Stage::Ready;
        }
        return Lost::Request;
    }
    Lost::Call(id)
}

/// Shows that turns were taken up again. Returns those that this has happened to too often without progress.
fn reschedule(s: &mut Scribe, lost: &[(ThreadId, Lost)]) -> Vec<ThreadId> {
    let lost = lost.iter().filter(|(_, what)| *what != Lost::Nothing);
    let (mut given_up, mut taken_up) = (Vec::new(), Vec::new());
    for (thread, _) in lost {
        let recoveries = s.on(*thread, |s| {
            s.thread().effort.recoveries += 1;
            s.thread().effort.recoveries
        });
        if recoveries > limits::RECOVERIES {
            given_up.push(*thread);
        } else {
            taken_up.push(*thread);
        }
    }
    if !taken_up.is_empty() {
        if s.shown == Status::Running {
            say_rescheduled(s);
        }
        for thread in &taken_up {
            s.on(*thread, thread_rescheduled);
        }
        for thread in &taken_up {
            s.on(*thread, announce_running);
        }
    }
    given_up
}

/// Ends a turn whose runner was lost too often.
fn give_up(s: &mut Scribe, inbox: &[Waiting]) {
    let calls = s.thread().calls().to_vec();
    for call in calls.iter().filter(|c| c.stage == Stage::Started) {
        close_call(s, call, OUTCOME_UNKNOWN);
    }
    let open: Vec<Call> = calls
        .into_iter()
        .filter(|c| c.stage != Stage::Started)
        .collect();
    close(s, &open, "The call was not run: the turn was given up.");
    let message = "The server was lost several times in a row while it worked on this turn. Send a message to try again.";
    fail(s, SessionErrorKind::UnknownError, message.to_owned(), inbox);
}
