//! Threads of a session (api.md §10): the primary, and those that a coordinator has begun.

use std::sync::Arc;

use axum::response::Response;
use contract::agent::{AdvisorParams, ThreadAgent};
use contract::ids::ThreadId;
use contract::page::Page;
use contract::query::{self, ListThreads, Order, Range, StreamEvents};
use contract::session::{SessionThread, Status, ThreadStats, ThreadTag};
use session::{Command, Totals};
use store::events::Of;
use store::sessions::SessionRow;
use store::threads::ThreadRow;

use super::{events, sessions, stored};
use crate::call::{Call, missing};
use crate::cursor::{Cursor, Side};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging;
use crate::reply;

/// `GET /v1/sessions/{session_id}/threads`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    let query = ListThreads::parse(call.query())?;
    let scope = paging::scope(&call, Order::Asc, Range::default());
    let page = query.paging.page.as_deref();
    let cursor = page.map(|text| scope.read::<u64>(text)).transpose()?;
    let row = gateway.store.session(call.workspace(), id).await?;
    let mut data = Vec::new();
    let wanted = |status| query.statuses.is_empty() || query.statuses.contains(&status);
    // The primary comes first, and is number nought of its session.
    if cursor.is_none() && wanted(primary_status(&row)) {
        data.push(primary(&gateway, &row)?);
    }
    let after = cursor.map_or(0, |Cursor { position, .. }| position);
    let limit = query.paging.limit;
    let statuses = query.statuses.iter().map(|s| sessions::core_status(*s));
    let more = gateway
        .store
        .threads(call.workspace(), id, after, limit + 1, statuses.collect())
        .await?;
    let mut next_page = None;
    let mut last = after;
    for thread in more {
        if data.len() == limit as usize {
            next_page = Some(scope.write(Side::After, &last));
            break;
        }
        last = thread.n;
        data.push(child(&gateway, &row, &thread)?);
    }
    reply::json(&Page { data, next_page })
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let (row, thread) = find(&gateway, &call).await?;
    answer(&gateway, &row, thread.as_ref())
}

/// `POST /v1/sessions/{session_id}/threads/{thread_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let (session, thread) = (sessions::id(&call)?, id(&call)?);
    sessions::submit(&gateway, &call, session, Command::ArchiveThread(thread)).await?;
    let (row, thread) = find(&gateway, &call).await?;
    answer(&gateway, &row, thread.as_ref())
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}/events`
pub(crate) async fn events(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let session = sessions::id(&call)?;
    let query = events::plain(call.query())?;
    find(&gateway, &call).await?;
    events::page(&gateway, &call, session, query, Of::Thread(id(&call)?)).await
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}/stream`
pub(crate) async fn stream(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    StreamEvents::parse(call.query())?;
    find(&gateway, &call).await?;
    let (session, thread) = (sessions::id(&call)?, id(&call)?);
    events::watch(gateway, &call, session, |_| Ok(Of::Thread(thread))).await
}

fn id(call: &Call) -> Result<ThreadId, Failure> {
    Ok(call.id("thread_id", "Thread")?)
}

/// The session, and the thread of it that the path names; none if that is the primary.
async fn find(gateway: &Gateway, call: &Call) -> Result<(SessionRow, Option<ThreadRow>), Failure> {
    let session = sessions::id(call)?;
    let row = gateway.store.session(call.workspace(), session).await?;
    let thread = id(call)?;
    if thread == row.state.primary.id {
        return Ok((row, None));
    }
    let found = gateway
        .store
        .thread(call.workspace(), session, thread)
        .await?;
    match found {
        Some(found) => Ok((row, Some(found))),
        None => Err(missing("Thread").into()),
    }
}

fn answer(
    gateway: &Gateway,
    row: &SessionRow,
    thread: Option<&ThreadRow>,
) -> Result<Response, Failure> {
    let object = match thread {
        None => primary(gateway, row)?,
        Some(thread) => child(gateway, row, thread)?,
    };
    reply::json(&object)
}

/// What the primary does by itself; the session's status is that of all its threads.
fn primary_status(row: &SessionRow) -> Status {
    if row.state.archived {
        Status::Terminated
    } else {
        sessions::status_of(row.state.primary.status())
    }
}

fn primary(gateway: &Gateway, row: &SessionRow) -> Result<SessionThread, Failure> {
    let now = gateway.now();
    let totals = &row.state.primary.totals;
    let ran = totals.active > 0;
    let moved = ran || totals.running_since.is_some() || row.archived_at.is_some();
    let stats = ThreadStats {
        active_seconds: totals.active_seconds(now),
        duration_seconds: sessions::duration(row, now),
        startup_seconds: None,
    };
    Ok(SessionThread {
        id: row.state.primary.id,
        kind: ThreadTag::SessionThread,
        session_id: row.id,
        agent: sessions::agent(row)?.into(),
        status: primary_status(row),
        parent_thread_id: None,
        stats: moved.then_some(stats),
        usage: ran.then(|| totals.usage(now)),
        workflow_run_id: None,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
    })
}

/// A thread beside the primary: what it uses stands in the session's state until it ends.
fn child(
    gateway: &Gateway,
    row: &SessionRow,
    thread: &ThreadRow,
) -> Result<SessionThread, Failure> {
    let now = gateway.now();
    let live = row.state.thread(thread.id);
    let totals = live.map_or_else(|| thread.totals.unwrap_or_default(), |t| t.totals);
    let status = live.map_or(thread.status, session::Thread::status);
    let ended = live.is_none() && thread.totals.is_some();
    let until = if ended { thread.updated_at } else { now };
    let moved = ended || totals != Totals::default();
    let stats = ThreadStats {
        active_seconds: totals.active_seconds(now),
        duration_seconds: until.seconds_since(thread.created_at),
        startup_seconds: Some(0.0),
    };
    let agent = match &thread.agent {
        Some(agent) => stored::read("a thread's agent", agent)?,
        None => ThreadAgent::Advisor(AdvisorParams {
            model: advisor(row)?,
        }),
    };
    Ok(SessionThread {
        id: thread.id,
        kind: ThreadTag::SessionThread,
        session_id: row.id,
        agent,
        status: sessions::status_of(status),
        parent_thread_id: Some(row.state.primary.id),
        stats: moved.then_some(stats),
        usage: (ended || totals.active > 0).then(|| totals.usage(now)),
        workflow_run_id: None,
        created_at: thread.created_at,
        updated_at: thread.updated_at,
        archived_at: thread.archived_at,
    })
}

/// The model that the session's agent asks for advice.
fn advisor(row: &SessionRow) -> Result<String, Failure> {
    let agent = sessions::agent(row)?;
    let advisor = agent.multiagent.as_ref().and_then(|team| team.advisor());
    Ok(advisor.unwrap_or_default().to_owned())
}
