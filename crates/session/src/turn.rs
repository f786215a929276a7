//! How a turn opens, goes on and ends. Every function leaves a state that passes its check, and says by
//! [`Step`] what the runner does next.

use contract::content::Block;
use contract::event::{Body, RefusalDetails, RetryStatus, SessionErrorKind, StopReason};
use contract::ids::{EventId, ThreadId};
use serde_json::value::RawValue;

pub(crate) use crate::announce::{
    announce_idle, announce_rescheduled, announce_running, error, name, release, say_rescheduled,
    settle_session, thread_rescheduled, waited,
};
use crate::decision::{RecordKind, Step, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Pace, UserEvent, Waiting};
use crate::mint::Scribe;
use crate::outcome::{self, Standing};
use crate::state::{Call, CallKind, Effort, Phase, Stage, Status, Used, asked};
use crate::team;

pub(crate) const INTERRUPTED: &str =
    "Tool execution was interrupted before completion. Please retry.";

/// True if this decision itself opened the turn that is open now, and the model is next.
pub(crate) fn opened_here(s: &mut Scribe) -> bool {
    s.thread().phase == Phase::Due && s.opened.contains(&s.at)
}

/// Opens a turn.
pub(crate) fn start(s: &mut Scribe) {
    let turn = s.out.state.next_seq;
    let thread = s.thread();
    thread.phase = Phase::Due;
    thread.turn = turn;
    thread.effort = Effort::default();
    let anew = s.shown == Status::Idle;
    announce_running(s);
    if anew {
        s.hook(Webhook::StatusRunStarted);
    }
    s.opened.insert(s.at);
}

/// Goes on with a turn whose client has answered everything it was asked. What was denied is told to the
/// model; what may run waits for its runner; without either, what waited takes its place at once.
pub(crate) fn resume_answered(s: &mut Scribe, inbox: &[Waiting]) {
    // What an interrupt is to close is not taken up before.
    if s.thread().interrupting {
        return;
    }
    let Phase::Blocked { calls } = s.thread().phase.clone() else {
        return;
    };
    if !asked(&calls).is_empty() {
        return;
    }
    start(s);
    let calls = tell_denied(s, calls);
    if calls.iter().any(|c| c.stage == Stage::Ready) {
        s.thread().phase = Phase::Acting { calls };
    } else if !s.out.state.is_spent(s.now) {
        drain(s, inbox);
    }
}

/// Goes on with what the budget had stopped, if it no longer does.
pub(crate) fn resume_paused(s: &mut Scribe, inbox: &[Waiting]) {
    if s.out.state.is_spent(s.now) {
        return;
    }
    let owed = match s.thread().phase {
        Phase::Paused => true,
        Phase::Idle => s.thread().waiting > 0,
        _ => false,
    };
    if owed && s.thread().interrupting {
        // The interrupt ends the turn, and what waits behind it comes then.
        if s.thread().phase == Phase::Paused {
            start(s);
        }
    } else if owed {
        start(s);
        // What waits while a grader is at work waits for its verdict.
        if !s.is_primary() || !outcome::is_next(s) {
            drain(s, inbox);
        }
    }
}

/// Writes the results of the calls that the client denied.
fn tell_denied(s: &mut Scribe, mut calls: Vec<Call>) -> Vec<Call> {
    for call in &mut calls {
        if let Stage::Denied { message } = &call.stage {
            let mut text = format!("Permission to use {} has been rejected.", call.name);
            if let Some(message) = message {
                text = format!("{text} Rejection message: {message}");
            }
            result(s, call.id, text);
            call.stage = Stage::Done;
        }
    }
    calls
}

/// Goes idle: thread, usage, session, in the order of the recordings. What waits in the inbox opens the
/// next turn at once, unless the budget is spent. A thread of a coordinator tells it how its turn ended, and
/// ends with a turn that failed.
pub(crate) fn stop(
    s: &mut Scribe,
    reason: StopReason,
    details: Option<RefusalDetails>,
    inbox: &[Waiting],
) {
    s.thread().phase = Phase::Idle;
    let failed = reason == StopReason::RetriesExhausted {};
    if !s.is_primary() {
        team::answer(s, &reason, inbox);
    }
    announce_idle(s, reason, details);
    if !s.is_primary() && failed {
        team::end(s, false);
    } else if s.thread().waiting > 0 && !s.thread().interrupting && !s.out.state.is_spent(s.now) {
        start(s);
        drain(s, inbox);
    }
}

/// Waits for the client's answers.
fn block(s: &mut Scribe, calls: Vec<Call>) {
    let event_ids = asked(&calls);
    s.thread().phase = Phase::Blocked { calls };
    announce_idle(s, StopReason::RequiresAction { event_ids }, None);
}

/// Waits for a higher budget. What waits in the inbox goes on waiting.
fn pause(s: &mut Scribe) {
    s.thread().phase = Phase::Paused;
    announce_idle(s, StopReason::BudgetReached {}, None);
}

/// Gives the events that wait for the thread their place, oldest first.
pub(crate) fn drain(s: &mut Scribe, inbox: &[Waiting]) {
    let at = s.at;
    place_waiting(s, inbox, true, |waiting| waiting.thread == at);
    s.thread().interrupting = false;
}

/// Places the interrupts of the inbox that are for the thread ahead of everything else that waits, and in passing
/// what other threads said to it: that opens no turn after an interrupt.
fn place_interrupts(s: &mut Scribe, inbox: &[Waiting]) {
    let at = s.at;
    place_waiting(s, inbox, false, |waiting| match &waiting.event {
        UserEvent::Interrupt { thread } => thread.is_none_or(|thread| thread == at),
        UserEvent::Thread { .. } => waiting.thread == at,
        _ => false,
    });
    s.thread().interrupting = false;
}

/// Places what waits and is wanted, what this decision itself queued last: nobody has seen that wait. An interrupt
/// of all threads stops those that nobody works on; the others have been told.
fn place_waiting(
    s: &mut Scribe,
    inbox: &[Waiting],
    passing: bool,
    wanted: impl Fn(&Waiting) -> bool,
) {
    let mut interrupted = false;
    let queued = std::mem::take(&mut s.out.queued);
    let (own, later) = queued.into_iter().partition::<Vec<_>, _>(&wanted);
    s.out.queued = later;
    let waits = inbox.iter().filter(|waiting| wanted(waiting));
    for waiting in waits.chain(&own) {
        if s.out.drained.contains(&waiting.id) {
            continue;
        }
        interrupted |= matches!(waiting.event, UserEvent::Interrupt { thread: None });
        if own.iter().any(|queued| queued.id == waiting.id) {
            s.no_longer_waits(waiting);
            s.place(waiting.id, waiting.event.clone().body());
        } else {
            s.take_place(waiting);
        }
        if passing {
            outcome::pass(s, &waiting.event);
        }
    }
    if interrupted {
        stop_others(s, inbox);
    }
}

/// Stops the threads that an interrupt of all was for and that nobody works on. What the session was to reach it
/// reaches no more, also if its agent only waits for its threads.
fn stop_others(s: &mut Scribe, inbox: &[Waiting]) {
    let at = s.at;
    let threads = s.out.state.threads();
    let told = threads.filter(|t| t.id != at && t.interrupting && !t.is_in_flight());
    let told = told.map(|thread| thread.id).collect::<Vec<_>>();
    for thread in &told {
        s.on(*thread, |s| {
            s.thread().interrupting = false;
            stop_unattended(s, inbox);
        });
    }
    give_up_outcome(s);
    // What was kept from an agent that rests, by the interrupt or by a budget that was raised meanwhile.
    for thread in told {
        if s.out.state.thread(thread).is_some() {
            s.on(thread, |s| resume_paused(s, inbox));
        }
    }
}

/// Ends the outcome of an agent that rests while its threads work.
pub(crate) fn give_up_outcome(s: &mut Scribe) {
    let primary = s.out.state.primary.id;
    s.on(primary, |s| {
        if s.thread().phase == Phase::Idle {
            outcome::interrupt(s);
        }
    });
}

/// Closes calls that will not be run or answered.
pub(crate) fn close(s: &mut Scribe, calls: &[Call], text: &str) {
    for call in calls.iter().filter(|c| c.stage != Stage::Done) {
        close_call(s, call, text);
    }
}

/// Closes one call: the model is told why it has no result.
pub(crate) fn close_call(s: &mut Scribe, call: &Call, text: &str) {
    if call.kind == CallKind::Advisor {
        team::advise(s, call.id, vec![Block::text(text)], true);
    } else {
        result(s, call.id, text.to_owned());
    }
}

/// The result of a call that was not run.
pub(crate) fn result(s: &mut Scribe, call: EventId, text: String) {
    s.write(Body::AgentToolResult {
        tool_use_id: call,
        content: vec![Block::text(text)],
        is_error: true,
    });
}

/// An interrupt reached a thread that no runner works on; its event is placed already.
pub(crate) fn stop_unattended(s: &mut Scribe, inbox: &[Waiting]) {
    if matches!(s.thread().phase, Phase::Idle | Phase::Paused) {
        return;
    }
    cut(s, inbox);
}

/// Applies a waiting interrupt: its event, the open calls closed, idle; then whatever else waited.
pub(crate) fn halt(s: &mut Scribe, inbox: &[Waiting]) {
    place_interrupts(s, inbox);
    cut(s, inbox);
}

/// Ends a turn that was interrupted.
fn cut(s: &mut Scribe, inbox: &[Waiting]) {
    let calls = s.thread().calls().to_vec();
    close(s, &calls, INTERRUPTED);
    if s.is_primary() {
        outcome::interrupt(s);
    }
    let at = s.at;
    s.opened.remove(&at);
    place_waiting(s, inbox, false, |waiting| {
        waiting.thread == at && matches!(waiting.event, UserEvent::Thread { .. })
    });
    s.cut = true;
    stop(s, StopReason::EndTurn {}, None, inbox);
    s.cut = false;
}

/// Opens the next step of a running turn.
pub(crate) fn proceed(s: &mut Scribe, inbox: &[Waiting], pace: Pace) {
    if s.thread().interrupting {
        halt(s, inbox);
        return;
    }
    if let Phase::Acting { calls } = s.thread().phase.clone() {
        act(s, calls, inbox, pace);
    } else {
        request(s, inbox, pace);
    }
}

fn act(s: &mut Scribe, calls: Vec<Call>, inbox: &[Waiting], pace: Pace) {
    let mut calls = tell_denied(s, calls);
    if let Some(at) = next_call(s, &mut calls) {
        let call = &mut calls[at];
        if pace == Pace::Go {
            call.stage = Stage::Started;
            if call.kind == CallKind::Advisor {
                call.seq = team::consult(s, call.id);
            }
            s.record(call.seq, RecordKind::CallStarted, started_record(s.now.0));
            step(s, Step::Execute { call: call.id });
        }
        s.thread().phase = Phase::Acting { calls };
        return;
    }
    if asked(&calls).is_empty() {
        request(s, inbox, pace);
    } else {
        calls.retain(|c| c.stage == Stage::Asked);
        block(s, calls);
    }
}

/// The call that runs next. Advice that nobody pays for any more is not asked for.
fn next_call(s: &mut Scribe, calls: &mut [Call]) -> Option<usize> {
    let spent = s.out.state.is_spent(s.now);
    loop {
        let ready = |c: &Call| c.kind != CallKind::Custom && c.stage == Stage::Ready;
        let at = calls.iter().position(ready)?;
        if !(spent && calls[at].kind == CallKind::Advisor) {
            return Some(at);
        }
        close_call(
            s,
            &calls[at],
            "The advisor was not asked: the session has reached its budget.",
        );
        calls[at].stage = Stage::Done;
    }
}

/// Says what comes next in the thread.
pub(crate) fn step(s: &mut Scribe, step: Step) {
    if s.at == s.about {
        s.out.step = step;
    } else {
        s.out.others.push((s.at, step));
    }
}

/// Begins what is due in threads that nobody works on: in the one that was reported of only while others hold the
/// session, since its run is put back otherwise.
pub(crate) fn take_up(s: &mut Scribe, inbox: &[Waiting], pace: Pace) {
    let (about, now) = (s.about, s.now);
    let alone = s.out.state.children.is_empty() && about == s.out.state.primary.id;
    if pace == Pace::Halt || alone {
        return;
    }
    let is_due = |s: &Scribe, thread: ThreadId| {
        let due_at = s.out.state.thread(thread).and_then(|t| t.due_at(now));
        due_at.is_some_and(|at| at <= now)
    };
    let threads = s.out.state.threads().map(|thread| thread.id);
    for thread in threads.collect::<Vec<_>>() {
        if thread != about && is_due(s, thread) {
            s.on(thread, |s| resume(s, inbox));
        }
    }
    if s.out.state.is_in_flight() && is_due(s, about) {
        s.on(about, |s| resume(s, inbox));
    }
}

/// Takes up a thread that is due.
pub(crate) fn resume(s: &mut Scribe, inbox: &[Waiting]) {
    if let Phase::Retrying { .. } = s.thread().phase {
        s.thread().phase = Phase::Due;
        announce_running(s);
    }
    proceed(s, inbox, Pace::Go);
}

fn started_record(at: i64) -> Box<RawValue> {
    RawValue::from_string(format!("{{\"at\":{at}}}")).expect("digits in braces are JSON")
}

/// The model is next, unless the budget says no, a grader comes first or the transcript has to shrink. What
/// waits takes its place after a compaction, so that no summary stands between a message and its answer.
pub(crate) fn request(s: &mut Scribe, inbox: &[Waiting], pace: Pace) {
    if s.out.state.is_spent(s.now) {
        pause(s);
        return;
    }
    if s.is_primary() && outcome::is_next(s) {
        outcome::grade(s, pace);
        return;
    }
    let crowded = s.thread().crowded;
    if !crowded && !faults::on(Fault::ForgottenDrain) {
        drain(s, inbox);
    }
    s.thread().phase = Phase::Due;
    if pace == Pace::Go {
        let span = s.write(Body::SpanModelRequestStart {});
        let (phase, next) = if crowded {
            (Phase::Compacting { span }, Step::Compact { span })
        } else {
            (Phase::Requesting { span }, Step::Request { span })
        };
        s.thread().phase = phase;
        step(s, next);
    }
}

/// Ends the span of a model request; returns its place.
pub(crate) fn end_span(s: &mut Scribe, span: EventId, is_error: bool, used: &Used) -> u64 {
    s.count(used);
    if is_error && faults::on(Fault::UsageTwice) {
        s.state().totals.add(used);
    }
    let id = s.id();
    s.place(
        id,
        Body::SpanModelRequestEnd {
            model_request_start_id: span,
            is_error,
            model_usage: used.usage,
        },
    )
}

/// Goes on after the verdict of a grader. A message that came while it graded is answered in the same turn.
pub(crate) fn after_grading(s: &mut Scribe, goes_on: bool, inbox: &[Waiting], pace: Pace) {
    if s.thread().interrupting {
        halt(s, inbox);
    } else if goes_on || (s.thread().waiting > 0 && !s.out.state.is_spent(s.now)) {
        request(s, inbox, pace);
    } else {
        stop(s, StopReason::EndTurn {}, None, inbox);
    }
}

/// Ends the turn with an error. What waited is flushed: it keeps its place in history and the next
/// message starts fresh.
pub(crate) fn fail(s: &mut Scribe, kind: SessionErrorKind, message: String, inbox: &[Waiting]) {
    let why = format!("The turn ended with an error: {message}");
    error(s, kind, message, RetryStatus::Exhausted {});
    drain(s, inbox);
    if s.is_primary() {
        outcome::end(s, Standing::Failed, why);
    }
    stop(s, StopReason::RetriesExhausted {}, None, inbox);
}
