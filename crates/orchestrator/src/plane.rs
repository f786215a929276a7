//! The session plane as one run sees it: facts go to the store under the run's generation, previews to
//! the feed, tool calls to the session's sandbox.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::agent::SessionAgent;
use contract::client_event::Rubric;
use contract::content::Block;
use contract::environment::{Config, EnvironmentDefinition, Networking as Policy};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use harness::{
    Brief, Entry, EntryBody, Fact, Networking, Plane, PlaneError, Preview, Spent, Taken,
};
use model::{Endpoint, Usage};
use sandbox::{DiaryEntry, Sandbox, Terms, Visit};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use session::{Cost, Generation, Input, Pace};
use store::SubmitError;
use store::feed::PreviewKind;
use store::sessions::{Committed, Scope, SessionRow};
use store::timeline::{Beside, Binding, Mark};
use tokio_util::sync::CancellationToken;

use crate::Inner;
use crate::active::Active;
use crate::faults::{self, Fault};

/// One run's view of its session.
pub(crate) struct SessionPlane {
    inner: Arc<Inner>,
    session: SessionId,
    thread: ThreadId,
    generation: Generation,
    /// Where the transcript starts: the last compaction.
    history_from: u64,
    /// The last place of the log that the harness knows: what a client puts there while a turn runs, the
    /// harness does not hear by itself.
    heard: AtomicU64,
    brief: Brief,
    /// How its sandbox is to be kept.
    terms: Terms,
    /// Until the run ends its sandbox makes room for no other.
    visit: Mutex<Option<Visit>>,
    endpoint: Option<Endpoint>,
    active: Active,
    /// What is stored along with the next fact.
    beside: Mutex<Beside>,
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
            &claimed.state.primary.rules,
            row.created_at,
            networking(&row.environment, inner.config.network)?,
            &inner.catalog,
            inner.config.operator_prompt.clone(),
        );
        let beside = Beside {
            binding: Some(binding(&inner, row.id, inner.sandboxes.runs(row.id))?),
            ..Beside::default()
        };
        Ok(Self {
            beside: Mutex::new(beside),
            session: row.id,
            thread: claimed.state.primary.id,
            history_from: claimed.state.primary.history_from,
            heard: AtomicU64::new(claimed.state.next_seq - 1),
            generation: claimed.state.generation,
            inner,
            brief,
            terms: crate::sandboxes::terms(&row),
            visit: Mutex::default(),
            endpoint: None,
            active,
        })
    }
}

/// Where the session runs, as it is served.
fn binding(inner: &Inner, session: SessionId, sandboxed: bool) -> Result<Binding, PlaneError> {
    let body = json!({
        "harness": inner.harness.name(),
        "runner": inner.holder.0,
        "sandbox": sandboxed.then(|| session.to_string()),
    });
    let body = to_raw_value(&body).map_err(|e| PlaneError::Bug(e.to_string()))?;
    Ok(Binding { body })
}

impl SessionPlane {
    /// What the model is shown, from that place on.
    async fn read_from(&self, from: u64) -> Result<Vec<Entry>, PlaneError> {
        let rows = self
            .inner
            .store
            .transcript(self.session, self.thread, from)
            .await;
        let rows = rows.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
        if let Some(last) = rows.last() {
            self.heard.fetch_max(last.seq, Ordering::AcqRel);
        }
        let entries = rows.into_iter().map(|row| match row.record {
            Some(record) => Ok(Some(recorded(row.seq, &row.kind, record))),
            None => entry(row.seq, &row.kind, &row.json),
        });
        entries.filter_map(Result::transpose).collect()
    }

    fn note(&self, change: impl FnOnce(&mut Beside)) {
        // What is noted explains and decides nothing: half of it is as good as none.
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut beside);
    }

    /// Notes that `took` was spent until now.
    fn mark(&self, spent: store::timeline::Spent, took: Duration) {
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let mark = Mark {
            spent,
            at: Micros(self.inner.now().0 - took),
            took,
            detail: RawValue::NULL.to_owned(),
        };
        self.note(|beside| beside.marks.push(mark));
    }

    /// Notes what happened to the sandbox.
    fn tell(&self, news: &DiaryEntry) {
        let steps = news.steps.iter();
        let steps = steps.map(|step| (step.name.clone(), json!(step.took)));
        let detail = json!({
            "what": news.what.name(),
            "why": news.why,
            "steps_us": steps.collect::<serde_json::Map<_, _>>(),
        });
        let took = i64::try_from(news.took).unwrap_or(i64::MAX);
        let mark = Mark {
            spent: store::timeline::Spent::Sandbox,
            at: Micros(news.at.saturating_sub(took)),
            took,
            detail: to_raw_value(&detail).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        };
        self.note(|beside| beside.marks.push(mark));
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

    fn price(&self, usage: &Usage) -> Option<Cost> {
        self.inner.catalog.price(&self.brief.model, usage)
    }

    fn spent(&self, on: Spent, took: Duration) {
        let spent = match on {
            Spent::Model => store::timeline::Spent::Model,
            Spent::Tool => store::timeline::Spent::Tool,
            Spent::Judge => store::timeline::Spent::Judge,
            Spent::Grade => store::timeline::Spent::Grade,
        };
        self.mark(spent, took);
    }

    async fn transcript(&self) -> Result<Vec<Entry>, PlaneError> {
        self.read_from(self.history_from).await
    }

    async fn report(&self, fact: Fact) -> Result<Taken, PlaneError> {
        let ended = match &fact {
            Fact::Finished { call, .. } | Fact::Lost { call } => Some(*call),
            _ => None,
        };
        // The record, and the event whose place it takes in the transcript.
        let mut record = match &fact {
            Fact::Replied { record, .. } => Some((record.clone(), "span.model_request_end")),
            Fact::Compacted { record, .. } => {
                Some((record.clone(), "agent.thread_context_compacted"))
            }
            Fact::RequestFailed { .. }
            | Fact::Grading { .. }
            | Fact::Graded { .. }
            | Fact::Finished { .. }
            | Fact::Lost { .. }
            | Fact::Interrupted { .. } => None,
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
        let (now, entropy) = (self.inner.now(), self.inner.config.clock.entropy());
        let mut beside = Beside::default();
        self.note(|noted| beside = std::mem::take(noted));
        let stored = self
            .inner
            .store
            .submit_beside(Scope::Any, self.session, input, now, entropy, beside)
            .await;
        if faults::on(Fault::LateAck) && matches!(stored, Err(SubmitError::Unavailable(_))) {
            return Ok(Taken {
                step: harness::Step::Rest,
                entries: Vec::new(),
            });
        }
        let committed = stored.map_err(refused)?;
        if let Some(call) = ended {
            self.inner.sandboxes.taken(self.session, call);
        }
        let last = committed.state.next_seq - 1;
        let heard = self.heard.swap(last, Ordering::AcqRel);
        if last - committed.events.len() as u64 > heard {
            // A client answered something meanwhile: its events stand between, and are heard in their order.
            let entries = self.read_from(heard + 1).await?;
            let step = committed.step;
            return Ok(Taken { step, entries });
        }
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
        let claim = self.inner.sandboxes.claim(self.session, &self.terms);
        // It may wait for long, and an interrupt waits for nothing.
        let claimed = self.active.cancel.run_until_cancelled(claim).await;
        let visit = claimed.unwrap_or(Err(sandbox::Error::Cancelled))?;
        let (sandbox, started) = (Arc::clone(&visit), visit.started);
        *self.visit.lock().unwrap_or_else(PoisonError::into_inner) = Some(visit);
        for news in self.inner.sandboxes.news(self.session).await {
            self.tell(&news);
        }
        if started {
            let bound = binding(&self.inner, self.session, true);
            self.note(|beside| beside.binding = bound.ok());
        }
        Ok(sandbox)
    }

    async fn left_sandbox(&self) -> Result<Option<Arc<dyn Sandbox>>, sandbox::Error> {
        self.inner.sandboxes.left(self.session).await
    }

    fn cancelled(&self) -> CancellationToken {
        self.active.cancel.clone()
    }

    fn interrupted(&self) -> bool {
        self.active.interrupted()
    }

    fn mint(&self) -> EventId {
        EventId::from_bits(self.inner.config.clock.id_bits())
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

/// A stored outcome or verdict as a transcript entry.
fn aim(kind: &str, json: &str) -> Result<Option<EntryBody>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Defined {
        description: String,
        rubric: Rubric,
    }
    #[derive(Deserialize)]
    struct Ended {
        result: String,
        explanation: String,
    }
    Ok(match kind {
        "user.define_outcome" => {
            let Defined {
                description,
                rubric,
            } = serde_json::from_str(json)?;
            match rubric {
                Rubric::Text(rubric) => Some(EntryBody::Outcome {
                    description,
                    rubric: rubric.content,
                }),
                // Refused at the edge until there is a Files API.
                Rubric::File(_) => None,
            }
        }
        "span.outcome_evaluation_end" => {
            let Ended {
                result,
                explanation,
            } = serde_json::from_str(json)?;
            Some(EntryBody::Verdict {
                result,
                explanation,
            })
        }
        _ => None,
    })
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
    let bad = |e| PlaneError::Bug(format!("stored event at {seq}: {e}"));
    if let Some(body) = aim(kind, json).map_err(bad)? {
        return Ok(Some(Entry { seq, body }));
    }
    if !matches!(
        kind,
        "user.message" | "system.message" | "user.custom_tool_result" | "agent.tool_result"
    ) {
        return Ok(None);
    }
    let shown: Shown = serde_json::from_str(json).map_err(bad)?;
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

fn networking(environment: &RawValue, is_carried: bool) -> Result<Networking, PlaneError> {
    if !is_carried {
        return Ok(Networking::Off);
    }
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
        // Facts keep nothing beside them.
        full @ SubmitError::Full { .. } => PlaneError::Bug(full.to_string()),
        SubmitError::Unavailable(cause) => PlaneError::Unavailable(cause),
        SubmitError::Bug(cause) => PlaneError::Bug(cause.to_string()),
    }
}
