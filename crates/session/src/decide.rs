//! The rules: what an input makes of a session. Here what is not a turn: opening, updates, the end. What
//! a client may send stands in `send`, what a turn does in `turn`, what a runner reports in `report`.

use contract::event::Body;
use contract::ids::ThreadId;
use contract::patch::Patch;

use crate::decision::{Decision, Refused, Webhook};
use crate::faults::{self, Fault};
use crate::input::{Around, Command, Fact, Input, Opening, Profile, Update};
use crate::limits;
use crate::mint::Scribe;
use crate::money::{self, Budget};
use crate::outcome;
use crate::state::{Effort, Generation, Phase, State, Thread, Totals};
use crate::{recover, report, send, team, turn};

/// The first decision of a session: its state, and its first turn if it starts on messages.
#[must_use]
pub fn open(opening: Opening, around: &Around) -> Decision {
    let budget = opening.budget.map_or(Budget::None, |cents| Budget::Limit {
        cents,
        announced: false,
    });
    let state = State {
        session: opening.session,
        primary: Thread {
            id: opening.thread,
            agent_name: opening.agent_name,
            rules: opening.rules,
            phase: Phase::Idle,
            turn: 0,
            interrupting: false,
            effort: Effort::default(),
            waiting: 0,
            totals: Totals::default(),
            crowded: false,
            history_from: 0,
            rest: None,
        },
        children: Vec::new(),
        begun: 0,
        ended_active: 0,
        advising: None,
        archived: false,
        generation: Generation::default(),
        next_seq: 1,
        last_at: around.now,
        waiting: 0,
        waiting_bytes: 0,
        budget,
        totals: Totals::default(),
        outcome: None,
        outcome_waits: false,
        outcomes: 0,
    };
    let mut s = Scribe::new(state, around.now, around.entropy);
    for event in opening.initial {
        send::accept(&mut s, event, around);
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
        Input::Command(Command::Send(events)) => send::send(state, events, &around),
        Input::Command(Command::Update(change)) => update(state, *change, around),
        Input::Command(Command::Archive) => archive(state, &around),
        Input::Command(Command::ArchiveThread(thread)) => archive_thread(state, thread, &around),
        Input::Command(Command::Delete) => delete(state, &around),
        Input::Claim => recover::claim(scribe(state, &around), &around.inbox),
        Input::Fact {
            generation,
            thread,
            fact,
            pace,
        } => {
            let is_fenced = !matches!(*fact, Fact::UsedInside { .. });
            if is_fenced && generation != state.generation && !faults::on(Fault::FenceDropped) {
                return Err(Refused::Stale {
                    given: generation,
                    held: state.generation,
                });
            }
            if state.thread(thread).is_none() {
                return Err(Refused::OutOfPlace {
                    fact: "a fact of a thread that is not there",
                    phase: state.primary.phase.name(),
                });
            }
            let mut s = scribe(state, &around);
            (s.at, s.about) = (thread, thread);
            report::report(s, *fact, &around.inbox, pace)
        }
    }
}

pub(crate) fn scribe(state: &State, around: &Around) -> Scribe {
    Scribe::new(state.clone(), around.now, around.entropy)
}

fn update(state: &State, change: Update, around: Around) -> Result<Decision, Refused> {
    if state.archived {
        return Err(Refused::Archived);
    }
    if change.agent.is_some() && state.is_open() {
        return Err(Refused::Running { what: "update" });
    }
    let mut s = scribe(state, &around);
    let budget = rebudget(&mut s, change.budget)?;
    let before = around.profile;
    let mut profile = before.clone();
    profile.title = change.title.apply(profile.title).filter(|t| !t.is_empty());
    for (key, value) in change.metadata {
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
    let agent = change.agent.map(|agent| {
        s.thread().rules = agent.rules;
        agent.snapshot
    });
    announce(&mut s, &before, profile, agent, budget);
    let threads = state.threads().map(|thread| thread.id);
    for thread in threads.collect::<Vec<_>>() {
        s.on(thread, |s| turn::resume_paused(s, &around.inbox));
    }
    Ok(s.done())
}

/// Applies a change of the cap; what is to be announced of it.
fn rebudget(
    s: &mut Scribe,
    change: Patch<u64>,
) -> Result<Option<Option<contract::session::Budget>>, Refused> {
    let held = s.out.state.budget;
    let (after, shown) = match (held, change) {
        (_, Patch::Absent) | (Budget::None | Budget::Removed, Patch::Null) => return Ok(None),
        (Budget::None | Budget::Removed, Patch::Value(_)) => {
            return Err(Refused::BudgetCreateOnly);
        }
        (Budget::Limit { .. }, Patch::Null) => (Budget::Removed, None),
        (Budget::Limit { cents: held, .. }, Patch::Value(cents)) => {
            if s.out.state.totals.list_cost(s.now).reaches(cents) {
                return Err(Refused::BudgetNotRaised);
            }
            if held == cents {
                return Ok(None);
            }
            let after = Budget::Limit {
                cents,
                announced: false,
            };
            (after, Some(money::limit(cents)))
        }
    };
    s.state().budget = after;
    Ok(Some(shown))
}

/// Tells what changed, and only that.
fn announce(
    s: &mut Scribe,
    before: &Profile,
    after: Profile,
    agent: Option<Box<serde_json::value::RawValue>>,
    budget: Option<Option<contract::session::Budget>>,
) {
    if after == *before && agent.is_none() && budget.is_none() {
        return;
    }
    let title = (after.title != before.title).then(|| after.title.clone());
    let metadata = (after.metadata != before.metadata && !after.metadata.is_empty())
        .then(|| after.metadata.clone());
    s.write(Body::SessionUpdated {
        agent: agent.clone(),
        budget,
        title,
        metadata,
    });
    s.hook(Webhook::Updated);
    s.out.agent = agent;
    if after != *before {
        s.out.profile = Some(after);
    }
}

fn archive(state: &State, around: &Around) -> Result<Decision, Refused> {
    if state.archived {
        return Ok(scribe(state, around).done());
    }
    if state.is_open() {
        return Err(Refused::Running { what: "archive" });
    }
    let mut s = scribe(state, around);
    // What still waits behind unanswered calls keeps its place in history.
    turn::drain(&mut s, &around.inbox);
    outcome::interrupt(&mut s);
    let children = state.children.iter().map(|thread| thread.id);
    for thread in children.collect::<Vec<_>>() {
        s.on(thread, |s| {
            turn::drain(s, &around.inbox);
            team::end(s, true);
        });
    }
    turn::waited(&mut s);
    s.state().archived = true;
    s.thread().phase = Phase::Idle;
    let (agent_name, session_thread_id) = turn::name(&mut s);
    s.write(Body::ThreadStatusTerminated {
        agent_name,
        session_thread_id,
    });
    s.write(Body::StatusTerminated {});
    s.hook(Webhook::StatusTerminated);
    Ok(s.done())
}

/// Ends one thread. One that has ended already is only put away; the store notes when.
fn archive_thread(state: &State, thread: ThreadId, around: &Around) -> Result<Decision, Refused> {
    if thread == state.primary.id {
        return Err(Refused::PrimaryThread);
    }
    let mut s = scribe(state, around);
    match state.thread(thread) {
        None if around.ended => {}
        None => return Err(Refused::NoThread),
        Some(thread) if thread.is_open() => return Err(Refused::ThreadRunning),
        Some(_) => s.on(thread, |s| team::archive(s, &around.inbox)),
    }
    Ok(s.done())
}

fn delete(state: &State, around: &Around) -> Result<Decision, Refused> {
    if state.is_open() {
        return Err(Refused::Running { what: "delete" });
    }
    let mut s = scribe(state, around);
    s.write(Body::SessionDeleted {});
    s.hook(Webhook::Deleted);
    s.out.deleted = true;
    Ok(s.done())
}
