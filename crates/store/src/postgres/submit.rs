//! A decision becomes a transaction: state, events, records, inbox and run, or none of them. Whoever decides
//! locks the session's state first, so that replicas decide one after the other; what a stale generation
//! brings is refused by the core, on the state that was locked.

use std::time::Duration;

use contract::ids::{SessionId, ThreadId};
use contract::time::Micros;
use futures_util::future::try_join_all;
use session::input::Around;
use session::{Command, Decision, Input, Record, State};

use super::fault::{Read, is_taken};
use super::row::{get, json, text};
use super::value::values;
use super::{
    Conn, Cx, Fault, Told, agents, around, environments, outcomes, remove, runs, tallies, threads,
    timeline, vaults,
};
use crate::caps::Caps;
use crate::error::{Conflict, Plenty, SubmitError};
use crate::events::Stored;
use crate::rules::decided::{self, Added, Before, By, Given, Move, Queued};
use crate::rules::outcomes::first;
use crate::rules::told::Note;
use crate::rules::usage::used;
use crate::rules::{int, map_text, status_name, until, within};
use crate::runs::Holder;
use crate::sessions::{Committed, NewSession, Scope, SessionRow};
use crate::timeline::Beside;

pub(crate) async fn submit(
    cx: &mut Cx,
    scope: Scope,
    session: SessionId,
    given: Given,
) -> Told<Committed, SubmitError> {
    let by = match &given.input {
        Input::Command(_) => By::Client,
        Input::Fact { .. } => By::Runner,
        Input::Claim => return Err(Fault::Bad("a claim needs a holder".into())),
    };
    let before = load(cx, scope, session).await?;
    if matches!(given.input, Input::Command(Command::Update(_))) {
        cx.tell(Note::Updated(session));
    }
    Box::pin(decide(cx, &before, given, &by)).await
}

pub(crate) async fn claim(
    cx: &mut Cx,
    session: SessionId,
    holder: &Holder,
    ttl: Option<Duration>,
    now: Micros,
    entropy: u128,
) -> Told<Committed, SubmitError> {
    let Some(before) = load_with(&cx.conn, Scope::Any, session, UNLESS_LOCKED).await? else {
        // Whoever is at it may be claiming it, and nobody waits in a row for that.
        return match is_there(&cx.conn, session).await? {
            true => Err(SubmitError::Held {
                holder: "somebody else just now".to_owned(),
            }
            .into()),
            false => Err(SubmitError::NotFound.into()),
        };
    };
    if let Some(holder) = runs::holder(&cx.conn, before.num, now).await? {
        return Err(SubmitError::Held { holder }.into());
    }
    let by = By::Claim {
        holder,
        lease_expires_at: until(now, ttl),
    };
    let mut beside = Beside::default();
    let queued = runs::queued(&cx.conn, before.num, now).await?;
    beside.marks.extend(queued);
    let given = Given {
        input: Input::Claim,
        now,
        entropy,
        beside,
    };
    Box::pin(decide(cx, &before, given, &by)).await
}

/// Reads a session and locks its state, once whoever else is at it has committed.
const LOCKED: &str = "SELECT t.num, t.workspace, st.state, t.agent FROM sessions t
    JOIN session_states st ON st.num = t.num WHERE t.id = $1 FOR NO KEY UPDATE OF st";

/// The same, but of a session that nobody else is at.
const UNLESS_LOCKED: &str = "SELECT t.num, t.workspace, st.state, t.agent FROM sessions t
    JOIN session_states st ON st.num = t.num WHERE t.id = $1
    FOR NO KEY UPDATE OF st SKIP LOCKED";

/// The session, whose state nobody else changes from now on.
async fn load(cx: &mut Cx, scope: Scope, id: SessionId) -> Told<Before, SubmitError> {
    let sql = if cx.waits { LOCKED } else { UNLESS_LOCKED };
    if let Some(before) = load_with(&cx.conn, scope, id, sql).await? {
        return Ok(before);
    }
    // Nobody hears this: it is run again.
    cx.busy = !cx.waits && is_there(&cx.conn, id).await?;
    Err(SubmitError::NotFound.into())
}

async fn load_with(
    conn: &Conn,
    scope: Scope,
    id: SessionId,
    sql: &str,
) -> Told<Option<Before>, SubmitError> {
    let Some(row) = conn.row(sql, values![id.to_string()]).await? else {
        return Ok(None);
    };
    let workspace = text(&row, 1)?;
    if !within(scope, workspace) {
        return Ok(None);
    }
    Ok(Some(Before {
        num: get(&row, 0)?,
        workspace,
        agent: get(&row, 3)?,
        state: json(&row, 2)?,
    }))
}

async fn is_there(conn: &Conn, id: SessionId) -> Told<bool, SubmitError> {
    let sql = "SELECT 1 FROM sessions WHERE id = $1";
    Ok(conn.row(sql, values![id.to_string()]).await?.is_some())
}

async fn decide(
    cx: &mut Cx,
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
        ..around::around(&cx.conn, before.num, &needs).await?
    };
    let decision = session::decide(&before.state, input, around)
        .map_err(|refused| Fault::Told(SubmitError::Refused(refused)))?;
    if decision.deleted {
        return remove::delete(cx, before.num, decision).await;
    }
    let (num, was_open) = (before.num, before.state.is_open());
    let added = Added::of(&decision)?;
    let owner = (before.workspace, before.agent.as_str());
    let totals = (&before.state.totals, &decision.state.totals);
    let conn = &cx.conn;
    // None waits for the answer to another: they are sent together and run in this order.
    let ((), (), (), note, (), ()) = tokio::try_join!(
        biased;
        put_state(conn, before, &decision, now),
        told(outcomes::put(conn, num, &decision.evaluations)),
        put_threads(conn, before, &decision, needs.thread, now),
        told(move_run(conn, num, was_open, &decision, by, now)),
        timeline::put(conn, num, &decision.state, now, &beside, &decision.waits),
        told(append(conn, num, &decision, &added)),
    )?;
    note.into_iter().for_each(|note| cx.tell(note));
    if let Some(used) = used(owner, totals.0, totals.1, now) {
        cx.talk.add(used);
    }
    Ok(added.tell(&mut cx.talk, decision))
}

async fn told<T>(work: impl Future<Output = Read<T>>) -> Told<T, SubmitError> {
    Ok(work.await?)
}

/// Writes what a decision says of threads, and puts one away.
async fn put_threads(
    conn: &Conn,
    before: &Before,
    decision: &Decision,
    away: Option<ThreadId>,
    now: Micros,
) -> Told<(), SubmitError> {
    threads::put(conn, before.num, &before.state, decision, now).await?;
    if let Some(thread) = away {
        threads::put_away(conn, before.num, thread, now).await?;
    }
    Ok(())
}

async fn put_state(
    conn: &Conn,
    before: &Before,
    decision: &Decision,
    now: Micros,
) -> Told<(), SubmitError> {
    let sql = "UPDATE session_states SET generation = $3, status = $4, updated_at = $5, state = $6,
                 archived_at = CASE WHEN $7 THEN $5 ELSE archived_at END
               WHERE num = $1 AND generation = $2";
    let state = &decision.state;
    let row = values![
        before.num,
        int(before.state.generation.0),
        int(state.generation.0),
        status_name(state.status()),
        now.0,
        serde_json::to_string(state)?,
        state.archived && !before.state.archived,
    ];
    let updated = conn.execute(sql, row).await?;
    assert!(updated == 1, "the state's generation and its column differ");
    if let Some(agent) = &decision.agent {
        let sql = "UPDATE sessions SET agent_body = $2 WHERE num = $1";
        conn.execute(sql, values![before.num, agent.get()]).await?;
    }
    if let Some(profile) = &decision.profile {
        let sql = "UPDATE sessions SET title = $2, metadata = $3 WHERE num = $1";
        let metadata = map_text(&profile.metadata)?;
        conn.execute(sql, values![before.num, &profile.title, metadata])
            .await?;
    }
    Ok(())
}

/// Keeps the run in step with the state. Returns what is to be told.
async fn move_run(
    conn: &Conn,
    num: i64,
    was_open: bool,
    decision: &Decision,
    by: &By<'_>,
    now: Micros,
) -> Read<Option<Note>> {
    let state = &decision.state;
    match decided::move_run(was_open, decision, by) {
        Move::Stay => {}
        Move::Remove => runs::remove(conn, num).await?,
        Move::Due => {
            runs::put_due(conn, num, state, now).await?;
            return Ok(Some(Note::Wake));
        }
        Move::Tell => return Ok(Some(Note::Stop(state.session))),
        Move::Held {
            holder,
            lease_expires_at,
        } => runs::put_held(conn, num, state, holder, lease_expires_at).await?,
    }
    Ok(None)
}

/// Writes what the decision adds. Those that waited go before others come: a place may be taken again.
async fn append(conn: &Conn, num: i64, decision: &Decision, added: &Added) -> Read<()> {
    let drained = decision.drained.iter().map(|id| async {
        let sql = "DELETE FROM inbox WHERE session = $1 AND id = $2";
        conn.execute(sql, values![num, id.bits().to_be_bytes()])
            .await
    });
    if !added.waiting.is_empty() {
        // Their numbers follow the order in which they are sent: none may wait for its statement.
        conn.prepare(QUEUE).await?;
    }
    let events = added.events.iter().map(|event| insert(conn, num, event));
    let waiting = added.waiting.iter().map(|one| queue(conn, num, one));
    let records = decision.records.iter();
    let records = records.map(|record| insert_record(conn, num, record));
    tokio::try_join!(
        biased;
        try_join_all(drained),
        try_join_all(events),
        try_join_all(waiting),
        try_join_all(records),
    )?;
    Ok(())
}

async fn insert(conn: &Conn, num: i64, event: &Stored) -> Read<u64> {
    let sql = "INSERT INTO events (session, seq, id, thread, on_primary, kind, processed_at, body)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let row = values![
        num,
        event.seq.map(int),
        event.id.bits().to_be_bytes(),
        event.thread.bits().to_be_bytes(),
        event.on_primary,
        &*event.kind,
        event.processed_at.map(|t| t.0),
        &*event.json,
    ];
    conn.execute(sql, row).await
}

async fn insert_record(conn: &Conn, num: i64, record: &Record) -> Read<u64> {
    let sql = "INSERT INTO records (session, seq, kind, body) VALUES ($1, $2, $3, $4)";
    let row = values![num, int(record.seq), record.kind.name(), record.body.get()];
    conn.execute(sql, row).await
}

const QUEUE: &str = "INSERT INTO inbox (session, id, thread, kind, event, body)
    VALUES ($1, $2, $3, $4, $5, $6)";

async fn queue(conn: &Conn, num: i64, queued: &Queued) -> Read<u64> {
    let Queued { form, stored, .. } = queued;
    let row = values![
        num,
        stored.id.bits().to_be_bytes(),
        stored.thread.bits().to_be_bytes(),
        &*stored.kind,
        form,
        &*stored.json,
    ];
    conn.execute(QUEUE, row).await
}

pub(crate) async fn create(
    cx: &mut Cx,
    new: &NewSession,
    caps: Caps,
    now: Micros,
    entropy: u128,
) -> Told<SessionRow> {
    agents::check(&cx.conn, new.workspace, new.agent_id, new.agent_version).await?;
    environments::check(&cx.conn, new.workspace, new.environment_id).await?;
    for vault in &new.vault_ids {
        vaults::active(&cx.conn, new.workspace, *vault).await?;
    }
    tallies::take(cx, new.workspace, Plenty::Sessions, caps).await?;
    let decision = decided::open(new, now, entropy);
    let outcomes = first(&decision.evaluations);
    let num = insert_session(&cx.conn, new, &decision.state, now).await?;
    let added = Added::of(&decision)?;
    let conn = &cx.conn;
    let ((), note, ()) = tokio::try_join!(
        biased;
        outcomes::put(conn, num, &decision.evaluations),
        move_run(conn, num, false, &decision, &By::Client, now),
        append(conn, num, &decision, &added),
    )?;
    note.into_iter().for_each(|note| cx.tell(note));
    let state = added.tell(&mut cx.talk, decision).state;
    Ok(decided::row(new, state, outcomes, now))
}

async fn insert_session(conn: &Conn, new: &NewSession, state: &State, now: Micros) -> Told<i64> {
    let sql = "INSERT INTO sessions (id, workspace, agent, agent_version, environment, created_at,
                 title, metadata, vaults, agent_body, environment_body)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING num";
    let values = values![
        state.session.to_string(),
        new.workspace.to_string(),
        new.agent_id.to_string(),
        new.agent_version,
        new.environment_id.to_string(),
        now.0,
        &new.profile.title,
        map_text(&new.profile.metadata)?,
        serde_json::to_string(&new.vault_ids)?,
        new.agent.get(),
        new.environment.get(),
    ];
    let done = match conn.written(sql, values).await {
        Err(failed) if is_taken(&failed) => return Err(Conflict::Exists.into()),
        done => done?,
    };
    let num = done.first().map(|row| get(row, 0)).transpose()?;
    let num = num.ok_or_else(|| Fault::Bad("a session without a number".into()))?;
    let sql = "INSERT INTO session_states (num, generation, status, updated_at, state)
               VALUES ($1, $2, $3, $4, $5)";
    let values = values![
        num,
        int(state.generation.0),
        status_name(state.status()),
        now.0,
        serde_json::to_string(state)?,
    ];
    conn.execute(sql, values).await?;
    Ok(num)
}
