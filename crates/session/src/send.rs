//! What a client may send to a session in each of its states, and what that makes of it. A batch is
//! judged before any of it is accepted: it is taken whole or refused whole.

use std::collections::BTreeSet;

use contract::client_event::Confirmation;
use contract::event::{Body, Event, Permission, StopReason};
use contract::ids::{EventId, ThreadId};

use crate::decide::scribe;
use crate::decision::{Decision, Intent, Refused, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Around, Called, UserEvent, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::outcome;
use crate::state::{CallKind, Phase, Stage, State, Status, Thread, asked};
use crate::turn;

pub(crate) fn send(
    state: &State,
    events: Vec<UserEvent>,
    around: &Around,
) -> Result<Decision, Refused> {
    if state.archived {
        return Err(Refused::Archived);
    }
    admit(state, &events, around)?;
    let mut s = scribe(state, around);
    for event in events {
        accept(&mut s, event, around);
    }
    settle(&mut s, state, &around.inbox);
    Ok(s.done())
}

fn admit(state: &State, events: &[UserEvent], around: &Around) -> Result<(), Refused> {
    // A session that runs takes what is said to it, and it waits.
    let blocked = if state.is_open() {
        Vec::new()
    } else {
        state.blocked_on()
    };
    let interrupts = |e: &UserEvent| matches!(e, UserEvent::Interrupt { .. });
    let freed = events.iter().any(interrupts)
        || blocked
            .iter()
            .all(|id| events.iter().any(|e| e.answers() == Some(*id)));
    // Time in which nothing was heard of an open turn may prove to be waiting, in the queue or for a server that
    // was down, and is given back when the turn is claimed: it refuses nobody.
    let spent = state.is_spent(state.last_at.min(around.now));
    let mut confirmed = BTreeSet::new();
    let mut stopped = Vec::new();
    let mut defined = false;
    for (index, event) in events.iter().enumerate() {
        let kind = event.kind();
        match event {
            UserEvent::Message { .. } | UserEvent::Outcome { .. }
                if !blocked.is_empty() && !freed =>
            {
                return Err(Refused::WaitingOn {
                    index,
                    kind,
                    waiting_on: blocked,
                });
            }
            UserEvent::Message { .. } | UserEvent::Outcome { .. } if spent => {
                return Err(Refused::BudgetReached { index, kind });
            }
            UserEvent::System { .. } => admit_system(state, events, index, freed, spent)?,
            UserEvent::Message { .. } | UserEvent::Thread { .. } => {}
            UserEvent::Outcome { .. } => {
                let primary = state.primary.id;
                let behind = stopped.contains(&primary) || state.primary.interrupting;
                outcome::admit(state, index, behind, defined)?;
                defined = true;
            }
            UserEvent::Interrupt { thread } => {
                if let Some(thread) = thread.filter(|id| state.thread(*id).is_none()) {
                    return Err(Refused::UnknownThread { index, thread });
                }
                let targets = state.threads().map(|thread| thread.id);
                stopped.extend(targets.filter(|id| thread.is_none_or(|thread| thread == *id)));
            }
            UserEvent::CustomToolResult { call, thread, .. } => {
                let called = admit_result(around, index, *call)?;
                admit_thread(state, called, *thread, index, *call)?;
            }
            UserEvent::ToolConfirmation { call, thread, .. } => {
                let called = admit_confirmation(state, around, index, *call)?;
                admit_thread(state, called, *thread, index, *call)?;
                // An interrupt ahead of it, in the same batch or waiting, has closed the call.
                let owner = state.thread(called.thread);
                let closed = stopped.contains(&called.thread)
                    || owner.is_none_or(|thread| thread.interrupting);
                if closed || !confirmed.insert(*call) {
                    return Err(Refused::Resolved { index, id: *call });
                }
            }
        }
    }
    room(state, events)
}

/// A `system.message` goes with what it follows: with a result it may wait behind other unanswered calls,
/// alone or with a message it is held to what holds for a message.
fn admit_system(
    state: &State,
    events: &[UserEvent],
    index: usize,
    freed: bool,
    spent: bool,
) -> Result<(), Refused> {
    let follows = index.checked_sub(1).and_then(|before| events.get(before));
    if follows.is_some_and(|event| event.answers().is_some()) {
        return Ok(());
    }
    let kind = "system.message";
    let blocked = if state.is_open() {
        Vec::new()
    } else {
        state.blocked_on()
    };
    if !blocked.is_empty() && !freed {
        return Err(Refused::WaitingOn {
            index,
            kind,
            waiting_on: blocked,
        });
    }
    if spent {
        return Err(Refused::BudgetReached { index, kind });
    }
    Ok(())
}

/// An answer finds its thread by its call. One that names another is refused, and so is one to a thread that has
/// ended.
fn admit_thread(
    state: &State,
    called: Called,
    named: Option<ThreadId>,
    index: usize,
    call: EventId,
) -> Result<(), Refused> {
    if let Some(thread) = named.filter(|named| *named != called.thread) {
        return Err(Refused::OtherThread {
            index,
            call,
            thread,
        });
    }
    if state.thread(called.thread).is_none() {
        return Err(Refused::ThreadEnded { index, call });
    }
    Ok(())
}

fn admit_result(around: &Around, index: usize, id: EventId) -> Result<Called, Refused> {
    let called = around.calls.get(&id).filter(|c| c.permission.is_none());
    called.copied().ok_or(Refused::UnknownCall {
        index,
        field: "custom_tool_use_id",
        wanted: "agent.custom_tool_use",
        id,
    })
}

fn admit_confirmation(
    state: &State,
    around: &Around,
    index: usize,
    id: EventId,
) -> Result<Called, Refused> {
    let Some(called) = around.calls.get(&id).filter(|c| c.permission.is_some()) else {
        return Err(Refused::UnknownCall {
            index,
            field: "tool_use_id",
            wanted: "agent.tool_use",
            id,
        });
    };
    if called.permission != Some(Permission::Ask) {
        return Err(Refused::NotAsked { index, id });
    }
    let ended = state.thread(called.thread).is_none();
    let mut calls = state.threads().flat_map(Thread::calls);
    if ended || calls.any(|call| call.id == id && call.stage == Stage::Asked) {
        Ok(*called)
    } else {
        Err(Refused::Resolved { index, id })
    }
}

/// Refuses what the inbox cannot hold. A full inbox must not keep its client from stopping the session:
/// interrupts have room of their own.
fn room(state: &State, events: &[UserEvent]) -> Result<(), Refused> {
    let talks = |e: &&UserEvent| {
        matches!(
            e,
            UserEvent::Message { .. } | UserEvent::System { .. } | UserEvent::Outcome { .. }
        )
    };
    let queued = events.iter().filter(talks).count();
    let waits = events.iter().filter(|e| e.answers().is_none()).count();
    let limit = if queued > 0 {
        limits::INBOX
    } else {
        limits::INBOX + limits::INTERRUPTS
    };
    let would_wait = u64::from(state.waiting) + waits as u64;
    if would_wait > u64::from(limit) {
        return Err(Refused::InboxFull { limit });
    }
    let bytes = events.iter().map(UserEvent::bytes).sum::<u64>();
    if queued > 0 && state.waiting > 0 && state.waiting_bytes + bytes > limits::INBOX_BYTES {
        return Err(Refused::InboxLarge {
            limit: limits::INBOX_BYTES,
        });
    }
    Ok(())
}

/// Accepts one event of a batch that was admitted.
pub(crate) fn accept(s: &mut Scribe, mut event: UserEvent, around: &Around) {
    let inbox = &around.inbox;
    let id = s.id();
    let primary = s.out.state.primary.id;
    let owner = event.answers().and_then(|call| around.calls.get(&call));
    let owner = owner.map_or(primary, |called| called.thread);
    // The field names any thread but the primary.
    if let UserEvent::CustomToolResult { thread, .. } | UserEvent::ToolConfirmation { thread, .. } =
        &mut event
    {
        *thread = (owner != primary).then_some(owner);
    }
    match event {
        UserEvent::CustomToolResult { call, .. } => s.on(owner, |s| {
            // Taken on receipt: its echo already carries the time.
            place_seen(s, id, event.body());
            answer(s, call, CallKind::Custom, Stage::Done);
        }),
        UserEvent::ToolConfirmation {
            call,
            result,
            ref deny_message,
            ..
        } => {
            let stage = match result {
                Confirmation::Allow => Stage::Ready,
                Confirmation::Deny => Stage::Denied {
                    message: deny_message.clone(),
                },
            };
            s.on(owner, |s| {
                place(s, id, event);
                answer(s, call, CallKind::Sandbox, stage);
            });
        }
        UserEvent::Interrupt { thread } => interrupt(s, id, thread, inbox),
        UserEvent::Message { .. } | UserEvent::System { .. } | UserEvent::Thread { .. } => {
            say(s, id, event, inbox);
        }
        UserEvent::Outcome {
            outcome,
            ref description,
            ..
        } => {
            outcome::define(s, outcome, description);
            say(s, id, event, inbox);
        }
    }
}

/// Places an event; its echo carries the time.
fn place_seen(s: &mut Scribe, id: EventId, body: Body) {
    s.place(id, body);
    if let Some(placed) = s.out.events.last() {
        let echo = placed.event.clone();
        s.out.echo.push(echo);
    }
}

/// Something for the model: it opens a turn, joins the one that this batch opened, or waits.
fn say(s: &mut Scribe, id: EventId, event: UserEvent, inbox: &[Waiting]) {
    turn::resume_answered(s, inbox);
    if s.thread().phase == Phase::Idle && !s.out.state.is_spent(s.now) {
        // An interrupt of other threads that waits is older, and takes its place ahead of this.
        turn::start(s);
        // Older input that waited behind unanswered calls comes first.
        turn::drain(s, inbox);
    }
    // A turn that this very batch opened has no runner yet: what is said takes its place.
    if !turn::opened_here(s) {
        queue(s, id, event);
    } else if let UserEvent::Outcome { .. } = event {
        place_seen(s, id, event.clone().body());
        outcome::pass(s, &event);
    } else {
        place(s, id, event);
    }
}

fn queue(s: &mut Scribe, id: EventId, event: UserEvent) {
    echo(s, id, event.clone().body());
    if faults::on(Fault::LateAck) {
        return;
    }
    s.state().outcome_waits |= matches!(event, UserEvent::Outcome { .. });
    s.queue(id, event);
}

/// Places an event whose echo does not carry the time, as recorded.
fn place(s: &mut Scribe, id: EventId, event: UserEvent) {
    let body = event.body();
    echo(s, id, body.clone());
    s.place(id, body);
}

fn echo(s: &mut Scribe, id: EventId, body: Body) {
    s.out.echo.push(Event {
        id,
        processed_at: None,
        body,
    });
}

fn answer(s: &mut Scribe, id: EventId, kind: CallKind, stage: Stage) {
    let mut calls = s.thread().calls_mut().iter_mut();
    if let Some(call) = calls.find(|c| c.id == id && c.kind == kind && c.stage == Stage::Asked) {
        call.stage = stage;
    }
}

/// Stops one thread, or all. While a runner is at work in any of them it waits: the runner stops first, then
/// reports.
fn interrupt(s: &mut Scribe, id: EventId, thread: Option<ThreadId>, inbox: &[Waiting]) {
    let event = UserEvent::Interrupt { thread };
    let home = thread.unwrap_or(s.out.state.primary.id);
    let threads = s.out.state.threads();
    let targets = threads.filter(|t| thread.is_none_or(|thread| thread == t.id));
    let targets = targets.cloned().collect::<Vec<_>>();
    if targets.iter().any(Thread::is_in_flight) {
        s.on(home, |s| queue(s, id, event));
        for target in targets {
            let stops = target.id == home || target.is_open() || !target.calls().is_empty();
            s.on(target.id, |s| s.thread().interrupting |= stops);
        }
        s.intend(Intent::Stop);
        return;
    }
    let spent = s.out.state.is_spent(s.now);
    let stopped = |t: &Thread| t.phase == Phase::Paused || (t.phase == Phase::Idle && spent);
    if targets.iter().all(stopped) {
        // Nothing runs, and nothing would before the budget is raised: accepted, and not even listed.
        echo(s, id, event.body());
        return;
    }
    s.on(home, |s| place_seen(s, id, event.body()));
    for target in targets {
        s.on(target.id, |s| turn::stop_unattended(s, inbox));
    }
    if thread.is_none() {
        turn::give_up_outcome(s);
    }
}

/// Settles a batch: answers may have freed a blocked thread, in part or whole.
fn settle(s: &mut Scribe, before: &State, inbox: &[Waiting]) {
    let threads = before.threads().map(|thread| thread.id);
    for thread in threads.collect::<Vec<_>>() {
        s.on(thread, |s| settle_thread(s, before, inbox));
    }
    let late = |e: &Event| matches!(e.body, Body::UserCustomToolResult { .. });
    if before.primary.phase == Phase::Idle
        && s.shown == Status::Idle
        && s.out.state.blocked_on().is_empty()
        && before.blocked_on().is_empty()
        && s.out.echo.iter().any(late)
    {
        // Recorded: an answer after completion is accepted and makes an empty cycle.
        s.hook(Webhook::StatusRunStarted);
        turn::announce_running(s);
        turn::announce_idle(s, StopReason::EndTurn {}, None);
    }
}

fn settle_thread(s: &mut Scribe, before: &State, inbox: &[Waiting]) {
    turn::resume_answered(s, inbox);
    if s.thread().interrupting {
        return;
    }
    let Phase::Blocked { calls } = &mut s.thread().phase else {
        return;
    };
    calls.retain(|call| call.stage != Stage::Done);
    let left = asked(calls);
    let was = before.thread(s.at).map(|t| asked(t.calls()));
    if was.is_some_and(|was| left.len() < was.len()) {
        let event_ids = if faults::on(Fault::IdleBeforeState) {
            before.blocked_on()
        } else {
            left
        };
        turn::announce_idle(s, StopReason::RequiresAction { event_ids }, None);
    }
}
