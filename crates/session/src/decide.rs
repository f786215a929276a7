//! The rules: what an input makes of a session. Commands stand here; what a turn does stands in `turn`.

use std::collections::BTreeMap;

use contract::event::{Body, Event, StopReason};
use contract::ids::EventId;
use contract::patch::Patch;

use crate::decision::{Decision, Refused};
use crate::input::{Around, Command, Fact, Input, Opening, UserEvent, Waiting};
use crate::limits;
use crate::mint::Scribe;
use crate::state::{CallKind, Generation, Phase, Stage, State, Totals};
use crate::{recover, turn};

/// The first decision of a session: its state, and its first turn if it starts on messages.
#[must_use]
pub fn open(opening: Opening, around: &Around) -> Decision {
    let state = State {
        session: opening.session,
        thread: opening.thread,
        agent_name: opening.agent_name,
        rules: opening.rules,
        phase: Phase::Idle {
            blocked: Vec::new(),
        },
        archived: false,
        generation: Generation::default(),
        next_seq: 1,
        last_at: around.now,
        waiting: 0,
        interrupting: false,
        rounds: 0,
        recoveries: 0,
        totals: Totals::default(),
    };
    let mut s = Scribe::new(state, around.now, around.entropy);
    for event in opening.initial {
        accept(&mut s, event, &[]);
    }
    s.done()
}

/// Decides one input on one state.
///
/// # Errors
/// [`Refused`], and then nothing changed. A refused fact means that its runner must stop.
pub fn decide(state: &State, input: Input, around: Around) -> Result<Decision, Refused> {
    state.check();
    match input {
        Input::Command(Command::Send(events)) => send(state, events, &around),
        Input::Command(Command::Update { title, metadata }) => {
            update(state, title, metadata, around)
        }
        Input::Command(Command::Archive) => archive(state, &around),
        Input::Command(Command::Delete) => delete(state, &around),
        Input::Claim => recover::claim(scribe(state, &around), &around.inbox),
        Input::Fact {
            generation,
            fact,
            pace,
        } => {
            if generation != state.generation {
                return Err(Refused::Stale {
                    given: generation,
                    held: state.generation,
                });
            }
            let s = scribe(state, &around);
            match *fact {
                Fact::Replied {
                    thinking,
                    message,
                    calls,
                    record,
                    usage,
                    cache_1h,
                    end,
                } => {
                    let reply = turn::Reply {
                        thinking,
                        message,
                        calls,
                        record,
                        usage,
                        cache_1h,
                        end,
                    };
                    turn::replied(s, reply, &around.inbox, pace)
                }
                Fact::RequestFailed {
                    kind,
                    message,
                    usage,
                } => turn::request_failed(s, kind, message, &usage, &around.inbox),
                Fact::Finished {
                    call,
                    content,
                    is_error,
                } => turn::finished(s, call, content, is_error, &around.inbox, pace),
                Fact::Interrupted { usage } => turn::interrupted(s, &usage, &around.inbox),
            }
        }
    }
}

fn scribe(state: &State, around: &Around) -> Scribe {
    Scribe::new(state.clone(), around.now, around.entropy)
}

fn send(state: &State, events: Vec<UserEvent>, around: &Around) -> Result<Decision, Refused> {
    if state.archived {
        return Err(Refused::Archived);
    }
    admit(state, &events, around)?;
    let mut s = scribe(state, around);
    for event in events {
        accept(&mut s, event, &around.inbox);
    }
    turn::after_send(&mut s, state, &around.inbox);
    Ok(s.done())
}

/// Judges the whole batch before any of it is accepted: it is taken whole or refused whole.
fn admit(state: &State, events: &[UserEvent], around: &Around) -> Result<(), Refused> {
    let blocked = state.blocked_on();
    let freed = events
        .iter()
        .any(|e| matches!(e, UserEvent::Interrupt { .. }))
        || blocked.iter().all(|id| answers(events, *id));
    let (mut queued, mut interrupts) = (0u32, 0u32);
    for (index, event) in events.iter().enumerate() {
        match event {
            UserEvent::Message { .. } if !blocked.is_empty() && !freed => {
                return Err(Refused::WaitingOn {
                    index,
                    kind: event.kind(),
                    waiting_on: blocked,
                });
            }
            UserEvent::Message { .. } => queued += 1,
            UserEvent::Interrupt {
                thread: Some(thread),
            } if *thread != state.thread => {
                return Err(Refused::UnknownThread {
                    index,
                    thread: *thread,
                });
            }
            UserEvent::Interrupt { .. } => interrupts += 1,
            UserEvent::CustomToolResult { call, .. } => {
                if !around.custom_calls.contains(call) {
                    return Err(Refused::UnknownCall { index, id: *call });
                }
            }
        }
    }
    // A full inbox must not keep its client from stopping the session: interrupts have room of their own.
    let limit = if queued > 0 {
        limits::INBOX
    } else {
        limits::INBOX + limits::INTERRUPTS
    };
    if state.is_running() && queued + interrupts > 0 && state.waiting + queued + interrupts > limit
    {
        return Err(Refused::InboxFull { limit });
    }
    Ok(())
}

fn answers(events: &[UserEvent], id: EventId) -> bool {
    events
        .iter()
        .any(|e| matches!(e, UserEvent::CustomToolResult { call, .. } if *call == id))
}

/// Accepts one event of a batch that was admitted.
fn accept(s: &mut Scribe, event: UserEvent, inbox: &[Waiting]) {
    let id = s.id();
    match event {
        UserEvent::CustomToolResult { call, .. } => answer(s, id, call, event),
        UserEvent::Interrupt { .. } => interrupt(s, id, event, inbox),
        UserEvent::Message { .. } => {
            // A turn that this very batch opened has no runner yet: the message takes its place.
            let opened_here = turn::opened_in(s);
            if s.state().is_running() && !opened_here {
                queue(s, id, event);
            } else {
                if !opened_here {
                    turn::start(s);
                    // Older input that waited behind unanswered calls comes first.
                    turn::drain(s, inbox);
                }
                let body = event.body();
                s.out.echo.push(Event {
                    id,
                    processed_at: None,
                    body: body.clone(),
                });
                s.place(id, body);
            }
        }
    }
}

fn queue(s: &mut Scribe, id: EventId, event: UserEvent) {
    s.state().waiting += 1;
    s.out.echo.push(Event {
        id,
        processed_at: None,
        body: event.clone().body(),
    });
    s.out.queued.push(Waiting { id, event });
}

/// Places an event that needs nobody to take it; its echo already carries the time.
fn place_now(s: &mut Scribe, id: EventId, event: UserEvent) {
    s.place(id, event.body());
    if let Some(placed) = s.out.events.last() {
        let echo = placed.event.clone();
        s.out.echo.push(echo);
    }
}

fn answer(s: &mut Scribe, id: EventId, call: EventId, event: UserEvent) {
    place_now(s, id, event);
    let open = match &mut s.state().phase {
        Phase::Idle { blocked: calls } | Phase::Acting { calls } => calls
            .iter_mut()
            .find(|c| c.id == call && c.kind == CallKind::Custom && c.stage == Stage::Waiting),
        Phase::Due | Phase::Requesting { .. } => None,
    };
    if let Some(open) = open {
        open.stage = Stage::Done;
    }
}

fn interrupt(s: &mut Scribe, id: EventId, event: UserEvent, inbox: &[Waiting]) {
    match &s.state().phase {
        Phase::Requesting { .. } | Phase::Acting { .. } => {
            // A runner may be at work: it stops first, then reports.
            queue(s, id, event);
            s.state().interrupting = true;
            s.intend(crate::decision::Intent::Stop);
        }
        Phase::Due | Phase::Idle { .. } => {
            place_now(s, id, event);
            turn::stop_unattended(s, inbox);
        }
    }
}

fn update(
    state: &State,
    title: Patch<String>,
    metadata: BTreeMap<String, Option<String>>,
    around: Around,
) -> Result<Decision, Refused> {
    if state.archived {
        return Err(Refused::Archived);
    }
    let mut s = scribe(state, &around);
    let mut profile = around.profile.clone();
    profile.title = title.apply(profile.title).filter(|t| !t.is_empty());
    for (key, value) in metadata {
        match value {
            Some(value) => profile.metadata.insert(key, value),
            None => profile.metadata.remove(&key),
        };
    }
    // The edge checked against what it had read; two updates at once are checked here.
    if profile.metadata.len() > limits::METADATA_PAIRS {
        return Err(Refused::TooManyPairs {
            limit: limits::METADATA_PAIRS,
        });
    }
    if profile != around.profile {
        let title = (profile.title != around.profile.title).then(|| profile.title.clone());
        let metadata = (profile.metadata != around.profile.metadata
            && !profile.metadata.is_empty())
        .then(|| profile.metadata.clone());
        s.write(Body::SessionUpdated { title, metadata });
        s.out.profile = Some(profile);
    }
    Ok(s.done())
}

fn archive(state: &State, around: &Around) -> Result<Decision, Refused> {
    if state.archived {
        return Ok(scribe(state, around).done());
    }
    if state.is_running() {
        return Err(Refused::Running { what: "archive" });
    }
    let mut s = scribe(state, around);
    // What still waits behind unanswered calls keeps its place in history.
    turn::drain(&mut s, &around.inbox);
    s.state().archived = true;
    s.state().phase = Phase::Idle {
        blocked: Vec::new(),
    };
    let (agent_name, session_thread_id) = turn::name(&s);
    s.write(Body::ThreadStatusTerminated {
        agent_name,
        session_thread_id,
    });
    s.write(Body::StatusTerminated {});
    Ok(s.done())
}

fn delete(state: &State, around: &Around) -> Result<Decision, Refused> {
    if state.is_running() {
        return Err(Refused::Running { what: "delete" });
    }
    let mut s = scribe(state, around);
    s.write(Body::SessionDeleted {});
    s.out.deleted = true;
    Ok(s.done())
}

/// The stop reason of a turn that has nothing left to do.
pub(crate) fn end_turn() -> StopReason {
    StopReason::EndTurn {}
}
