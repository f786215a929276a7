//! How a turn opens, goes on and ends. Every function leaves a state that passes its check, and says by
//! [`Step`] what the runner does next.

use contract::content::Block;
use contract::event::{
    Body, RefusalDetails, RetryStatus, SessionError, SessionErrorKind, StopReason,
};
use contract::ids::{EventId, ThreadId};
use serde_json::value::RawValue;

use crate::decision::{Intent, RecordKind, Step, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Pace, UserEvent, Waiting};
use crate::mint::Scribe;
use crate::money::Budget;
use crate::outcome::{self, Standing};
use crate::state::{Call, CallKind, Effort, Phase, Stage, Used, asked};

pub(crate) const INTERRUPTED: &str =
    "Tool execution was interrupted before completion. Please retry.";

pub(crate) fn name(s: &Scribe) -> (String, ThreadId) {
    let thread = &s.out.state.primary;
    (thread.agent_name.clone(), thread.id)
}

/// True if this decision itself opened the turn that is open now, and the model is next.
pub(crate) fn opened_here(s: &Scribe) -> bool {
    s.out.state.primary.phase == Phase::Due && s.out.intents.contains(&Intent::Run)
}

/// Opens a turn.
pub(crate) fn start(s: &mut Scribe) {
    let turn = s.out.state.next_seq;
    let thread = s.thread();
    thread.phase = Phase::Due;
    thread.turn = turn;
    thread.effort = Effort::default();
    run(s);
    s.hook(Webhook::StatusRunStarted);
    s.intend(Intent::Run);
}

/// Starts the clock of running time and says so.
pub(crate) fn run(s: &mut Scribe) {
    let now = s.now;
    s.state().totals.running_since.get_or_insert(now);
    announce_running(s);
}

pub(crate) fn announce_running(s: &mut Scribe) {
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::StatusRunning {});
    s.write(Body::ThreadStatusRunning {
        agent_name,
        session_thread_id,
    });
}

/// Goes on with a turn whose client has answered everything it was asked. What was denied is told to the
/// model; what may run waits for its runner; without either, what waited takes its place at once.
pub(crate) fn resume_answered(s: &mut Scribe, inbox: &[Waiting]) {
    let Phase::Blocked { calls } = &s.out.state.primary.phase else {
        return;
    };
    if !asked(calls).is_empty() {
        return;
    }
    let calls = calls.clone();
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
        Phase::Idle => s.out.state.waiting > 0,
        _ => false,
    };
    if owed {
        start(s);
        // What waits while a grader is at work waits for its verdict.
        if !outcome::is_next(s) {
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
/// next turn at once, unless the budget is spent.
pub(crate) fn stop(
    s: &mut Scribe,
    reason: StopReason,
    details: Option<RefusalDetails>,
    inbox: &[Waiting],
) {
    rest(s);
    s.thread().phase = Phase::Idle;
    announce_idle(s, reason, details);
    if s.out.state.waiting > 0 && !s.out.state.is_spent(s.now) {
        start(s);
        drain(s, inbox);
    }
}

/// Stops the clock of running time.
pub(crate) fn rest(s: &mut Scribe) {
    let now = s.now;
    let totals = &mut s.state().totals;
    if let Some(since) = totals.running_since.take() {
        totals.active += (now.0 - since.0).max(0);
    }
}

/// Waits for the client's answers.
fn block(s: &mut Scribe, calls: Vec<Call>) {
    rest(s);
    let event_ids = asked(&calls);
    s.thread().phase = Phase::Blocked { calls };
    announce_idle(s, StopReason::RequiresAction { event_ids }, None);
}

/// Waits for a higher budget. What waits in the inbox goes on waiting.
fn pause(s: &mut Scribe) {
    rest(s);
    s.thread().phase = Phase::Paused;
    announce_idle(s, StopReason::BudgetReached {}, None);
}

pub(crate) fn announce_idle(
    s: &mut Scribe,
    stop_reason: StopReason,
    stop_details: Option<RefusalDetails>,
) {
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::ThreadStatusIdle {
        agent_name,
        session_thread_id,
        stop_reason: stop_reason.clone(),
        stop_details: stop_details.clone(),
    });
    let usage = s.out.state.totals.usage(s.now);
    let budget = s.out.state.budget.shown();
    s.write(Body::SessionUsage { usage, budget });
    let stop_reason = for_session(s, stop_reason);
    s.write(Body::StatusIdle {
        stop_reason,
        stop_details,
    });
    s.hook(Webhook::StatusIdled);
}

/// What the session says where its thread says `reason`: a spent budget outranks everything but a
/// question to the client (behaviours §5).
fn for_session(s: &mut Scribe, reason: StopReason) -> StopReason {
    if matches!(reason, StopReason::RequiresAction { .. }) || !s.out.state.is_spent(s.now) {
        return reason;
    }
    if let Budget::Limit { announced, .. } = &mut s.state().budget
        && !std::mem::replace(announced, true)
    {
        s.hook(Webhook::BudgetReached);
    }
    StopReason::BudgetReached {}
}

/// Gives waiting events their place, oldest first, and empties the inbox.
pub(crate) fn drain(s: &mut Scribe, inbox: &[Waiting]) {
    for waiting in inbox {
        if !s.out.drained.contains(&waiting.id) {
            s.out.drained.push(waiting.id);
            s.place(waiting.id, waiting.event.clone().body());
            outcome::pass(s, &waiting.event);
        }
    }
    // What this decision itself queued was never seen by anyone: it takes its place as well.
    for waiting in std::mem::take(&mut s.out.queued) {
        s.place(waiting.id, waiting.event.clone().body());
        outcome::pass(s, &waiting.event);
    }
    s.state().waiting = 0;
    s.state().waiting_bytes = 0;
    s.thread().interrupting = false;
}

/// Places the interrupts of the inbox ahead of everything else that waits.
fn place_interrupts(s: &mut Scribe, inbox: &[Waiting]) {
    for waiting in inbox {
        if matches!(waiting.event, UserEvent::Interrupt { .. })
            && !s.out.drained.contains(&waiting.id)
        {
            s.out.drained.push(waiting.id);
            s.place(waiting.id, waiting.event.clone().body());
            s.state().waiting -= 1;
        }
    }
    s.thread().interrupting = false;
}

/// Closes calls that will not be run or answered.
pub(crate) fn close(s: &mut Scribe, calls: &[Call], text: &str) {
    for call in calls.iter().filter(|c| c.stage != Stage::Done) {
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

/// An interrupt reached a session that no runner works on; its event is placed already.
pub(crate) fn stop_unattended(s: &mut Scribe, inbox: &[Waiting]) {
    if s.thread().phase == Phase::Idle {
        return;
    }
    let calls = s.thread().calls().to_vec();
    close(s, &calls, INTERRUPTED);
    outcome::interrupt(s);
    s.out.intents.retain(|i| *i != Intent::Run);
    stop(s, StopReason::EndTurn {}, None, inbox);
}

/// Applies a waiting interrupt: its event, the open calls closed, idle; then whatever else waited.
pub(crate) fn halt(s: &mut Scribe, inbox: &[Waiting]) {
    place_interrupts(s, inbox);
    let calls = s.thread().calls().to_vec();
    close(s, &calls, INTERRUPTED);
    outcome::interrupt(s);
    stop(s, StopReason::EndTurn {}, None, inbox);
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
    let next = calls
        .iter_mut()
        .find(|c| c.kind == CallKind::Sandbox && c.stage == Stage::Ready);
    if let Some(call) = next {
        if pace == Pace::Go {
            call.stage = Stage::Started;
            let (id, seq) = (call.id, call.seq);
            s.record(seq, RecordKind::CallStarted, started_record(s.now.0));
            s.out.step = Step::Execute { call: id };
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
    if outcome::is_next(s) {
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
        (s.thread().phase, s.out.step) = if crowded {
            (Phase::Compacting { span }, Step::Compact { span })
        } else {
            (Phase::Requesting { span }, Step::Request { span })
        };
    }
}

/// Ends the span of a model request; returns its place.
pub(crate) fn end_span(s: &mut Scribe, span: EventId, is_error: bool, used: &Used) -> u64 {
    s.state().totals.add(used);
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
    } else if goes_on || (s.out.state.waiting > 0 && !s.out.state.is_spent(s.now)) {
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
    outcome::end(s, Standing::Failed, why);
    stop(s, StopReason::RetriesExhausted {}, None, inbox);
}

pub(crate) fn error(
    s: &mut Scribe,
    kind: SessionErrorKind,
    message: String,
    retry_status: RetryStatus,
) {
    let error = SessionError {
        kind,
        message,
        retry_status,
    };
    s.write(Body::SessionError { error });
}

/// Shows that the turn waits for its next try.
pub(crate) fn announce_rescheduled(s: &mut Scribe) {
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::StatusRescheduled {});
    s.write(Body::ThreadStatusRescheduled {
        agent_name,
        session_thread_id,
    });
    s.hook(Webhook::StatusRescheduled);
}
