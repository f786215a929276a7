//! What is said of a thread and of its session when a turn opens, rests, waits or fails, in the order of the recordings.
//! It says what is true and makes nothing so.

use contract::event::{
    Body, RefusalDetails, RetryStatus, SessionError, SessionErrorKind, StopReason,
};
use contract::ids::ThreadId;

use crate::decision::{Waited, Webhook};
use crate::faults::{self, Fault};
use crate::mint::Scribe;
use crate::money::Budget;
use crate::state::{Phase, Rest, Status, Thread, WaitsOn};

pub(crate) fn name(s: &mut Scribe) -> (String, ThreadId) {
    let thread = s.thread();
    (thread.agent_name.clone(), thread.id)
}

/// Says that the thread runs, and the session if it did not.
pub(crate) fn announce_running(s: &mut Scribe) {
    s.keep_time();
    waited(s);
    if s.shown != Status::Running {
        s.write(Body::StatusRunning {});
        s.shown = Status::Running;
    }
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::ThreadStatusRunning {
        agent_name,
        session_thread_id,
    });
}

/// Says that the thread is idle, and the session if nothing runs in it any more.
pub(crate) fn announce_idle(
    s: &mut Scribe,
    stop_reason: StopReason,
    stop_details: Option<RefusalDetails>,
) {
    s.keep_time();
    rests(s, &stop_reason);
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::ThreadStatusIdle {
        agent_name,
        session_thread_id,
        stop_reason: stop_reason.clone(),
        stop_details: stop_details.clone(),
    });
    if !s.is_primary() {
        s.hook(Webhook::ThreadIdled(session_thread_id));
    }
    settle_session(s, stop_reason, stop_details);
}

/// Says what a thread that came to rest makes of the session: the fold of all of them.
pub(crate) fn settle_session(
    s: &mut Scribe,
    stop_reason: StopReason,
    stop_details: Option<RefusalDetails>,
) {
    match s.out.state.status() {
        Status::Running if !faults::on(Fault::FoldForgotten) => return,
        Status::Rescheduling => {
            if s.shown == Status::Running {
                say_rescheduled(s);
            }
            return;
        }
        Status::Running | Status::Idle | Status::Terminated => {}
    }
    let usage = s.out.state.totals.usage(s.now);
    let budget = s.out.state.budget.shown();
    s.write(Body::SessionUsage { usage, budget });
    let stop_reason = for_session(s, stop_reason);
    let refused = stop_reason == StopReason::Refusal {};
    s.write(Body::StatusIdle {
        stop_details: stop_details.filter(|_| refused || s.out.state.children.is_empty()),
        stop_reason,
    });
    s.shown = Status::Idle;
    s.hook(Webhook::StatusIdled);
}

/// What the session says where its thread says `reason`: a question to the client outranks everything, whichever
/// thread asks, and then a spent budget (behaviours §5).
fn for_session(s: &mut Scribe, reason: StopReason) -> StopReason {
    let event_ids = s.out.state.blocked_on();
    if !event_ids.is_empty() {
        return StopReason::RequiresAction { event_ids };
    }
    if !s.out.state.is_spent(s.now) {
        return reason;
    }
    if let Budget::Limit { announced, .. } = &mut s.state().budget
        && !std::mem::replace(announced, true)
    {
        s.hook(Webhook::BudgetReached);
    }
    StopReason::BudgetReached {}
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
    s.keep_time();
    wait(s, Some(WaitsOn::Retry));
    if s.out.state.status() == Status::Rescheduling && s.shown == Status::Running {
        say_rescheduled(s);
    }
    thread_rescheduled(s);
}

/// The thread rests, and waits for somebody or for nobody. Fewer answers than calls do not end a wait.
fn rests(s: &mut Scribe, reason: &StopReason) {
    let is_open = |thread: &Thread| thread.phase != Phase::Idle;
    let on = match reason {
        StopReason::RequiresAction { .. } => Some(WaitsOn::Client),
        StopReason::BudgetReached {} => Some(WaitsOn::Budget),
        _ if s.is_primary() && s.out.state.children.iter().any(is_open) => Some(WaitsOn::Threads),
        _ => None,
    };
    if s.thread().rest.map(|rest| rest.on) != on {
        waited(s);
        wait(s, on);
    }
    release(s);
}

fn wait(s: &mut Scribe, on: Option<WaitsOn>) {
    let since = s.now;
    s.thread().rest = on.map(|on| Rest { since, on });
}

/// What the thread waited for is over, if it waited.
pub(crate) fn waited(s: &mut Scribe) {
    let Some(Rest { since, on }) = s.thread().rest.take() else {
        return;
    };
    let (thread, until) = (s.at, s.now);
    s.out.waits.push(Waited {
        thread,
        on,
        whom: s.woken_by.filter(|_| on == WaitsOn::Threads),
        since,
        until,
    });
}

/// A coordinator waits for its threads no longer than one of them has a turn.
pub(crate) fn release(s: &mut Scribe) {
    let is_open = |thread: &Thread| thread.phase != Phase::Idle;
    let lead = &s.out.state.primary;
    let waits = lead.rest.is_some_and(|rest| rest.on == WaitsOn::Threads);
    if waits && !s.out.state.children.iter().any(is_open) {
        let (primary, last) = (lead.id, s.at);
        s.on(primary, |s| {
            s.woken_by = Some(last);
            waited(s);
            s.woken_by = None;
        });
    }
}

pub(crate) fn say_rescheduled(s: &mut Scribe) {
    s.write(Body::StatusRescheduled {});
    s.shown = Status::Rescheduling;
    s.hook(Webhook::StatusRescheduled);
}

pub(crate) fn thread_rescheduled(s: &mut Scribe) {
    let (agent_name, session_thread_id) = name(s);
    s.write(Body::ThreadStatusRescheduled {
        agent_name,
        session_thread_id,
    });
}
