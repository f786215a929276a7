//! A decision becomes a transaction: state, events, records, inbox and run, or none of them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use contract::event::Event;
use contract::ids::SessionId;
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};
use session::input::{Around, Waiting};
use session::{Decision, Input, Intent, Placed, Record, State, UserEvent};

use super::fault::is_taken;
use super::row::{int, json, map_text, text};
use super::sessions::{status_name, within};
use super::{
    Cx, Fault, Note, Told, agents, around, environments, outcomes, remove, runs, tallies, threads,
    timeline, usage, vaults,
};
use crate::caps::Caps;
use crate::error::{Conflict, Plenty, SubmitError};
use crate::events::Stored;
use crate::feed::Item;
use crate::runs::Holder;
use crate::sessions::{Committed, NewSession, Scope, SessionRow};
use crate::timeline::Beside;

/// A session as it was before the input.
struct Before {
    num: i64,
    workspace: String,
    agent: String,
    state: State,
}

/// Whose input it is, for the run.
enum By<'a> {
    Client,
    Runner,
    Claim {
        holder: &'a Holder,
        lease_expires_at: Option<i64>,
    },
}

/// An input with everything around it that its caller brings.
pub(crate) struct Given {
    pub(crate) input: Input,
    pub(crate) now: Micros,
    pub(crate) entropy: u128,
    pub(crate) beside: Beside,
}

pub(crate) fn submit(
    cx: &mut Cx<'_>,
    scope: Scope,
    session: SessionId,
    given: Given,
) -> Told<Committed, SubmitError> {
    let by = match &given.input {
        Input::Command(_) => By::Client,
        Input::Fact { .. } => By::Runner,
        Input::Claim => return Err(Fault::Bad("a claim needs a holder".into())),
    };
    let before = load(cx.conn, scope, session)?;
    decide(cx, &before, given, &by)
}

pub(crate) fn claim(
    cx: &mut Cx<'_>,
    session: SessionId,
    holder: &Holder,
    ttl: Option<Duration>,
    now: Micros,
    entropy: u128,
) -> Told<Committed, SubmitError> {
    let before = load(cx.conn, Scope::Any, session)?;
    if let Some(holder) = runs::holder(cx.conn, before.num, now)? {
        return Err(SubmitError::Held { holder }.into());
    }
    let by = By::Claim {
        holder,
        lease_expires_at: runs::until(now, ttl),
    };
    let mut beside = Beside::default();
    beside.marks.extend(runs::queued(cx.conn, before.num, now)?);
    let given = Given {
        input: Input::Claim,
        now,
        entropy,
        beside,
    };
    decide(cx, &before, given, &by)
}

fn load(conn: &Connection, scope: Scope, id: SessionId) -> Told<Before, SubmitError> {
    let sql = "SELECT t.num, t.workspace, st.state, t.agent FROM sessions t
               CROSS JOIN session_states st ON st.num = t.num WHERE t.id = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement
        .query_row([id.to_string()], |row| {
            let before = Before {
                num: row.get(0)?,
                workspace: row.get(1)?,
                agent: row.get(3)?,
                state: json(row, 2)?,
            };
            Ok((text(row, 1)?, before))
        })
        .optional()?;
    match found {
        Some((workspace, before)) if within(scope, workspace) => Ok(before),
        Some(_) | None => Err(SubmitError::NotFound.into()),
    }
}

fn decide(
    cx: &mut Cx<'_>,
    before: &Before,
    given: Given,
    by: &By<'_>,
) -> Told<Committed, SubmitError> {
    let Given {
        input,
        now,
        entropy,
        beside,
    } = given;
    let needs = input.needs(&before.state);
    let around = Around {
        now,
        entropy,
        ..around::around(cx.conn, before.num, &needs)?
    };
    let decision = ask_core(&before.state, input, around)
        .map_err(|refused| Fault::Told(SubmitError::Refused(refused)))?;
    if decision.deleted {
        return remove::delete(cx, before.num, decision);
    }
    let was_archived = before.state.archived;
    let sql = "UPDATE session_states SET generation = ?3, status = ?4, updated_at = ?5, state = ?6,
                 archived_at = CASE WHEN ?7 THEN ?5 ELSE archived_at END
               WHERE num = ?1 AND generation = ?2";
    let state = &decision.state;
    let updated = cx.conn.prepare_cached(sql)?.execute((
        before.num,
        int(before.state.generation.0),
        int(state.generation.0),
        status_name(state.status()),
        now.0,
        serde_json::to_string(state)?,
        state.archived && !was_archived,
    ))?;
    assert!(updated == 1, "the state's generation and its column differ");
    if let Some(agent) = &decision.agent {
        let sql = "UPDATE sessions SET agent_body = ?2 WHERE num = ?1";
        cx.conn
            .prepare_cached(sql)?
            .execute((before.num, agent.get()))?;
    }
    if let Some(profile) = &decision.profile {
        let sql = "UPDATE sessions SET title = ?2, metadata = ?3 WHERE num = ?1";
        let metadata = map_text(&profile.metadata)?;
        cx.conn
            .prepare_cached(sql)?
            .execute((before.num, &profile.title, metadata))?;
    }
    outcomes::put(cx.conn, before.num, &decision.evaluations)?;
    threads::put(cx.conn, before.num, &before.state, &decision, now)?;
    if let Some(thread) = needs.thread {
        threads::put_away(cx.conn, before.num, thread, now)?;
    }
    let was_open = before.state.is_open();
    move_run(cx, before.num, was_open, &decision, by, now)?;
    let owner = (before.workspace.as_str(), before.agent.as_str());
    usage::add(cx.conn, owner, &before.state.totals, &state.totals, now)?;
    timeline::put(cx.conn, before.num, state, now, &beside, &decision.waits)?;
    append(cx, before.num, decision)
}

/// Asks the core; a simulation may listen.
fn ask_core(state: &State, input: Input, around: Around) -> Result<Decision, session::Refused> {
    #[cfg(feature = "simulation")]
    let (asked, now) = (input.clone(), around.now);
    let decided = session::decide(state, input, around);
    #[cfg(feature = "simulation")]
    crate::simulation::tell(|| crate::simulation::Decided::Input {
        before: Box::new(state.clone()),
        input: Box::new(asked),
        now,
        decided: decided.clone().map(Box::new),
    });
    decided
}

/// Keeps the run in step with the state.
fn move_run(
    cx: &mut Cx<'_>,
    num: i64,
    was_open: bool,
    decision: &Decision,
    by: &By<'_>,
    now: Micros,
) -> rusqlite::Result<()> {
    let state = &decision.state;
    if !state.is_open() {
        return if was_open {
            runs::remove(cx, num)
        } else {
            Ok(())
        };
    }
    // What is in flight somebody holds; a turn that was opened or put down, and nothing else goes on, belongs to
    // nobody.
    let held = state.is_in_flight();
    let anew = !was_open || decision.intents.contains(&Intent::Run);
    match by {
        By::Client if anew && held => {
            // Whoever holds the session takes it up.
            cx.tell(Note::Stop(state.session));
            Ok(())
        }
        By::Client if anew => runs::put_due(cx, num, state, now),
        By::Client => Ok(()),
        By::Runner if held => Ok(()),
        By::Claim {
            holder,
            lease_expires_at,
        } if held => runs::put_held(cx, num, state, holder, *lease_expires_at),
        By::Runner | By::Claim { .. } => runs::put_due(cx, num, state, now),
    }
}

/// Writes what the decision adds and has it told.
fn append<E>(cx: &mut Cx<'_>, num: i64, decision: Decision) -> Told<Committed, E> {
    for id in &decision.drained {
        let sql = "DELETE FROM inbox WHERE session = ?1 AND id = ?2";
        cx.conn
            .prepare_cached(sql)?
            .execute((num, id.bits().to_be_bytes()))?;
    }
    let mut items = Vec::with_capacity(decision.events.len() + decision.queued.len());
    let mut events = Vec::with_capacity(decision.events.len());
    for placed in &decision.events {
        let stored = Arc::new(stored(placed)?);
        insert(cx, num, &stored)?;
        items.push(Item::Event(Arc::clone(&stored)));
        events.push(stored);
    }
    for waiting in decision.queued {
        // What one thread says to another is nobody's but theirs before it has its place.
        let private = matches!(waiting.event, UserEvent::Thread { .. });
        let stored = queue(cx, num, waiting)?;
        if !private {
            items.push(Item::Announced(Arc::new(stored)));
        }
    }
    for record in &decision.records {
        insert_record(cx, num, record)?;
    }
    let session = decision.state.session;
    if !items.is_empty() {
        cx.tell(Note::Items(session, items));
    }
    if decision.intents.contains(&Intent::Stop) {
        cx.tell(Note::Stop(session));
    }
    Ok(Committed {
        session,
        state: decision.state,
        events,
        echo: decision.echo,
        step: decision.step,
        others: decision.others,
        commit: 0,
    })
}

pub(crate) fn stored(placed: &Placed) -> Result<Stored, serde_json::Error> {
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

fn insert(cx: &mut Cx<'_>, num: i64, event: &Stored) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events (session, seq, id, thread, on_primary, kind, processed_at, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    cx.conn.prepare_cached(sql)?.execute((
        num,
        event.seq.map(int),
        event.id.bits().to_be_bytes(),
        event.thread.bits().to_be_bytes(),
        event.on_primary,
        &*event.kind,
        event.processed_at.map(|t| t.0),
        &*event.json,
    ))?;
    cx.bytes += event.json.len();
    cx.events += 1;
    Ok(())
}

fn insert_record(cx: &mut Cx<'_>, num: i64, record: &Record) -> rusqlite::Result<()> {
    let sql = "INSERT INTO records (session, seq, kind, body) VALUES (?1, ?2, ?3, ?4)";
    let row = (num, int(record.seq), record.kind.name(), record.body.get());
    cx.conn.prepare_cached(sql)?.execute(row)?;
    cx.bytes += record.body.get().len();
    Ok(())
}

fn queue<E>(cx: &mut Cx<'_>, num: i64, waiting: Waiting) -> Told<Stored, E> {
    let form = serde_json::to_string(&waiting.event)?;
    let body = waiting.event.body();
    let kind = body.kind();
    let event = Event {
        id: waiting.id,
        processed_at: None,
        body,
    };
    let json: Arc<str> = Arc::from(serde_json::to_string(&event)?);
    let thread = waiting.thread;
    let sql = "INSERT INTO inbox (session, id, thread, kind, event, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (id, of) = (waiting.id.bits().to_be_bytes(), thread.bits().to_be_bytes());
    cx.conn
        .prepare_cached(sql)?
        .execute((num, id, of, kind, form, &*json))?;
    cx.bytes += 2 * json.len();
    Ok(Stored {
        seq: None,
        thread,
        on_primary: true,
        id: waiting.id,
        kind: Cow::Borrowed(kind),
        processed_at: None,
        json,
    })
}

pub(crate) fn create(
    cx: &mut Cx<'_>,
    new: NewSession,
    caps: Caps,
    now: Micros,
    entropy: u128,
) -> Told<SessionRow> {
    agents::check(cx.conn, new.workspace, new.agent_id, new.agent_version)?;
    environments::check(cx.conn, new.workspace, new.environment_id)?;
    for vault in &new.vault_ids {
        vaults::active(cx.conn, new.workspace, *vault)?;
    }
    tallies::take(cx, new.workspace, Plenty::Sessions, caps)?;
    let around = Around {
        now,
        entropy,
        ..Around::default()
    };
    let decision = session::open(new.opening, &around);
    #[cfg(feature = "simulation")]
    crate::simulation::tell(|| crate::simulation::Decided::Opened(now, Box::new(decision.clone())));
    let row = SessionRow {
        id: decision.state.session,
        workspace: new.workspace,
        agent_id: new.agent_id,
        agent_version: new.agent_version,
        agent: new.agent,
        environment_id: new.environment_id,
        environment: new.environment,
        vault_ids: new.vault_ids,
        profile: new.profile,
        state: decision.state.clone(),
        created_at: now,
        updated_at: now,
        archived_at: None,
        outcomes: outcomes::first(&decision.evaluations),
    };
    let num = insert_session(cx.conn, &row)?;
    outcomes::put(cx.conn, num, &decision.evaluations)?;
    move_run(cx, num, false, &decision, &By::Client, now)?;
    append::<crate::error::Error>(cx, num, decision)?;
    Ok(row)
}

fn insert_session(conn: &Connection, row: &SessionRow) -> Told<i64> {
    let sql = "INSERT INTO sessions (id, workspace, agent, agent_version, environment, created_at,
                 title, metadata, vaults, agent_body, environment_body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let done = conn.prepare_cached(sql)?.execute((
        row.id.to_string(),
        row.workspace.to_string(),
        row.agent_id.to_string(),
        row.agent_version,
        row.environment_id.to_string(),
        row.created_at.0,
        &row.profile.title,
        map_text(&row.profile.metadata)?,
        serde_json::to_string(&row.vault_ids)?,
        row.agent.get(),
        row.environment.get(),
    ));
    match done {
        Err(error) if is_taken(&error) => return Err(Conflict::Exists.into()),
        done => done?,
    };
    let num = conn.last_insert_rowid();
    let sql = "INSERT INTO session_states (num, generation, status, updated_at, state)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    conn.prepare_cached(sql)?.execute((
        num,
        int(row.state.generation.0),
        status_name(row.state.status()),
        row.updated_at.0,
        serde_json::to_string(&row.state)?,
    ))?;
    Ok(num)
}
