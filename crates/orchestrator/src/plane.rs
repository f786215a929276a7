//! The session plane as one run sees it: facts go to the store under the run's generation, previews to
//! the feed, tool calls to the session's sandbox.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::agent::{InlineAgent, ThreadAgent};
use contract::environment::{Config, EnvironmentDefinition, Networking as Policy};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use harness::{Brief, Entry, Fact, MadeUp, Networking, Plane, PlaneError, Preview, Spent, Taken};
use model::{Endpoint, Usage};
use sandbox::{DiaryEntry, Sandbox, Terms, Visit};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use session::policy::ToolRules;
use session::{Cost, Newcomer, State};
use store::SubmitError;
use store::feed::PreviewKind;
use store::timeline::{Beside, Mark};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::active::Working;
use crate::crew::Crew;
use crate::entries::{entry, recorded};
use crate::faults::{self, Fault};
use crate::loss::Loss;

/// The view that the run of one thread has of its session.
pub(crate) struct SessionPlane {
    crew: Arc<Crew>,
    thread: ThreadId,
    /// Whether it is the session's primary.
    primary: bool,
    /// Where the transcript starts: the last compaction.
    history_from: u64,
    /// The last place of the log that the harness knows: what others put there while a turn runs, the harness does
    /// not hear by itself.
    heard: AtomicU64,
    brief: Brief,
    /// How its sandbox is to be kept.
    terms: Terms,
    /// Until the thread rests the session's sandbox makes room for no other.
    visit: Mutex<Option<Visit>>,
    endpoint: Option<Endpoint>,
    working: Working,
    /// What is stored along with the next fact.
    beside: Mutex<Beside>,
}

impl SessionPlane {
    /// The view of `thread` as the session stands in `state`.
    pub(crate) fn new(
        crew: Arc<Crew>,
        thread: ThreadId,
        state: &State,
        brief: Brief,
        endpoint: Option<Endpoint>,
    ) -> Result<Self, PlaneError> {
        let held = state
            .thread(thread)
            .ok_or_else(|| PlaneError::Bug(format!("{thread} is not there")))?;
        Ok(Self {
            thread,
            primary: thread == state.primary.id,
            history_from: held.history_from,
            heard: AtomicU64::new(state.next_seq - 1),
            brief,
            terms: crate::sandboxes::terms(&crew.row),
            visit: Mutex::default(),
            endpoint,
            working: crew.active.work(held),
            beside: Mutex::default(),
            crew,
        })
    }
}

impl SessionPlane {
    /// What the model is shown, from that place on.
    async fn read_from(&self, from: u64) -> Result<Vec<Entry>, PlaneError> {
        let rows = self
            .crew
            .inner
            .store
            .transcript(self.crew.row.id, self.thread, from)
            .await;
        let rows = rows.map_err(|e| PlaneError::Unavailable(Box::new(e)))?;
        if let Some(last) = rows.last() {
            self.heard.fetch_max(last.seq, Ordering::AcqRel);
        }
        let entries = rows.into_iter().map(|row| match row.record {
            Some(record) => recorded(row.seq, &row.kind, &row.json, record).map(Some),
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
        // The turn is the session's; whose time it was stands beside.
        let detail =
            (!self.primary).then(|| to_raw_value(&json!({"session_thread_id": self.thread})));
        let mark = Mark {
            spent,
            at: Micros(self.crew.inner.now().0 - took),
            took,
            detail: detail
                .and_then(Result::ok)
                .unwrap_or_else(|| RawValue::NULL.to_owned()),
        };
        self.note(|beside| beside.marks.push(mark));
    }

    /// A result from a workspace that the model does not know says so. What it says is the loss, if it does.
    fn tell_of_loss(&self, fact: &mut Fact) -> Option<&Loss> {
        let visited = self
            .visit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        let lost = self.crew.lost.as_ref().filter(|_| visited)?;
        let Fact::Finished { content, .. } = fact else {
            return None;
        };
        content.insert(0, lost.to_tell()?);
        Some(lost)
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
        self.mark_sandbox(news.at, news.took, &detail);
    }

    /// Notes that something took `took` microseconds until `at` in, or with, the sandbox.
    fn mark_sandbox(&self, at: i64, took: u64, detail: &serde_json::Value) {
        let took = i64::try_from(took).unwrap_or(i64::MAX);
        let mark = Mark {
            spent: store::timeline::Spent::Sandbox,
            at: Micros(at.saturating_sub(took)),
            took,
            detail: to_raw_value(detail).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        };
        self.note(|beside| beside.marks.push(mark));
    }
}

pub(crate) fn read<'a, T: Deserialize<'a>>(
    json: &'a RawValue,
    what: &str,
) -> Result<T, PlaneError> {
    serde_json::from_str(json.get()).map_err(|e| PlaneError::Bug(format!("stored {what}: {e}")))
}

#[async_trait]
impl Plane for SessionPlane {
    fn session(&self) -> SessionId {
        self.crew.row.id
    }

    fn caller(&self) -> Option<String> {
        (!self.primary).then(|| self.thread.to_string())
    }

    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn endpoint(&self) -> &Endpoint {
        self.endpoint
            .as_ref()
            .expect("a harness runs only on a plane that has a model")
    }

    fn price(&self, usage: &Usage) -> Option<Cost> {
        self.price_of(&self.brief.model, usage)
    }

    fn price_of(&self, model: &str, usage: &Usage) -> Option<Cost> {
        self.crew.inner.catalog.price(model, usage)
    }

    fn newcomer(&self, name: &str) -> Option<Newcomer> {
        let team = self
            .crew
            .agent
            .multiagent
            .as_ref()
            .filter(|_| self.primary)?;
        let members = crate::brief::members(team);
        let (name, agent) = members.into_iter().find(|(known, _)| known == name)?;
        newcomer(
            name,
            &agent.tools,
            ThreadAgent::Agent(Box::new(agent.clone())),
        )
    }

    fn made_up(&self, agent: MadeUp) -> Option<Newcomer> {
        let lead = &self.crew.agent;
        lead.multiagent
            .as_ref()
            .filter(|team| self.primary && team.makes_up())?;
        let MadeUp {
            name,
            description,
            system,
        } = agent;
        let agent = InlineAgent {
            name: name.clone(),
            description,
            system,
            model: lead.model.clone(),
            tools: lead.tools.clone(),
            mcp_servers: lead.mcp_servers.clone(),
            skills: lead.skills.clone(),
            execution_identity: lead.execution_identity.clone(),
        };
        newcomer(name, &lead.tools, ThreadAgent::Inline(Box::new(agent)))
    }

    fn spent(&self, on: Spent, took: Duration) {
        let spent = match on {
            Spent::Model => store::timeline::Spent::Model,
            Spent::Tool => store::timeline::Spent::Tool,
            Spent::Judge => store::timeline::Spent::Judge,
            Spent::Grade => store::timeline::Spent::Grade,
            Spent::Advisor => store::timeline::Spent::Advisor,
        };
        self.mark(spent, took);
    }

    fn placed(&self, how: &'static str, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = self.crew.inner.now().0;
        let what = format!("{} {how}", self.crew.harness());
        self.mark_sandbox(at, took, &json!({ "what": what }));
        self.crew.whereabouts.placed(how);
    }

    async fn transcript(&self) -> Result<Vec<Entry>, PlaneError> {
        self.read_from(self.history_from).await
    }

    async fn report(&self, mut fact: Fact) -> Result<Taken, PlaneError> {
        let lost = self.tell_of_loss(&mut fact);
        let ended = match &fact {
            Fact::Finished { call, .. } | Fact::Lost { call } => Some(*call),
            _ => None,
        };
        let mut record = record_of(&fact);
        let mut beside = Beside::default();
        self.note(|noted| beside = std::mem::take(noted));
        let stored = self.crew.report(self.thread, fact, beside, lost).await;
        if faults::on(Fault::LateAck) && matches!(stored, Err(SubmitError::Unavailable(_))) {
            return Ok(Taken {
                step: harness::Step::Rest,
                entries: Vec::new(),
            });
        }
        let committed = stored.map_err(refused)?;
        if let Some(call) = ended {
            self.crew.inner.sandboxes.taken(self.crew.row.id, call);
        }
        let step = committed.step;
        let last = committed.state.next_seq - 1;
        let own = committed.events.iter().filter(|e| e.thread == self.thread);
        let own = own.collect::<Vec<_>>();
        // Others put something there meanwhile, which is heard in its order; or an advisor's answer, which only the
        // log can join with its call.
        let gap = last - committed.events.len() as u64 > self.heard.load(Ordering::Acquire);
        let advice = own
            .iter()
            .any(|e| e.kind == "agent.thread_message_received");
        if gap || advice {
            let entries = self
                .read_from(self.heard.load(Ordering::Acquire) + 1)
                .await?;
            self.heard.fetch_max(last, Ordering::AcqRel);
            return Ok(Taken { step, entries });
        }
        self.heard.store(last, Ordering::Release);
        let mut entries = Vec::new();
        for event in own {
            let Some(seq) = event.seq else { continue };
            if let Some((record, kind)) = record.take_if(|(_, kind)| *kind == event.kind) {
                entries.push(recorded(seq, kind, &event.json, record)?);
            } else {
                entries.extend(entry(seq, &event.kind, &event.json)?);
            }
        }
        Ok(Taken { step, entries })
    }

    fn preview(&self, preview: Preview) {
        if !self.crew.inner.store.is_watched(self.crew.row.id) {
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
        let session = self.crew.row.id;
        self.crew.inner.store.publish_preview(session, preview);
    }

    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, sandbox::Error> {
        let (inner, row) = (&self.crew.inner, &self.crew.row);
        let begun = Instant::now();
        let claim = async {
            if let Some(at) = self.crew.regain().await? {
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                let what = json!({"what": "restored", "from": at});
                self.mark_sandbox(inner.now().0, took, &what);
            }
            inner.sandboxes.claim(row.id, &self.terms).await
        };
        // It may wait for long, and an interrupt waits for nothing.
        let claimed = self.working.cancel.run_until_cancelled(claim).await;
        let visit = claimed.unwrap_or(Err(sandbox::Error::Cancelled))?;
        let sandbox = Arc::clone(&visit);
        self.crew.uses_sandbox();
        self.crew.tell_callers(sandbox.as_ref());
        self.crew.open_door(&sandbox).await;
        *self.visit.lock().unwrap_or_else(PoisonError::into_inner) = Some(visit);
        for news in inner.sandboxes.news(row.id).await {
            self.tell(&news);
        }
        Ok(sandbox)
    }

    async fn left_sandbox(&self) -> Result<Option<Arc<dyn Sandbox>>, sandbox::Error> {
        self.crew.inner.sandboxes.left(self.crew.row.id).await
    }

    fn cancelled(&self) -> CancellationToken {
        self.working.cancel.clone()
    }

    fn interrupted(&self) -> bool {
        self.working.interrupted()
    }

    fn mint(&self) -> EventId {
        EventId::from_bits(self.crew.inner.config.clock.id_bits())
    }
}

fn start(id: EventId, kind: &str) -> serde_json::Value {
    json!({"type": "event_start", "event": {"type": kind, "id": id}})
}

/// An agent of a team for a thread of its own.
fn newcomer(name: String, tools: &[contract::tools::Tool], agent: ThreadAgent) -> Option<Newcomer> {
    Some(Newcomer {
        name,
        rules: ToolRules::of(tools),
        snapshot: to_raw_value(&agent).ok()?,
    })
}

pub(crate) fn networking(
    environment: &RawValue,
    is_carried: bool,
) -> Result<Networking, PlaneError> {
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

pub(crate) fn refused(error: SubmitError) -> PlaneError {
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

/// The record that a fact brings, and the event whose place it takes in the transcript.
fn record_of(fact: &Fact) -> Option<(Box<RawValue>, &'static str)> {
    match fact {
        Fact::Replied { record, .. } => Some((record.clone(), "span.model_request_end")),
        Fact::Compacted { record, .. } => Some((record.clone(), "agent.thread_context_compacted")),
        Fact::Delegated { .. }
        | Fact::Advised { .. }
        | Fact::TakeUp
        | Fact::HostUnreachable { .. }
        | Fact::UsedInside { .. }
        | Fact::RequestFailed { .. }
        | Fact::Grading { .. }
        | Fact::Graded { .. }
        | Fact::Finished { .. }
        | Fact::Lost { .. }
        | Fact::Interrupted { .. } => None,
    }
}
