//! What a decision of the core becomes: rows of the log and of what waits, a place for the run, and what is told.
//! The back ends write it; what is written does not depend on which.

use std::borrow::Cow;
use std::sync::Arc;

use contract::event::Event;
use contract::ids::WorkspaceId;
use contract::time::Micros;
use session::input::{Around, Waiting};
use session::{Decision, Input, Intent, Placed, State, UserEvent};

use super::told::{Note, Talk};
use crate::events::Stored;
use crate::feed::Item;
use crate::runs::Holder;
use crate::sessions::{Committed, NewSession, OutcomeRow, SessionRow};
use crate::timeline::Beside;

/// An input with everything around it that its caller brings.
pub(crate) struct Given {
    pub(crate) input: Input,
    pub(crate) now: Micros,
    pub(crate) entropy: u128,
    pub(crate) beside: Beside,
}

/// A session as it was before the input.
pub(crate) struct Before {
    /// What names it inside the database.
    pub(crate) num: i64,
    pub(crate) workspace: WorkspaceId,
    /// The agent it was made from.
    pub(crate) agent: String,
    pub(crate) state: State,
}

/// Whose input it is, for the run.
pub(crate) enum By<'a> {
    Client,
    Runner,
    Claim {
        holder: &'a Holder,
        lease_expires_at: Option<i64>,
    },
}

/// What becomes of the row of a run, so that it stays in step with the state.
pub(crate) enum Move<'a> {
    /// Nothing.
    Stay,
    /// There is no open turn any more.
    Remove,
    /// It is due for anyone, who is woken.
    Due,
    /// Whoever holds the session takes up what was opened: it is told.
    Tell,
    /// It is held.
    Held {
        holder: &'a Holder,
        lease_expires_at: Option<i64>,
    },
}

/// Keeps the run in step with the state.
pub(crate) fn move_run<'a>(was_open: bool, decision: &Decision, by: &By<'a>) -> Move<'a> {
    let state = &decision.state;
    if !state.is_open() {
        return if was_open { Move::Remove } else { Move::Stay };
    }
    // What is in flight somebody holds; a turn that was opened or put down, and nothing else goes on, belongs to
    // nobody.
    let held = state.is_in_flight();
    let anew = !was_open || decision.intents.contains(&Intent::Run);
    match *by {
        By::Client if anew && held => Move::Tell,
        By::Client if anew => Move::Due,
        By::Client => Move::Stay,
        By::Runner if held => Move::Stay,
        By::Claim {
            holder,
            lease_expires_at,
        } if held => Move::Held {
            holder,
            lease_expires_at,
        },
        By::Runner | By::Claim { .. } => Move::Due,
    }
}

/// What a decision adds to the log and to what waits, in the form in which it is stored.
pub(crate) struct Added {
    pub(crate) events: Vec<Arc<Stored>>,
    pub(crate) waiting: Vec<Queued>,
}

/// An event that waits.
pub(crate) struct Queued {
    /// The core's form.
    pub(crate) form: String,
    pub(crate) stored: Stored,
    /// What one thread says to another is nobody's but theirs before it has its place.
    private: bool,
}

impl Added {
    pub(crate) fn of(decision: &Decision) -> Result<Self, serde_json::Error> {
        let events = decision.events.iter();
        let events = events.map(|placed| stored(placed).map(Arc::new));
        let waiting = decision.queued.iter().map(queued);
        Ok(Self {
            events: events.collect::<Result<_, _>>()?,
            waiting: waiting.collect::<Result<_, _>>()?,
        })
    }

    /// Has it told and counted, once it is written.
    pub(crate) fn tell(self, talk: &mut Talk, decision: Decision) -> Committed {
        let mut items = Vec::with_capacity(self.events.len() + self.waiting.len());
        for event in &self.events {
            talk.bytes += event.json.len();
            talk.events += 1;
            items.push(Item::Event(Arc::clone(event)));
        }
        for Queued {
            stored, private, ..
        } in self.waiting
        {
            talk.bytes += 2 * stored.json.len();
            if !private {
                items.push(Item::Announced(Arc::new(stored)));
            }
        }
        let records = decision.records.iter().map(|r| r.body.get().len());
        talk.bytes += records.sum::<usize>();
        let session = decision.state.session;
        if !items.is_empty() {
            talk.tell(Note::Items(session, items));
        }
        if decision.intents.contains(&Intent::Stop) {
            talk.tell(Note::Stop(session));
        }
        committed(decision, self.events)
    }
}

/// Has a deletion told, once it is written: the last events, and the end.
pub(crate) fn tell_deleted(
    talk: &mut Talk,
    decision: Decision,
) -> Result<Committed, serde_json::Error> {
    let events = decision.events.iter();
    let events = events.map(|placed| stored(placed).map(Arc::new));
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let session = decision.state.session;
    let items = events.iter().map(|e| Item::Event(Arc::clone(e))).collect();
    talk.tell(Note::Items(session, items));
    talk.tell(Note::End(session));
    talk.tell(Note::Trash);
    Ok(committed(decision, events))
}

fn committed(decision: Decision, events: Vec<Arc<Stored>>) -> Committed {
    Committed {
        session: decision.state.session,
        state: decision.state,
        events,
        echo: decision.echo,
        step: decision.step,
        others: decision.others,
        commit: 0,
    }
}

fn stored(placed: &Placed) -> Result<Stored, serde_json::Error> {
    Ok(Stored {
        seq: Some(placed.seq),
        thread: placed.thread,
        on_primary: placed.on_primary,
        id: placed.event.id,
        kind: Cow::Borrowed(placed.event.body.kind()),
        processed_at: placed.event.processed_at,
        json: Arc::from(serde_json::to_string(&placed.event)?),
    })
}

fn queued(waiting: &Waiting) -> Result<Queued, serde_json::Error> {
    let body = waiting.event.clone().body();
    let kind = body.kind();
    let event = Event {
        id: waiting.id,
        processed_at: None,
        body,
    };
    Ok(Queued {
        form: serde_json::to_string(&waiting.event)?,
        private: matches!(waiting.event, UserEvent::Thread { .. }),
        stored: Stored {
            seq: None,
            thread: waiting.thread,
            on_primary: true,
            id: waiting.id,
            kind: Cow::Borrowed(kind),
            processed_at: None,
            json: Arc::from(serde_json::to_string(&event)?),
        },
    })
}

/// What the first decision of a new session adds.
pub(crate) fn open(new: &NewSession, now: Micros, entropy: u128) -> Decision {
    let around = Around {
        now,
        entropy,
        ..Around::default()
    };
    session::open(new.opening.clone(), &around)
}

/// A session that was made of `new`, as it is read from then on.
pub(crate) fn row(
    new: &NewSession,
    state: State,
    outcomes: Vec<OutcomeRow>,
    now: Micros,
) -> SessionRow {
    SessionRow {
        id: state.session,
        workspace: new.workspace,
        agent_id: new.agent_id,
        agent_version: new.agent_version,
        agent: Arc::clone(&new.agent),
        environment_id: new.environment_id,
        environment: Arc::clone(&new.environment),
        vault_ids: new.vault_ids.clone(),
        profile: new.profile.clone(),
        state,
        created_at: now,
        updated_at: now,
        archived_at: None,
        outcomes,
    }
}
