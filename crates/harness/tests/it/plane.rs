//! A session plane in memory: the real core, a real sandbox, no store. Enough to run a turn.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use contract::client_event::Rubric;
use contract::content::Block;
use contract::event::{Body, Permission};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use harness::{
    Brief, BuiltinTool, Entry, EntryBody, Fact, Networking, Plane, PlaneError, Preview, Spent,
    Taken,
};
use model::{BaseUrl, Catalog, Dialect, Endpoint, KeySource, Origin, Secret, Usage};
use sandbox::{Local, Provider as _, Sandbox, SandboxId, Spec};
use serde_json::value::RawValue;
use session::input::Called;
use session::policy::{ToolRule, ToolRules};
use session::{
    Around, Command, Cost, Decision, Input, Opening, Pace, Step, UserEvent, decide, open,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The name of the session's sandbox.
pub const SANDBOX: &str = "sesn_test";

/// Where what a run reports is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The model's reply, which nobody has stored.
    Reply,
    /// The same when it is in the log, and the run has not heard that.
    ReplyStored,
    /// The result of a call, which nobody has stored.
    Result,
    /// The same when it is in the log, and the run has not heard that.
    ResultStored,
}

pub struct MemoryPlane {
    brief: Brief,
    endpoint: Endpoint,
    sandbox: tokio::sync::Mutex<Arc<dyn Sandbox>>,
    provider: Local,
    /// Whether something is held up just now.
    holds: watch::Sender<bool>,
    inner: Mutex<Inner>,
    pub cancel: CancellationToken,
}

struct Inner {
    state: session::State,
    entries: Vec<Entry>,
    kinds: Vec<&'static str>,
    previews: Vec<Preview>,
    /// What is held up next.
    hold: Option<At>,
    /// How each process of the loop came to be there.
    placed: Vec<&'static str>,
    /// The calls of the log.
    called: BTreeMap<EventId, Called>,
    ids: u128,
    now: i64,
}

impl MemoryPlane {
    /// A session that was sent `text` and is claimed; returns its first step.
    pub async fn on(text: &str, base_url: &str, home: &std::path::Path) -> (Self, Step) {
        let rules = BuiltinTool::ALL.map(|t| (t.name().to_owned(), ToolRule::Allow));
        let rules = ToolRules(rules.into_iter().collect());
        Self::with(text, base_url, home, rules, |_| {}).await
    }

    /// The same under these rules, with a brief that is changed first.
    pub async fn with(
        text: &str,
        base_url: &str,
        home: &std::path::Path,
        rules: ToolRules,
        change: impl FnOnce(&mut Brief),
    ) -> (Self, Step) {
        Self::having(text, base_url, home, rules, None, change).await
    }

    /// The same, whose sandbox sees these programs.
    pub async fn having(
        text: &str,
        base_url: &str,
        home: &std::path::Path,
        rules: ToolRules,
        programs: Option<std::path::PathBuf>,
        change: impl FnOnce(&mut Brief),
    ) -> (Self, Step) {
        let provider = {
            let dir = home.join("sandboxes");
            let mut config = sandbox::Config::beside(&dir);
            config.programs = programs;
            Local::new(dir, config).unwrap()
        };
        let id = SandboxId::new(SANDBOX).unwrap();
        let sandbox = provider.attach(Spec::new(id)).await.unwrap();
        let opening = Opening {
            session: SessionId::from_bits(1),
            thread: ThreadId::from_bits(2),
            agent_name: "tester".to_owned(),
            rules: rules.clone(),
            budget: None,
            initial: vec![UserEvent::Message {
                content: vec![Block::text(text)],
            }],
        };
        let first = open(
            opening,
            &Around {
                now: Micros(1),
                entropy: 3,
                ..Around::default()
            },
        );
        let inner = Inner {
            state: first.state.clone(),
            entries: Vec::new(),
            kinds: Vec::new(),
            previews: Vec::new(),
            placed: Vec::new(),
            hold: None,
            called: BTreeMap::new(),
            ids: 1 << 100,
            now: 1,
        };
        let mut brief = brief(&rules);
        change(&mut brief);
        let plane = Self {
            brief,
            endpoint: endpoint(base_url),
            sandbox: tokio::sync::Mutex::new(sandbox),
            provider,
            holds: watch::Sender::new(false),
            inner: Mutex::new(inner),
            cancel: CancellationToken::new(),
        };
        plane.take(&first, None);
        let claimed = plane.decide(Input::Claim).unwrap();
        plane.take(&claimed, None);
        (plane, claimed.step)
    }

    /// What runs in the sandbox goes on without its server, and somebody else claims the session: the first step. What
    /// drove it before is to be dropped.
    pub fn claim_again(&self) -> Step {
        self.go_on();
        let claimed = self.decide(Input::Claim).unwrap();
        self.take(&claimed, None);
        claimed.step
    }

    /// As if the server was gone: nothing that is dropped here ends anything there.
    pub async fn lose_server(&self) {
        self.provider.leave().await;
    }

    /// The next that comes so far is held up until [`Self::go_on`].
    pub fn hold(&self, at: At) {
        self.inner.lock().unwrap().hold = Some(at);
    }

    /// Whether that has come.
    pub fn is_holding(&self) -> bool {
        *self.holds.borrow()
    }

    /// Lets go of it.
    pub fn go_on(&self) {
        self.holds.send_replace(false);
    }

    async fn held_up(&self, at: Option<At>) {
        let held = { self.inner.lock().unwrap() }
            .hold
            .take_if(|hold| Some(*hold) == at);
        if held.is_some() {
            let mut holds = self.holds.subscribe();
            self.holds.send_replace(true);
            holds.wait_for(|holds| !holds).await.unwrap();
        }
    }

    /// Sends a message to the session at rest and claims it; returns the first step.
    pub fn say(&self, text: &str) -> Step {
        let content = vec![Block::text(text)];
        self.send(vec![UserEvent::Message { content }])
    }

    /// Sends events to the session at rest and claims it; returns the first step.
    pub fn send(&self, events: Vec<UserEvent>) -> Step {
        let message = Input::Command(Command::Send(events));
        let mut step = Step::Rest;
        for input in [message, Input::Claim] {
            let decision = self.decide(input).unwrap();
            self.take(&decision, None);
            step = decision.step;
        }
        step
    }

    /// The same session behind another dialect of the server at `base_url`.
    pub fn speaking(mut self, dialect: Dialect, base_url: &str) -> Self {
        self.endpoint = endpoint(base_url);
        self.endpoint.dialect = dialect;
        self
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        self.inner.lock().unwrap().kinds.clone()
    }

    pub fn placed_so_far(&self) -> Vec<&'static str> {
        self.inner.lock().unwrap().placed.clone()
    }

    pub fn state(&self) -> session::State {
        self.inner.lock().unwrap().state.clone()
    }

    pub fn previews(&self) -> Vec<Preview> {
        self.inner.lock().unwrap().previews.clone()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.inner.lock().unwrap().entries.clone()
    }

    fn decide(&self, input: Input) -> Result<Decision, session::Refused> {
        let mut inner = self.inner.lock().unwrap();
        inner.now += 1;
        inner.ids += 1;
        let around = Around {
            now: Micros(inner.now),
            entropy: inner.ids,
            calls: inner.called.clone(),
            ..Around::default()
        };
        let decision = decide(&inner.state, input, around)?;
        inner.state = decision.state.clone();
        Ok(decision)
    }

    fn take(&self, decision: &Decision, record: Option<Box<RawValue>>) -> Vec<Entry> {
        let mut record = record;
        let mut entries = Vec::new();
        let mut inner = self.inner.lock().unwrap();
        let mut events = decision.events.iter();
        let condensed = events.any(|e| matches!(e.event.body, Body::ThreadContextCompacted {}));
        for placed in &decision.events {
            inner.kinds.push(placed.event.body.kind());
            inner.note(placed.event.id, &placed.event.body);
            let body = match &placed.event.body {
                Body::UserMessage { content } => EntryBody::User {
                    content: content.clone(),
                },
                Body::SystemMessage { content } => EntryBody::System {
                    content: content.clone(),
                },
                Body::UserDefineOutcome {
                    description,
                    rubric: Rubric::Text(rubric),
                    ..
                } => EntryBody::Outcome {
                    description: description.clone(),
                    rubric: rubric.content.clone(),
                },
                Body::SpanOutcomeEvaluationEnd {
                    result,
                    explanation,
                    ..
                } => EntryBody::Verdict {
                    result: result.clone(),
                    explanation: explanation.clone(),
                },
                Body::ThreadContextCompacted {} => match record.take() {
                    Some(record) => EntryBody::Summary { record },
                    None => continue,
                },
                Body::AgentToolResult {
                    tool_use_id,
                    content,
                    is_error,
                } => EntryBody::Result {
                    call: *tool_use_id,
                    content: content.clone(),
                    is_error: *is_error,
                },
                Body::UserCustomToolResult {
                    custom_tool_use_id,
                    content,
                    is_error,
                    ..
                } => EntryBody::Result {
                    call: *custom_tool_use_id,
                    content: content.clone(),
                    is_error: is_error.unwrap_or(false),
                },
                Body::SpanModelRequestEnd { .. } if !condensed => match record.take() {
                    Some(record) => EntryBody::Reply { record },
                    None => continue,
                },
                _ => continue,
            };
            entries.push(Entry {
                seq: placed.seq,
                body,
            });
        }
        inner.entries.extend(entries.clone());
        entries
    }
}

impl Inner {
    /// Remembers a call.
    fn note(&mut self, id: EventId, body: &Body) {
        let thread = ThreadId::from_bits(2);
        if let Some(permission) = permission(body) {
            self.called.insert(id, Called { thread, permission });
        }
    }
}

/// What was evaluated for a call: none beside a client's tool.
fn permission(body: &Body) -> Option<Option<Permission>> {
    match body {
        Body::AgentToolUse {
            evaluated_permission,
            ..
        } => Some(Some(*evaluated_permission)),
        Body::AgentCustomToolUse { .. } => Some(None),
        _ => None,
    }
}

fn brief(rules: &ToolRules) -> Brief {
    Brief {
        model: "claude-sonnet-5-5".to_owned(),
        effort: None,
        max_tokens: 1_024,
        max_input_tokens: 200_000,
        judged: rules
            .0
            .keys()
            .filter(|n| rules.wants_judge(n))
            .cloned()
            .collect(),
        system: None,
        operator_prompt: None,
        builtin: BuiltinTool::ALL.to_vec(),
        custom: Vec::new(),
        team: None,
        networking: Networking::Unrestricted,
        date: "2026-11-21".to_owned(),
    }
}

fn endpoint(base_url: &str) -> Endpoint {
    Endpoint {
        dialect: Dialect::AnthropicMessages,
        base_url: BaseUrl::parse(base_url).unwrap(),
        key: Secret::new("key".to_owned()),
        key_source: KeySource("the test".to_owned()),
        headers: Vec::new(),
        model_map: BTreeMap::new(),
        origin: Origin::Operator,
    }
}

#[async_trait]
impl Plane for MemoryPlane {
    fn session(&self) -> SessionId {
        SessionId::from_bits(1)
    }

    fn brief(&self) -> &Brief {
        &self.brief
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn price(&self, usage: &Usage) -> Option<Cost> {
        Catalog::embedded().price(&self.brief.model, usage)
    }

    fn spent(&self, _: Spent, _: Duration) {}

    async fn transcript(&self) -> Result<Vec<Entry>, PlaneError> {
        Ok(self.entries())
    }

    async fn report(&self, fact: Fact) -> Result<Taken, PlaneError> {
        let (before, after) = match &fact {
            Fact::Replied { .. } => (Some(At::Reply), Some(At::ReplyStored)),
            Fact::Finished { .. } => (Some(At::Result), Some(At::ResultStored)),
            _ => (None, None),
        };
        self.held_up(before).await;
        let record = match &fact {
            Fact::Replied { record, .. } | Fact::Compacted { record, .. } => Some(record.clone()),
            _ => None,
        };
        let state = self.state();
        let input = Input::Fact {
            generation: state.generation,
            thread: state.primary.id,
            fact: Box::new(fact),
            pace: Pace::Go,
        };
        let decision = self
            .decide(input)
            .map_err(|e| PlaneError::Bug(e.to_string()))?;
        let entries = self.take(&decision, record);
        self.held_up(after).await;
        Ok(Taken {
            step: decision.step,
            entries,
        })
    }

    fn preview(&self, preview: Preview) {
        self.inner.lock().unwrap().previews.push(preview);
    }

    async fn left_sandbox(&self) -> Result<Option<Arc<dyn Sandbox>>, sandbox::Error> {
        let sandbox = Arc::clone(&*self.sandbox.lock().await);
        Ok(Some(sandbox).filter(|sandbox| sandbox.is_alive()))
    }

    fn placed(&self, how: &'static str, _: Duration) {
        self.inner.lock().unwrap().placed.push(how);
    }

    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, sandbox::Error> {
        let mut sandbox = self.sandbox.lock().await;
        if !sandbox.is_alive() {
            let id = SandboxId::new(SANDBOX)?;
            *sandbox = self.provider.attach(Spec::new(id)).await?;
        }
        Ok(Arc::clone(&sandbox))
    }

    fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    fn interrupted(&self) -> bool {
        false
    }

    fn mint(&self) -> EventId {
        let mut inner = self.inner.lock().unwrap();
        inner.ids += 1;
        EventId::from_bits(inner.ids)
    }
}
