//! A decision becomes a transaction: state, events, records, inbox and run, or none of them. Whoever decides
//! locks the session's state first, so that replicas decide one after the other; what a stale generation
//! brings is refused by the core, on the state that was locked.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use contract::event::Event;
use contract::ids::SessionId;
use contract::time::Micros;
use session::input::{Around, Waiting};
use session::{Decision, Input, Intent, Record, State, UserEvent};

use super::fault::{Read, is_taken};
use super::row::{get, json, text};
use super::value::values;
use super::{
    Conn, Cx, Fault, Told, agents, around, environments, outcomes, remove, runs, tallies, threads,
    timeline, usage, vaults,
};
use crate::caps::Caps;
use crate::error::{Conflict, Plenty, SubmitError};
use crate::events::Stored;
use crate::feed::Item;
use crate::runs::Holder;
use crate::sessions::{Committed, NewSession, Scope, SessionRow};
use crate::sqlite::Note;
use crate::sqlite::row::{int, map_text};
use crate::sqlite::runs::until;
use crate::sqlite::sessions::{status_name, within};
use crate::sqlite::submit::{Given, stored};
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
    let before = load(&cx.conn, scope, session).await?;
    decide(cx, &before, given, &by).await
}

pub(crate) async fn claim(
    cx: &mut Cx,
    session: SessionId,
    holder: &Holder,
    ttl: Option<Duration>,
    now: Micros,
    entropy: u128,
) -> Told<Committed, SubmitError> {
    let before = load(&cx.conn, Scope::Any, session).await?;
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
    decide(cx, &before, given, &by).await
}

/// The session, whose state nobody else changes from now on.
async fn load(conn: &Conn, scope: Scope, id: SessionId) -> Told<Before, SubmitError> {
    let sql = "SELECT t.num, t.workspace, st.state, t.agent FROM sessions t
               JOIN session_states st ON st.num = t.num WHERE t.id = $1 FOR NO KEY UPDATE OF st";
    let Some(row) = conn.row(sql, values![id.to_string()]).await? else {
        return Err(SubmitError::NotFound.into());
    };
    if !within(scope, text(&row, 1)?) {
        return Err(SubmitError::NotFound.into());
    }
    Ok(Before {
        num: get(&row, 0)?,
        workspace: get(&row, 1)?,
        agent: get(&row, 3)?,
        state: json(&row, 2)?,
    })
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
    put_state(&cx.conn, before, &decision, now).await?;
    outcomes::put(&cx.conn, before.num, &decision.evaluations).await?;
    threads::put(&cx.conn, before.num, &before.state, &decision, now).await?;
    if let Some(thread) = needs.thread {
        threads::put_away(&cx.conn, before.num, thread, now).await?;
    }
    let was_open = before.state.is_open();
    move_run(cx, before.num, was_open, &decision, by, now).await?;
    let owner = (before.workspace.as_str(), before.agent.as_str());
    let totals = (&before.state.totals, &decision.state.totals);
    usage::add(&cx.conn, owner, totals.0, totals.1, now).await?;
    timeline::put(&cx.conn, before.num, &decision.state, now, &beside).await?;
    append(cx, before.num, decision).await
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

/// Keeps the run in step with the state.
async fn move_run(
    cx: &mut Cx,
    num: i64,
    was_open: bool,
    decision: &Decision,
    by: &By<'_>,
    now: Micros,
) -> Read<()> {
    let state = &decision.state;
    if !state.is_open() {
        return if was_open {
            runs::remove(cx, num).await
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
        By::Client if anew => runs::put_due(cx, num, state, now).await,
        By::Client => Ok(()),
        By::Runner if held => Ok(()),
        By::Claim {
            holder,
            lease_expires_at,
        } if held => runs::put_held(cx, num, state, holder, *lease_expires_at).await,
        By::Runner | By::Claim { .. } => runs::put_due(cx, num, state, now).await,
    }
}

/// Writes what the decision adds and has it told.
async fn append<E>(cx: &mut Cx, num: i64, decision: Decision) -> Told<Committed, E> {
    for id in &decision.drained {
        let sql = "DELETE FROM inbox WHERE session = $1 AND id = $2";
        cx.conn
            .execute(sql, values![num, id.bits().to_be_bytes()])
            .await?;
    }
    let mut items = Vec::with_capacity(decision.events.len() + decision.queued.len());
    let mut events = Vec::with_capacity(decision.events.len());
    for placed in &decision.events {
        let stored = Arc::new(stored(placed)?);
        insert(cx, num, &stored).await?;
        items.push(Item::Event(Arc::clone(&stored)));
        events.push(stored);
    }
    for waiting in decision.queued {
        // What one thread says to another is nobody's but theirs before it has its place.
        let private = matches!(waiting.event, UserEvent::Thread { .. });
        let stored = queue(cx, num, waiting).await?;
        if !private {
            items.push(Item::Announced(Arc::new(stored)));
        }
    }
    for record in &decision.records {
        insert_record(cx, num, record).await?;
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

async fn insert(cx: &mut Cx, num: i64, event: &Stored) -> Read<()> {
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
    cx.conn.execute(sql, row).await?;
    cx.bytes += event.json.len();
    cx.events += 1;
    Ok(())
}

async fn insert_record(cx: &mut Cx, num: i64, record: &Record) -> Read<()> {
    let sql = "INSERT INTO records (session, seq, kind, body) VALUES ($1, $2, $3, $4)";
    let row = values![num, int(record.seq), record.kind.name(), record.body.get()];
    cx.conn.execute(sql, row).await?;
    cx.bytes += record.body.get().len();
    Ok(())
}

async fn queue<E>(cx: &mut Cx, num: i64, waiting: Waiting) -> Told<Stored, E> {
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
               VALUES ($1, $2, $3, $4, $5, $6)";
    let (id, of) = (waiting.id.bits().to_be_bytes(), thread.bits().to_be_bytes());
    let row = values![num, id, of, kind, form, &*json];
    cx.conn.execute(sql, row).await?;
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

pub(crate) async fn create(
    cx: &mut Cx,
    new: NewSession,
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
    let around = Around {
        now,
        entropy,
        ..Around::default()
    };
    let decision = session::open(new.opening, &around);
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
        outcomes: crate::sqlite::outcomes::first(&decision.evaluations),
    };
    let num = insert_session(&cx.conn, &row).await?;
    outcomes::put(&cx.conn, num, &decision.evaluations).await?;
    move_run(cx, num, false, &decision, &By::Client, now).await?;
    append::<crate::error::Error>(cx, num, decision).await?;
    Ok(row)
}

async fn insert_session(conn: &Conn, row: &SessionRow) -> Told<i64> {
    let sql = "INSERT INTO sessions (id, workspace, agent, agent_version, environment, created_at,
                 title, metadata, vaults, agent_body, environment_body)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING num";
    let values = values![
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
        int(row.state.generation.0),
        status_name(row.state.status()),
        row.updated_at.0,
        serde_json::to_string(&row.state)?,
    ];
    conn.execute(sql, values).await?;
    Ok(num)
}
