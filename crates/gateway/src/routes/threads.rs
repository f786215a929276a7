//! Threads of a session (api.md §10). This build has one a session: the primary.

use std::sync::Arc;

use axum::response::Response;
use contract::error::ApiError;
use contract::ids::ThreadId;
use contract::page::Page;
use contract::query::{self, ListThreads, Order, Range};
use contract::session::{SessionThread, ThreadStats, ThreadTag};
use store::events::Of;
use store::sessions::SessionRow;

use super::{events, sessions};
use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging;
use crate::reply;

/// `GET /v1/sessions/{session_id}/threads`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    let query = ListThreads::parse(call.query())?;
    if let Some(text) = &query.paging.page {
        // One thread is one page, so no cursor of ours exists.
        paging::scope(&call, Order::Asc, Range::default()).read::<u64>(text)?;
    }
    let row = gateway.store.session(call.workspace(), id).await?;
    let wanted = query.statuses.is_empty() || query.statuses.contains(&sessions::status(&row));
    let data = if wanted {
        vec![object(&gateway, &row)?]
    } else {
        Vec::new()
    };
    reply::json(&Page {
        data,
        next_page: None,
    })
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let row = gateway
        .store
        .session(call.workspace(), sessions::id(&call)?)
        .await?;
    thread(&call, &row)?;
    reply::json(&object(&gateway, &row)?)
}

/// `POST /v1/sessions/{session_id}/threads/{thread_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let row = gateway
        .store
        .session(call.workspace(), sessions::id(&call)?)
        .await?;
    thread(&call, &row)?;
    Err(ApiError::invalid(
        "The primary thread cannot be archived by itself. Archive the session instead.",
    )
    .into())
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}/events`
pub(crate) async fn events(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    let query = events::plain(call.query())?;
    let row = gateway.store.session(call.workspace(), id).await?;
    let of = Of::Thread(thread(&call, &row)?);
    events::page(&gateway, &call, id, query, of).await
}

/// `GET /v1/sessions/{session_id}/threads/{thread_id}/stream`
pub(crate) async fn stream(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    events::watch(gateway, &call, id, |row| {
        Ok(Of::Thread(thread(&call, row)?))
    })
    .await
}

/// The thread that the path names, which must be of this session.
fn thread(call: &Call, row: &SessionRow) -> Result<ThreadId, Failure> {
    let id = call.id("thread_id", "Thread")?;
    if id == row.state.primary.id {
        Ok(id)
    } else {
        Err(missing("Thread").into())
    }
}

fn object(gateway: &Gateway, row: &SessionRow) -> Result<SessionThread, Failure> {
    let now = gateway.now();
    let totals = &row.state.totals;
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
        status: sessions::status(row),
        parent_thread_id: None,
        stats: moved.then_some(stats),
        usage: ran.then(|| totals.usage(now)),
        workflow_run_id: None,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
    })
}
