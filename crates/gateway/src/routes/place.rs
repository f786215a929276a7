//! `/v1/x/sessions/{id}`: where a session runs and where its time went, and `/v1/x/usage`: what was used
//! by day. They only show what was stored; a key sees its own workspace, an operator all.

use std::sync::Arc;

use axum::response::Response;
use contract::error::ApiError;
use contract::ids::{AgentId, SessionId, WorkspaceId};
use contract::page::Page;
use contract::query::{self, Order, Range};
use contract::session::Money;
use contract::time::Micros;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use session::money::ListCost;
use store::timeline::Entry;
use store::usage::UsageDay;

use super::{events, sessions};
use crate::call::{Call, missing};
use crate::cursor::{Cursor, Side};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging;
use crate::reply;

/// Rows of one answer about usage: 30 days of 300 agents.
const USAGE_ROWS: u32 = 10_000;

/// Days that one answer about usage covers unless it is asked for fewer.
const USAGE_DAYS: i64 = 31;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionBinding")]
pub(crate) struct Bound {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "session_binding"))]
    kind: &'static str,
    session_id: SessionId,
    generation: u64,
    since: Micros,
    #[serde(flatten)]
    #[schemars(with = "Placed")]
    body: serde_json::Map<String, serde_json::Value>,
}

/// What a runner writes of where it runs a session.
#[derive(JsonSchema)]
#[allow(dead_code)] // it describes what is passed on as it was stored
struct Placed {
    /// The loop that runs it; null until its first turn.
    harness: Option<String>,
    /// The process that runs it; null until its first turn.
    runner: Option<String>,
    /// The sandbox; null until a tool needs one.
    sandbox: Option<String>,
    /// How the loop's process inside the sandbox came to be there, if this turn had to see to that: `started`,
    /// `ahead` (before the first message), `adopted` (it ran on while its server was away), `revived` (from its own
    /// state) or `rebuilt` (from the log).
    harness_process: Option<String>,
    /// The server whose host was lost with the session's workspace, until the model is told of it.
    lost_host: Option<String>,
    /// As of when the files of that workspace were brought back; null if there was no export of it.
    restored_from: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TimelineEntry")]
pub(crate) struct Spent {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "timeline_entry"))]
    kind: &'static str,
    /// What the time was spent on: `queue`, `sandbox`, `model`, `tool`, `judge`, `grade`, `advisor`, or `wait`
    /// (a thread rested; `detail.waited_for` says for whom: `client`, `thread`, `budget` or `retry`).
    spent: String,
    trace_id: String,
    started_at: Micros,
    seconds: f64,
    /// What else is worth knowing: of a thread beside the primary its `session_thread_id`; of a wait that a thread
    /// ended its `waited_for_session_thread_id`.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    detail: Box<RawValue>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UsageDay")]
pub(crate) struct Used {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "usage_day"))]
    kind: &'static str,
    workspace_id: WorkspaceId,
    agent_id: AgentId,
    date: String,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
    active_seconds: f64,
    list_cost: Money,
}

/// `GET /v1/x/sessions/{session_id}/binding`
pub(crate) async fn binding(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let id = sessions::id(&call)?;
    let found = gateway.store.binding(call.scope(), id).await?;
    let Some(bound) = found else {
        return Err(Failure::Api(ApiError::not_found(
            "The session has no binding yet: it gets one with its first turn.",
        )));
    };
    reply::json(&Bound {
        kind: "session_binding",
        session_id: id,
        generation: bound.generation.0,
        since: bound.since,
        body: super::stored::read("a session's binding", &bound.body)?,
    })
}

/// `GET /v1/x/sessions/{session_id}/timeline`
pub(crate) async fn timeline(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    let query = events::plain(call.query())?;
    let scope = paging::scope(&call, Order::Asc, Range::default());
    let cursor = query.paging.page.as_deref();
    let cursor = cursor.map(|text| scope.read::<u64>(text)).transpose()?;
    let after = cursor.map_or(0, |Cursor { position, .. }| position);
    let limit = query.paging.limit;
    let mut entries = gateway
        .store
        .timeline(call.scope(), id, after, limit + 1)
        .await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let last = entries.last().map(|entry| entry.n).filter(|_| more);
    reply::json(&Page {
        next_page: last.map(|n| scope.write(Side::After, &n)),
        data: entries.into_iter().map(|e| spent(id, e)).collect(),
    })
}

fn spent(id: SessionId, entry: Entry) -> Spent {
    Spent {
        kind: "timeline_entry",
        trace_id: format!("{:032x}", session::trace(id, entry.turn)),
        spent: entry.spent,
        started_at: entry.at,
        seconds: Micros(entry.took).seconds_since(Micros(0)),
        detail: entry.detail,
    }
}

/// `GET /v1/x/usage`: by workspace, agent and day, the last 31 days.
pub(crate) async fn usage(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let today = gateway.now().0.div_euclid(86_400_000_000);
    let days = (today - USAGE_DAYS + 1, today);
    let workspace = (!call.is_operator()).then(|| call.workspace());
    let rows = gateway
        .store
        .usage_days(workspace, days, USAGE_ROWS)
        .await?;
    reply::json(&Page {
        data: rows.into_iter().map(used).collect(),
        next_page: None,
    })
}

fn used(row: UsageDay) -> Used {
    let active = i64::try_from(row.active).unwrap_or(i64::MAX);
    Used {
        kind: "usage_day",
        workspace_id: row.workspace,
        agent_id: row.agent,
        date: Micros(row.day.saturating_mul(86_400_000_000)).date(),
        input_tokens: row.input,
        output_tokens: row.output,
        cache_read_input_tokens: row.cache_read,
        ephemeral_5m_input_tokens: row.cache_5m,
        ephemeral_1h_input_tokens: row.cache_1h,
        active_seconds: Micros(active).seconds_since(Micros(0)),
        list_cost: ListCost::of(row.cost, active).shown(),
    }
}

/// A copy of the database that was made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Backup")]
pub(crate) struct Copied {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "backup"))]
    kind: &'static str,
    /// Where it is, on the server.
    file: String,
    /// How long it took.
    seconds: f64,
}

/// `POST /v1/x/backup`
pub(crate) async fn backup(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let Some(directory) = gateway.config.backups.clone() else {
        return Err(Failure::Api(missing("Backup directory")));
    };
    let begun = gateway.now();
    let file = directory.join(format!("longhand-{}.db", begun.0));
    gateway.store.backup(file.clone()).await?;
    reply::json(&Copied {
        kind: "backup",
        file: file.to_string_lossy().into_owned(),
        seconds: gateway.now().seconds_since(begun),
    })
}
