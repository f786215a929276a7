//! `/v1/x/sessions/{id}/why`: what a session waits for, since when, and the one request that unblocks it.
//! Computed from the state row alone; it must never change anything.

use std::sync::Arc;

use axum::response::Response;
use contract::ids::{EventId, SessionId};
use contract::query;
use contract::session::Status;
use contract::time::Micros;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use session::{Call as ToolCall, CallKind, Phase, Stage, State};

use super::sessions;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionWhy")]
pub(crate) struct Why {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "session_why"))]
    kind: &'static str,
    session_id: SessionId,
    status: Status,
    /// Where the turn stands, in the words of `docs/session.md`.
    phase: &'static str,
    /// When the session last changed.
    since: Micros,
    /// For people.
    waits_for: String,
    /// The calls that the client owes an answer, or that run.
    calls: Vec<Owed>,
    /// Messages that wait behind it.
    waiting_events: u32,
    /// When it goes on by itself, at the earliest.
    due_at: Option<Micros>,
    /// The request that unblocks it; null if none is needed or none helps.
    unblock: Option<Request>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OwedCall")]
struct Owed {
    id: EventId,
    tool: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Unblocking")]
struct Request {
    method: &'static str,
    path: String,
    #[schemars(with = "serde_json::Map<String, Value>")]
    body: Value,
}

/// `GET /v1/x/sessions/{session_id}/why`
pub(crate) async fn why(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let row = gateway
        .store
        .session(call.scope(), sessions::id(&call)?)
        .await?;
    let state = &row.state;
    let (waits_for, unblock) = explain(row.id, state, gateway.now());
    reply::json(&Why {
        kind: "session_why",
        session_id: row.id,
        status: sessions::status(&row),
        phase: state.primary.phase.name(),
        since: row.updated_at,
        waits_for,
        calls: state
            .threads()
            .flat_map(session::Thread::calls)
            .filter_map(owed)
            .collect(),
        waiting_events: state.waiting,
        due_at: match state.primary.phase {
            Phase::Retrying { due_at } => Some(due_at),
            _ => None,
        },
        unblock,
    })
}

fn owed(call: &ToolCall) -> Option<Owed> {
    matches!(call.stage, Stage::Asked | Stage::Started).then(|| Owed {
        id: call.id,
        tool: call.name.clone(),
    })
}

fn explain(id: SessionId, state: &State, now: Micros) -> (String, Option<Request>) {
    if state.archived {
        let text = "nothing: it is archived and takes no events";
        return (text.to_owned(), None);
    }
    let send = |events: Value| Request {
        method: "POST",
        path: format!("/v1/sessions/{id}/events"),
        body: json!({ "events": events }),
    };
    let stop = || Some(send(json!([{"type": "user.interrupt"}])));
    let more = || {
        let budget = json!({"type": "limit", "max_list_cost": {"amount": "<more cents>", "currency": "USD"}});
        Some(Request {
            method: "POST",
            path: format!("/v1/sessions/{id}"),
            body: json!({ "budget": budget }),
        })
    };
    // What one thread waits for, the session waits for once no other is at work.
    let resting = |thread: &&session::Thread| thread.phase == Phase::Idle;
    let busy = state.threads().find(|thread| thread.is_open());
    let thread = busy.or_else(|| state.threads().find(|thread| !resting(thread)));
    let (text, unblock) = match &thread.unwrap_or(&state.primary).phase {
        Phase::Idle if state.is_spent(now) => ("a higher budget: it is spent", more()),
        Phase::Idle => {
            let hello =
                json!([{"type": "user.message", "content": [{"type": "text", "text": "…"}]}]);
            ("a message: its last turn is over", Some(send(hello)))
        }
        Phase::Paused => (
            "a higher budget: it is spent in the middle of a turn",
            more(),
        ),
        Phase::Blocked { calls } => {
            let text = "the client's answer to every call it asked about";
            (text, Some(send(answers(calls))))
        }
        Phase::Due => ("a runner; it is taken up as soon as one is free", None),
        Phase::Requesting { .. } => ("the model's answer; an interrupt ends it", stop()),
        Phase::Compacting { .. } => (
            "the model's summary of the conversation, which has grown too long; an interrupt ends it",
            stop(),
        ),
        Phase::Grading { .. } => ("a grader's verdict; an interrupt ends it", stop()),
        Phase::Acting { .. } => ("a tool call to end; an interrupt ends it", stop()),
        Phase::Retrying { .. } => (
            "the next try of a model request that failed (see the last session.error); an interrupt gives it up",
            stop(),
        ),
    };
    (text.to_owned(), unblock)
}

/// An answer to each call that the client owes one.
fn answers(calls: &[ToolCall]) -> Value {
    let asked = calls.iter().filter(|call| call.stage == Stage::Asked);
    let answer = |call: &ToolCall| match call.kind {
        CallKind::Sandbox => {
            json!({"type": "user.tool_confirmation", "tool_use_id": call.id, "result": "allow"})
        }
        // Nobody asks the client about these.
        CallKind::Team | CallKind::Advisor => Value::Null,
        CallKind::Custom => {
            json!({"type": "user.custom_tool_result", "custom_tool_use_id": call.id, "content": []})
        }
    };
    asked.map(answer).collect()
}
