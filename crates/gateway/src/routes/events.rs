//! Events of a session (api.md §8): send, list, stream. What a session makes of them is the core's.

use std::sync::Arc;

use axum::response::Response;
use contract::client_event::{ClientEvent, Rubric, SendEvents};
use contract::content::Block;
use contract::error::ApiError;
use contract::event::SentEvents;
use contract::ids::{EventId, OutcomeId, SessionId};
use contract::query::{self, ListEvents, ListPlain, Order, Range, StreamEvents};
use session::{Command, UserEvent};
use store::events::{EventList, EventPage, Of};
use store::sessions::Committed;

use super::sessions;
use crate::call::Call;
use crate::cursor::{Cursor, Side};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::paging;
use crate::reply;
use crate::sse::{self, Watch};

/// `POST /v1/sessions/{session_id}/events`
pub(crate) async fn send(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let id = sessions::id(&call)?;
    let request = call.json::<SendEvents>().await?;
    request.check()?;
    if let Some(ClientEvent::SystemMessage(_)) = request.events.last() {
        takes_system(&gateway, &call, id, request.events.len() - 1).await?;
    }
    let events = accept(&gateway, request.events, "events")?;
    let store = call.store(&gateway, |done: &Committed| {
        reply::bytes(&SentEvents { data: &done.echo })
    });
    let command = Command::Send(events);
    let committed = sessions::submit_to(&store, &gateway, &call, id, command).await?;
    reply::json(&SentEvents {
        data: &committed.echo,
    })
}

/// Refuses a `system.message` that the session's model would not take.
async fn takes_system(
    gateway: &Gateway,
    call: &Call,
    id: SessionId,
    index: usize,
) -> Result<(), Failure> {
    let row = gateway.store.session(call.workspace(), id).await?;
    let model = sessions::agent(&row)?.model.id;
    if gateway.catalog.takes_system_messages(&model) {
        return Ok(());
    }
    let text = format!(
        "events[{index}]: the model `{model}` takes no system message in the middle of a conversation"
    );
    let code = "model_does_not_support_mid_conversation_system";
    Err(Failure::Api(ApiError::invalid(text).code(code)))
}

/// The events of a request as the core takes them. `field` is the list that holds them.
///
/// # Errors
/// An event that this build does not serve, by its place.
pub(super) fn accept(
    gateway: &Gateway,
    events: Vec<ClientEvent>,
    field: &str,
) -> Result<Vec<UserEvent>, Failure> {
    let blocks = |content: Vec<_>| content.into_iter().map(Block::from).collect();
    let accepted = events
        .into_iter()
        .enumerate()
        .map(|(index, event)| match event {
            ClientEvent::UserMessage(message) => Ok(UserEvent::Message {
                content: blocks(message.content),
            }),
            ClientEvent::UserInterrupt(interrupt) => Ok(UserEvent::Interrupt {
                thread: interrupt.session_thread_id,
            }),
            ClientEvent::UserCustomToolResult(result) => Ok(UserEvent::CustomToolResult {
                call: result.custom_tool_use_id,
                content: blocks(result.content),
                is_error: result.is_error,
                thread: result.session_thread_id,
            }),
            ClientEvent::UserToolConfirmation(answer) => Ok(UserEvent::ToolConfirmation {
                call: answer.tool_use_id,
                result: answer.result,
                deny_message: answer.deny_message,
                thread: answer.session_thread_id,
            }),
            ClientEvent::SystemMessage(message) => Ok(UserEvent::System {
                content: blocks(message.content),
            }),
            ClientEvent::UserDefineOutcome(outcome) => match outcome.rubric {
                Rubric::Text(rubric) => Ok(UserEvent::Outcome {
                    outcome: OutcomeId::from_bits(gateway.id_bits()),
                    description: outcome.description,
                    rubric: rubric.content,
                    max_iterations: outcome.max_iterations.map(std::num::NonZeroU32::get),
                }),
                Rubric::File(_) => {
                    let path = format!("{field}[{index}].rubric.type");
                    let what = "a rubric in a file is not supported by this build";
                    Err(Failure::Api(ApiError::unbuilt(&path, what)))
                }
            },
            other @ ClientEvent::UserToolResult(_) => {
                let path = format!("{field}[{index}].type");
                let what = format!("`{}` is not supported by this build", other.kind());
                Err(Failure::Api(ApiError::unbuilt(&path, &what)))
            }
        });
    accepted.collect()
}

/// `GET /v1/sessions/{session_id}/events`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    let query = ListEvents::parse(call.query())?;
    page(&gateway, &call, id, query, Of::Primary).await
}

/// A page of events: of the session, or of one of its threads.
pub(super) async fn page(
    gateway: &Gateway,
    call: &Call,
    id: SessionId,
    query: ListEvents,
    of: Of,
) -> Result<Response, Failure> {
    let scope = paging::scope(call, query.order, query.created_at);
    let cursor = query
        .paging
        .page
        .as_deref()
        .map(|text| scope.read::<u64>(text))
        .transpose()?;
    let list = EventList {
        limit: query.paging.limit,
        order: paging::order_of(query.order),
        after: cursor.map(|Cursor { position, .. }| position),
        kinds: query.types.iter().map(|kind| (*kind).to_owned()).collect(),
        processed: paging::range_of(query.created_at),
        of,
    };
    let page = gateway.store.events(call.workspace(), id, list).await?;
    let next = page.next.map(|seq| scope.write(Side::After, &seq));
    Ok(reply::raw(write(&page, next.as_deref()).into()))
}

/// Writes a page out of the stored texts, which are JSON already.
fn write(page: &EventPage, next: Option<&str>) -> String {
    let events = || page.events.iter().chain(&page.waiting);
    let length = events().map(|event| event.json.len() + 1).sum::<usize>();
    let mut out = String::with_capacity(length + 64);
    out.push_str("{\"data\":[");
    for (index, event) in events().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&event.json);
    }
    out.push_str("],\"next_page\":");
    match next {
        // A cursor is base64: nothing in it needs escaping.
        Some(next) => {
            out.push('"');
            out.push_str(next);
            out.push('"');
        }
        None => out.push_str("null"),
    }
    out.push('}');
    out
}

/// The events of a thread take no filter.
pub(super) fn plain(query: &str) -> Result<ListEvents, Failure> {
    let ListPlain { paging } = ListPlain::parse_thread_events(query)?;
    Ok(ListEvents {
        paging,
        order: Order::Asc,
        created_at: Range::default(),
        types: Vec::new(),
    })
}

/// `GET /v1/sessions/{session_id}/events/stream`
pub(crate) async fn stream(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let id = sessions::id(&call)?;
    watch(gateway, &call, id, |_| Ok(Of::Primary)).await
}

/// Opens a stream: of the session, or of what `of` makes of it.
pub(super) async fn watch(
    gateway: Arc<Gateway>,
    call: &Call,
    id: SessionId,
    of: impl FnOnce(&store::sessions::SessionRow) -> Result<Of, Failure>,
) -> Result<Response, Failure> {
    let deltas = StreamEvents::parse(call.query())?;
    let after = last_event_id(call)?;
    let most = gateway.config.limits.streams_per_key;
    let seat = gateway
        .shares
        .stream(call.who.key, most, &gateway.metrics)?;
    // First the subscription, then the reads: nothing falls between them.
    let subscription = gateway
        .store
        .subscribe_with(id, gateway.config.subscriber_lag);
    let row = gateway.store.session(call.workspace(), id).await?;
    subscription.begin_at(row.state.next_seq);
    let of = of(&row)?;
    let replay_after = match after {
        None => None,
        Some(event) => {
            let seq = gateway.store.event_seq(id, event).await?;
            let unknown = || ApiError::invalid("Last-Event-ID: no such event in this session");
            Some(seq.ok_or_else(unknown)?)
        }
    };
    let thread = row.state.primary.id;
    let terminated = row.state.archived;
    Ok(sse::respond(Watch {
        gateway,
        meta: call.meta,
        id,
        of,
        thread,
        deltas,
        subscription,
        replay_after,
        terminated,
        _seat: seat,
    }))
}

fn last_event_id(call: &Call) -> Result<Option<EventId>, Failure> {
    let Some(value) = call.headers.get("last-event-id") else {
        return Ok(None);
    };
    if value.is_empty() {
        return Ok(None);
    }
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    let bad = || ApiError::invalid("Last-Event-ID: not the id of an event");
    Ok(Some(id.ok_or_else(bad)?))
}
