//! What a client may send to a session in each of its states, and what that makes of it. A batch is
//! judged before any of it is accepted: it is taken whole or refused whole.

use std::collections::BTreeSet;

use contract::client_event::Confirmation;
use contract::event::{Body, Event, StopReason};
use contract::ids::EventId;

use crate::decide::scribe;
use crate::decision::{Decision, Intent, Refused, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Around, Called, UserEvent, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::outcome;
use crate::state::{CallKind, Phase, Stage, State};
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
        accept(&mut s, event, &around.inbox);
    }
    settle(&mut s, state, &around.inbox);
    Ok(s.done())
}

fn admit(state: &State, events: &[UserEvent], around: &Around) -> Result<(), Refused> {
    let blocked = state.blocked_on();
    let interrupts = |e: &UserEvent| matches!(e, UserEvent::Interrupt { .. });
    let freed = events.iter().any(interrupts)
        || blocked
            .iter()
            .all(|id| events.iter().any(|e| e.answers() == Some(*id)));
    // Time in which nothing was heard of an open turn may prove to be waiting, in the queue or for a server that
    // was down, and is given back when the turn is claimed: it refuses nobody.
    let spent = state.is_spent(state.last_at.min(around.now));
    let mut confirmed = BTreeSet::new();
    let (mut stopped, mut defined) = (false, false);
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
            UserEvent::Message { .. } => {}
            UserEvent::Outcome { .. } => {
                let behind = stopped || state.primary.interrupting;
                outcome::admit(state, index, behind, defined)?;
                defined = true;
            }
            UserEvent::Interrupt { thread } => {
                stopped = true;
                if let Some(thread) = thread.filter(|id| state.thread(*id).is_none()) {
                    return Err(Refused::UnknownThread { index, thread });
                }
            }
            UserEvent::CustomToolResult { call, .. } => {
                if around.calls.get(call) != Some(&Called::Custom) {
                    return Err(Refused::UnknownCall {
                        index,
                        field: "custom_tool_use_id",
                        wanted: "agent.custom_tool_use",
                        id: *call,
                    });
                }
            }
            UserEvent::ToolConfirmation { call, .. } => {
                admit_confirmation(state, around, index, *call)?;
                // An interrupt ahead of it, in the same batch or waiting, has closed the call.
                if stopped || state.primary.interrupting || !confirmed.insert(*call) {
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
    let blocked = state.blocked_on();
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

fn admit_confirmation(
    state: &State,
    around: &Around,
    index: usize,
    id: EventId,
) -> Result<(), Refused> {
    match around.calls.get(&id) {
        Some(Called::Tool { permission }) if *permission != contract::event::Permission::Ask => {
            return Err(Refused::NotAsked { index, id });
        }
        Some(Called::Tool { .. }) => {}
        Some(Called::Custom) | None => {
            return Err(Refused::UnknownCall {
                index,
                field: "tool_use_id",
                wanted: "agent.tool_use",
                id,
            });
        }
    }
    let mut calls = state.primary.calls().iter();
    if calls.any(|call| call.id == id && call.stage == Stage::Asked) {
        Ok(())
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
pub(crate) fn accept(s: &mut Scribe, event: UserEvent, inbox: &[Waiting]) {
    let id = s.id();
    match event {
        UserEvent::CustomToolResult { call, .. } => {
            // Taken on receipt: its echo already carries the time.
            s.place(id, event.body());
            if let Some(placed) = s.out.events.last() {
                let echo = placed.event.clone();
                s.out.echo.push(echo);
            }
            answer(s, call, CallKind::Custom, Stage::Done);
        }
        UserEvent::ToolConfirmation {
            call,
            result,
            ref deny_message,
        } => {
            let stage = match result {
                Confirmation::Allow => Stage::Ready,
                Confirmation::Deny => Stage::Denied {
                    message: deny_message.clone(),
                },
            };
            place(s, id, event);
            answer(s, call, CallKind::Sandbox, stage);
        }
        UserEvent::Interrupt { .. } => interrupt(s, id, event, inbox),
        UserEvent::Message { .. } | UserEvent::System { .. } => say(s, id, event, inbox),
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

/// Something for the model: it opens a turn, joins the one that this batch opened, or waits.
fn say(s: &mut Scribe, id: EventId, event: UserEvent, inbox: &[Waiting]) {
    turn::resume_answered(s, inbox);
    if s.thread().phase == Phase::Idle && !s.out.state.is_spent(s.now) {
        turn::start(s);
        // Older input that waited behind unanswered calls comes first.
        turn::drain(s, inbox);
    }
    // A turn that this very batch opened has no runner yet: what is said takes its place.
    if !turn::opened_here(s) {
        queue(s, id, event);
    } else if let UserEvent::Outcome { .. } = event {
        // Its echo carries the time.
        s.place(id, event.clone().body());
        if let Some(placed) = s.out.events.last() {
            let echo = placed.event.clone();
            s.out.echo.push(echo);
        }
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
    s.state().waiting += 1;
    s.state().waiting_bytes += event.bytes();
    s.out.queued.push(Waiting { id, event });
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

fn interrupt(s: &mut Scribe, id: EventId, event: UserEvent, inbox: &[Waiting]) {
    let spent = s.out.state.is_spent(s.now);
    match s.thread().phase {
        Phase::Requesting { .. }
        | Phase::Compacting { .. }
        | Phase::Grading { .. }
        | Phase::Acting { .. } => {
            // A runner may be at work: it stops first, then reports.
            queue(s, id, event);
            s.thread().interrupting = true;
            s.intend(Intent::Stop);
        }
        // Nothing runs, and nothing would before the budget is raised: accepted, and not even listed.
        Phase::Paused => echo(s, id, event.body()),
        Phase::Idle if spent => echo(s, id, event.body()),
        Phase::Due | Phase::Retrying { .. } | Phase::Blocked { .. } | Phase::Idle => {
            s.place(id, event.body());
            if let Some(placed) = s.out.events.last() {
                let echo = placed.event.clone();
                s.out.echo.push(echo);
            }
            turn::stop_unattended(s, inbox);
        }
    }
}

/// Settles a batch: answers may have freed a blocked session, in part or whole.
fn settle(s: &mut Scribe, before: &State, inbox: &[Waiting]) {
    turn::resume_answered(s, inbox);
    if let Phase::Blocked { calls } = &mut s.thread().phase {
        calls.retain(|call| call.stage != Stage::Done);
    }
    let left = s.out.state.blocked_on();
    if !left.is_empty() {
        if left.len() < before.blocked_on().len() {
            let event_ids = if faults::on(Fault::IdleBeforeState) {
                before.blocked_on()
            } else {
                left
            };
            turn::announce_idle(s, StopReason::RequiresAction { event_ids }, None);
        }
        return;
    }
    let late = |e: &Event| matches!(e.body, Body::UserCustomToolResult { .. });
    if before.primary.phase == Phase::Idle
        && s.thread().phase == Phase::Idle
        && s.out.echo.iter().any(late)
    {
        // Recorded: an answer after completion is accepted and makes an empty cycle.
        s.hook(Webhook::StatusRunStarted);
        turn::announce_running(s);
        turn::announce_idle(s, StopReason::EndTurn {}, None);
    }
}
