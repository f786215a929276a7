//! A decision becomes a transaction: state, events, records, inbox and run, or none of them.

use std::time::Duration;

use contract::ids::SessionId;
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};
use session::input::Around;
use session::{Command, Decision, Input, State};

use super::fault::is_taken;
use super::row::{json, text};
use super::{
    Cx, Fault, Told, around, grounds, numbers, outcomes, remove, runs, tallies, threads, timeline,
};
use crate::caps::Caps;
use crate::error::{Conflict, Plenty, SubmitError};
use crate::events::Stored;
use crate::faults::{self, Fault as Defect};
use crate::rules::decided::{self, Added, Before, By, Given, Move, Queued};
use crate::rules::outcomes::first;
use crate::rules::told::Note;
use crate::rules::usage::used;
use crate::rules::{int, map_text, status_name, until, within};
use crate::runs::Holder;
use crate::sessions::{Committed, NewSession, Scope, SessionRow};
use crate::timeline::Beside;

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
    let before = load(cx, scope, session)?;
    if matches!(given.input, Input::Command(Command::Update(_))) {
        cx.tell(Note::Updated(session));
    }
    decide(cx, before, given, &by)
}

pub(crate) fn claim(
    cx: &mut Cx<'_>,
    session: SessionId,
    holder: &Holder,
    ttl: Option<Duration>,
    now: Micros,
    entropy: u128,
) -> Told<Committed, SubmitError> {
    let before = load(cx, Scope::Any, session)?;
    if let Some(holder) = runs::holder(cx.conn, before.num, now)?
        && !faults::on(Defect::HolderUnasked)
    {
        return Err(SubmitError::Held { holder }.into());
    }
    let by = By::Claim {
        holder,
        lease_expires_at: until(now, ttl),
    };
    let mut beside = Beside::default();
    beside.marks.extend(runs::queued(cx.conn, before.num, now)?);
    let given = Given {
        input: Input::Claim,
        now,
        entropy,
        beside,
    };
    decide(cx, before, given, &by)
}

/// The session as it was before the input.
fn load(cx: &mut Cx<'_>, scope: Scope, id: SessionId) -> Told<Before, SubmitError> {
    let found = match cx.warm.take(id) {
        None => read(cx.conn, id)?,
        known => known,
    };
    let found = found.filter(|session| within(scope, session.workspace));
    found.ok_or_else(|| SubmitError::NotFound.into())
}

fn read(conn: &Connection, id: SessionId) -> Told<Option<Before>, SubmitError> {
    let sql = "SELECT t.num, t.workspace, st.state, t.agent FROM session_rows t
               CROSS JOIN session_states st ON st.num = t.num WHERE t.id = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement
        .query_row([id.to_string()], |row| {
            Ok(Before {
                num: row.get(0)?,
                workspace: text(row, 1)?,
                agent: row.get(3)?,
                state: json(row, 2)?,
            })
        })
        .optional()?;
    Ok(found)
}

fn decide(
    cx: &mut Cx<'_>,
    before: Before,
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
        let sql = "UPDATE session_rows SET agent_body = ?2 WHERE num = ?1";
        cx.conn
            .prepare_cached(sql)?
            .execute((before.num, agent.get()))?;
    }
    if let Some(profile) = &decision.profile {
        let sql = "UPDATE session_rows SET title = ?2, metadata = ?3 WHERE num = ?1";
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
    move_run(cx, before.num, before.state.is_open(), &decision, by, now)?;
    let owner = (before.workspace, before.agent.as_str());
    if let Some(used) = used(owner, &before.state.totals, &state.totals, now) {
        cx.talk.add(used);
    }
    timeline::put(cx.conn, before.num, state, now, &beside, &decision.waits)?;
    let added = Added::of(&decision)?;
    append(cx.conn, before.num, &decision, &added)?;
    let committed = added.tell(&mut cx.talk, decision);
    let state = committed.state.clone();
    cx.warm.put(state.session, Before { state, ..before });
    Ok(committed)
}

/// Asks the core; a simulation may listen.
fn ask_core(state: &State, mut input: Input, around: Around) -> Result<Decision, session::Refused> {
    #[cfg(feature = "simulation")]
    let (asked, now) = (input.clone(), around.now);
    if faults::on(Defect::StaleTaken)
        && let Input::Fact { generation, .. } = &mut input
    {
        *generation = state.generation;
    }
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
    match decided::move_run(was_open, decision, by) {
        Move::Stay => {}
        Move::Remove => runs::remove(cx, num)?,
        Move::Due => runs::put_due(cx, num, state, now)?,
        Move::Tell => cx.tell(Note::Stop(state.session)),
        Move::Held {
            holder,
            lease_expires_at,
        } => runs::put_held(cx, num, state, holder, lease_expires_at)?,
    }
    Ok(())
}

/// Writes what the decision adds. Those that waited go before others come: a place may be taken again.
fn append(conn: &Connection, num: i64, decision: &Decision, added: &Added) -> rusqlite::Result<()> {
    for id in &decision.drained {
        let sql = "DELETE FROM inbox WHERE session = ?1 AND id = ?2";
        conn.prepare_cached(sql)?
            .execute((num, id.bits().to_be_bytes()))?;
    }
    for event in &added.events {
        insert(conn, num, event)?;
    }
    for waiting in &added.waiting {
        queue(conn, num, waiting)?;
    }
    for record in &decision.records {
        let sql = "INSERT INTO records (session, seq, kind, body) VALUES (?1, ?2, ?3, ?4)";
        let row = (num, int(record.seq), record.kind.name(), record.body.get());
        conn.prepare_cached(sql)?.execute(row)?;
    }
    Ok(())
}

fn insert(conn: &Connection, num: i64, event: &Stored) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events (session, seq, id, thread, on_primary, kind, processed_at, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    conn.prepare_cached(sql)?.execute((
        num,
        event.seq.map(int),
        event.id.bits().to_be_bytes(),
        event.thread.bits().to_be_bytes(),
        event.on_primary,
        &*event.kind,
        event.processed_at.map(|t| t.0),
        &*event.json,
    ))?;
    Ok(())
}

fn queue(conn: &Connection, num: i64, queued: &Queued) -> rusqlite::Result<()> {
    let sql = "INSERT INTO inbox (session, id, thread, kind, event, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Queued { form, stored, .. } = queued;
    conn.prepare_cached(sql)?.execute((
        num,
        stored.id.bits().to_be_bytes(),
        stored.thread.bits().to_be_bytes(),
        &*stored.kind,
        form,
        &*stored.json,
    ))?;
    Ok(())
}

pub(crate) fn create(
    cx: &mut Cx<'_>,
    new: &NewSession,
    caps: Caps,
    now: Micros,
    entropy: u128,
) -> Told<SessionRow> {
    let ground = grounds::join(cx, new)?;
    tallies::take(cx, new.workspace, Plenty::Sessions, caps)?;
    let decision = decided::open(new, now, entropy);
    let outcomes = first(&decision.evaluations);
    #[cfg(feature = "simulation")]
    crate::simulation::tell(|| crate::simulation::Decided::Opened(now, Box::new(decision.clone())));
    let num = insert_session(cx, new, ground, &decision.state, now)?;
    outcomes::put(cx.conn, num, &decision.evaluations)?;
    move_run(cx, num, false, &decision, &By::Client, now)?;
    let added = Added::of(&decision)?;
    append(cx.conn, num, &decision, &added)?;
    let state = added.tell(&mut cx.talk, decision).state;
    Ok(decided::row(new, state, outcomes, now))
}

fn insert_session(
    cx: &mut Cx<'_>,
    new: &NewSession,
    ground: i64,
    state: &State,
    now: Micros,
) -> Told<i64> {
    let num = numbers::next(cx)?;
    let sql = "INSERT INTO session_rows
                 (num, id, workspace, agent, ground, created_at, title, metadata)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let done = cx.conn.prepare_cached(sql)?.execute((
        num,
        state.session.to_string(),
        new.workspace.to_string(),
        new.agent_id.to_string(),
        ground,
        now.0,
        &new.profile.title,
        map_text(&new.profile.metadata)?,
    ));
    match done {
        Err(error) if is_taken(&error) => return Err(Conflict::Exists.into()),
        done => done?,
    };
    let sql = "INSERT INTO session_states (num, generation, status, updated_at, state)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    cx.conn.prepare_cached(sql)?.execute((
        num,
        int(state.generation.0),
        status_name(state.status()),
        now.0,
        serde_json::to_string(state)?,
    ))?;
    Ok(num)
}
