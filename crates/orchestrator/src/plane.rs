//! The session plane as one run sees it: facts go to the store under the run's generation, previews to
//! the feed, tool calls to the session's sandbox.

use std::sync::Arc;

use async_trait::async_trait;
use contract::agent::SessionAgent;
use contract::content::Block;
use contract::environment::{Config, EnvironmentDefinition, Networking as Policy};
use contract::ids::{EventId, ThreadId};
use harness::{Brief, Entry, EntryBody, Fact, Networking, Plane, PlaneError, Preview, Taken};
use model::Endpoint;
use sandbox::Sandbox;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use session::{Generation, Input, Pace};
use store::SubmitError;
use store::feed::PreviewKind;
use store::sessions::{Committed, Scope, SessionRow};
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::active::Active;

/// One run's view of its session.
pub(crate) struct SessionPlane {
    inner: Arc<Inner>,
    session: contract::ids::SessionId,
    thread: ThreadId,
    generation: Generation,
    /// Where the transcript starts: the last compaction.
    history_from: u64,
    brief: Brief,
    endpoint: Option<Endpoint>,
    active: Active,
}

impl SessionPlane {
    pub(crate) fn new(
        inner: Arc<Inner>,
        row: SessionRow,
        claimed: &Committed,
        endpoint: Endpoint,
        active: Active,
    ) -> Result<Self, PlaneError> {
        let plane = Self::without_model(inner, row, claimed, active)?;
        Ok(Self {
            endpoint: Some(endpoint),
            ..plane
        })
    }

    pub(crate) fn without_model(
        inner: Arc<Inner>,
        row: SessionRow,
        claimed: &Committed,
        active: Active,
    ) -> Result<Self, PlaneError> {
        let agent: SessionAgent = read(&row.agent, "agent snapshot")?;
        let brief = crate::brief::brief(
            &agent,
            row.created_at,
            networking(&row.environment)?,
            &inner.catalog,
            inner.config.operator_prompt.clone(),
        );
        Ok(Self {
            session: row.id,
            thread: claimed.state.primary.id,
            history_from: claimed.state.primary.history_from,
            generation: claimed.state.generation,
            inner,
            brief,
            endpoint: None,
            active,
        })
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a RawValue, what: &str) -> Result<T, PlaneError> {
    serde_json::from_str(json.get()).map_err(|e| PlaneError::Bug(format!("stored {what}: {e}")))
}

#[async_trait]
impl Plane for SessionPlane {
    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn endpoint(&self) -> &Endpoint {
        self.endpoint
            .as_ref()
            .expect("a harness runs only on a plane that has a model")
    }

    async fn transcript(&self) -> Result<Vec<Entry>, PlaneError> {
        let rows = self
            .inner
            .store
            .transcript(self.session, self.thread, self.history_from)
            .await;
        let rows = rows.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
        let entries = rows.into_iter().map(|row| match row.record {
            Some(record) => Ok(Some(recorded(row.seq, &row.kind, record))),
            None => entry(row.seq, &row.kind, &row.json),
        });
        entries.filter_map(Result::transpose).collect()
    }

    async fn report(&self, fact: Fact) -> Result<Taken, PlaneError> {
        // The record, and the event whose place it takes in the transcript.
        let mut record = match &fact {
            Fact::Replied { record, .. } => Some((record.clone(), "span.model_request_end")),
            Fact::Compacted { record, .. } => {
                Some((record.clone(), "agent.thread_context_compacted"))
            }
            Fact::RequestFailed { .. } | Fact::Finished { .. } | Fact::Interrupted { .. } => None,
        };
        let pace = if self.inner.draining.is_cancelled() {
            Pace::Halt
        } else {
            Pace::Go
        };
        let input = Input::Fact {
            generation: self.generation,
            thread: self.thread,
            fact: Box::new(fact),
            pace,
        };
        let (now, entropy) = (store::clock::now(), store::clock::entropy());
        let stored = self
            .inner
            .store
            .submit(Scope::Any, self.session, input, now, entropy)
            .await;
        let committed = stored.map_err(refused)?;
        let mut entries = Vec::new();
        for event in &committed.events {
            let Some(seq) = event.seq else { continue };
            if let Some((record, kind)) = record.take_if(|(_, kind)| *kind == event.kind) {
                entries.push(recorded(seq, kind, record));
            } else {
                entries.extend(entry(seq, &event.kind, &event.json)?);
            }
        }
        Ok(Taken {
            step: committed.step,
            entries,
        })
    }

    fn preview(&self, preview: Preview) {
        if !self.inner.store.is_watched(self.session) {
            return;
        }
        let (event, of, kind, json) = match preview {
            Preview::Message { id } => (
                id,
                "agent.message",
                PreviewKind::Start,
                start(id, "agent.message"),
            ),
            Preview::Thinking { id } => (
                id,
                "agent.thinking",
                PreviewKind::Start,
                start(id, "agent.thinking"),
            ),
            Preview::Text { id, index, text } => {
                let content = json!({"type": "text", "text": text});
                let delta = json!({"type": "content_delta", "index": index, "content": content});
                let json = json!({"type": "event_delta", "event_id": id, "delta": delta});
                (id, "agent.message", PreviewKind::Delta, json)
            }
        };
        let json = json.to_string().into();
        let preview = store::feed::Preview {
            thread: self.thread,
            event,
            of,
            kind,
            json,
        };
        self.inner.store.publish_preview(self.session, preview);
    }

    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, sandbox::Error> {
        self.inner.sandboxes.claim(self.session).await
    }

    fn cancelled(&self) -> CancellationToken {
        self.active.cancel.clone()
    }

    fn interrupted(&self) -> bool {
        self.active.interrupted()
    }

    fn mint(&self) -> EventId {
        EventId::from_bits(store::clock::id_bits(store::clock::now()))
    }
}

fn start(id: EventId, kind: &str) -> serde_json::Value {
    json!({"type": "event_start", "event": {"type": kind, "id": id}})
}

/// A recorded event as a transcript entry.
fn recorded(seq: u64, kind: &str, record: Box<RawValue>) -> Entry {
    let body = if kind == "agent.thread_context_compacted" {
        EntryBody::Summary { record }
    } else {
        EntryBody::Reply { record }
    };
    Entry { seq, body }
}

/// A stored event as a transcript entry, if the model is shown its kind.
fn entry(seq: u64, kind: &str, json: &str) -> Result<Option<Entry>, PlaneError> {
    #[derive(Deserialize)]
    struct Shown {
        #[serde(default)]
        content: Vec<Block>,
        #[serde(alias = "custom_tool_use_id")]
        tool_use_id: Option<EventId>,
        is_error: Option<bool>,
    }
    if !matches!(
        kind,
        "user.message" | "system.message" | "user.custom_tool_result" | "agent.tool_result"
    ) {
        return Ok(None);
    }
    let shown: Shown = serde_json::from_str(json)
        .map_err(|e| PlaneError::Bug(format!("stored event at {seq}: {e}")))?;
    let body = match shown.tool_use_id {
        None if kind == "system.message" => EntryBody::System {
            content: shown.content,
        },
        None => EntryBody::User {
            content: shown.content,
        },
        Some(call) => EntryBody::Result {
            call,
            content: shown.content,
            is_error: shown.is_error.unwrap_or(false),
        },
    };
    Ok(Some(Entry { seq, body }))
}

fn networking(environment: &RawValue) -> Result<Networking, PlaneError> {
    let environment: EnvironmentDefinition = read(environment, "environment snapshot")?;
    Ok(match environment.config {
        Config::Cloud(cloud) => match cloud.networking {
            Policy::Limited(_) => Networking::Limited,
            Policy::Unrestricted => Networking::Unrestricted,
        },
        Config::SelfHosted => Networking::Unrestricted,
    })
}

fn refused(error: SubmitError) -> PlaneError {
    match error {
        SubmitError::NotFound | SubmitError::Held { .. } => PlaneError::Lost,
        SubmitError::Refused(session::Refused::Stale { .. }) => PlaneError::Lost,
        SubmitError::Refused(refused) => PlaneError::Bug(refused.to_string()),
        SubmitError::Unavailable(cause) => PlaneError::Unavailable(cause),
        SubmitError::Bug(cause) => PlaneError::Bug(cause.to_string()),
    }
}
