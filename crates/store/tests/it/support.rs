//! Fixtures: a store in a place of its own, and sessions with defaults. They decide nothing.

use std::collections::BTreeMap;
use std::path::Path;

use contract::content::Block;
use contract::event::ModelUsage;
use contract::ids::{AgentId, EnvironmentId, EventId, SessionId, ThreadId, WorkspaceId};
use contract::time::Micros;
use serde_json::value::RawValue;
use session::input::{Profile, ReplyEnd};
use session::policy::{ToolRule, ToolRules};
use session::{
    Command, Cost, Fact, Generation, Input, Opening, Pace, ProposedCall, Used, UserEvent,
};
use store::runs::Holder;
use store::sessions::{Committed, NewSession, Scope, SessionRow};
use store::{Options, Store, SubmitError, Synchronous, clock};

use crate::cluster::Database;

pub(crate) const WS: WorkspaceId = WorkspaceId::Default;
/// Where the tests' time begins.
pub(crate) const T0: i64 = 1_790_000_000_000_000;

pub(crate) fn at(n: i64) -> Micros {
    Micros(T0 + n)
}

/// Where a store is, for as long as this lives: it goes with it.
pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(Database),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(prepared())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite://{}/t.db", dir.path().display()),
            Self::Postgres(database) => database.url(),
        }
    }

    /// The directory of its files, if they are this store's alone.
    pub(crate) fn files(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(dir) => Some(dir.path()),
            Self::Postgres(_) => None,
        }
    }

    pub(crate) async fn open(&self, options: Options) -> Store {
        open(&self.url(), options).await
    }
}

pub(crate) async fn open(url: &str, options: Options) -> Store {
    Store::connect(url, options).await.expect("a store")
}

/// A database that a store has made ready.
pub(crate) fn prepared() -> Database {
    Database::prepared(|url| {
        let url = url.to_owned();
        let made = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async { open(&url, options()).await.close().await });
        });
        made.join().expect("a database made ready");
    })
}

/// The tables that grow. No operation reads one from end to end.
const GROWING: [&str; 17] = [
    "agents",
    "agent_versions",
    "bindings",
    "credentials",
    "environments",
    "events",
    "inbox",
    "kept_answers",
    "outcomes",
    "records",
    "refreshes",
    "session_states",
    "sessions",
    "threads",
    "timeline",
    "usage_days",
    "vaults",
];

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Postgres(database) = self
            && !std::thread::panicking()
        {
            let scanned = database.scanned(&GROWING);
            assert_eq!(scanned, "", "tables that were read from end to end");
        }
    }
}

/// Without syncing: only the crash tests need the disk.
pub(crate) fn options() -> Options {
    Options {
        synchronous: Synchronous::Off,
        ..Options::default()
    }
}

/// A store and its place.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    _place: Place,
}

impl Fixture {
    pub(crate) async fn at(place: Place) -> Self {
        let store = place.open(options()).await;
        Self {
            store,
            _place: place,
        }
    }
}

pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

pub(crate) fn agent_id(n: u128) -> AgentId {
    AgentId::from_bits(n)
}

pub(crate) fn environment_id(n: u128) -> EnvironmentId {
    EnvironmentId::from_bits(n)
}

pub(crate) fn message(text: &str) -> UserEvent {
    UserEvent::Message {
        content: vec![Block::text(text)],
    }
}

pub(crate) fn holder() -> Holder {
    Holder("here".to_owned())
}

/// An agent and an environment that sessions may use.
pub(crate) async fn definitions(store: &Store) -> (AgentId, EnvironmentId) {
    let (agent, environment) = (agent_id(1), environment_id(1));
    store
        .create_agent(WS, agent, raw(r#"{"name":"a"}"#), at(0))
        .await
        .expect("an agent");
    store
        .create_environment(WS, environment, "e".to_owned(), raw("{}"), at(0))
        .await
        .expect("an environment");
    (agent, environment)
}

pub(crate) fn new_session(
    id: u128,
    agent: AgentId,
    environment: EnvironmentId,
    initial: Vec<UserEvent>,
) -> NewSession {
    let rules = [("bash", ToolRule::Allow), ("ask", ToolRule::Custom)];
    NewSession {
        workspace: WS,
        agent_id: agent,
        agent_version: 1,
        agent: raw(r#"{"name":"a"}"#).into(),
        environment_id: environment,
        environment: raw("{}").into(),
        vault_ids: Vec::new(),
        profile: Profile::default(),
        opening: Opening {
            session: SessionId::from_bits(id),
            thread: ThreadId::from_bits(id),
            agent_name: "a".to_owned(),
            rules: ToolRules(rules.map(|(n, r)| (n.to_owned(), r)).into_iter().collect()),
            budget: None,
            initial,
        },
    }
}

/// A session of the fixture's agent, idle.
pub(crate) async fn idle(store: &Store) -> SessionRow {
    let (agent, environment) = definitions(store).await;
    let new = new_session(1, agent, environment, Vec::new());
    let made = store.create_session(new, at(1), clock::entropy()).await;
    *made.expect("a session")
}

pub(crate) async fn send(
    store: &Store,
    session: SessionId,
    events: Vec<UserEvent>,
    now: Micros,
) -> Result<Committed, SubmitError> {
    let input = Input::Command(Command::Send(events));
    store
        .submit(WS, session, input, now, clock::entropy())
        .await
}

pub(crate) async fn command(
    store: &Store,
    session: SessionId,
    command: Command,
    now: Micros,
) -> Result<Committed, SubmitError> {
    store
        .submit(WS, session, Input::Command(command), now, clock::entropy())
        .await
}

pub(crate) async fn claim(store: &Store, session: SessionId, now: Micros) -> Committed {
    let claimed = store
        .claim(session, holder(), None, now, clock::entropy())
        .await;
    claimed.expect("a claim")
}

pub(crate) async fn fact(
    store: &Store,
    session: SessionId,
    generation: Generation,
    fact: Fact,
    now: Micros,
) -> Result<Committed, SubmitError> {
    let row = store.session(Scope::Any, session).await;
    let (thread, fact) = match &row {
        Ok(row) => (row.state.primary.id, addressed(fact, &row.state)),
        Err(_) => (ThreadId::from_bits(0), fact),
    };
    let input = Input::Fact {
        generation,
        thread,
        fact: Box::new(fact),
        pace: Pace::Go,
    };
    store
        .submit(Scope::Any, session, input, now, clock::entropy())
        .await
}

/// The fact as an answer to the request that is open.
pub(crate) fn addressed(mut fact: Fact, state: &session::State) -> Fact {
    if let Fact::Replied { span, .. } | Fact::RequestFailed { span, .. } = &mut fact
        && let Some(open) = state.asking()
    {
        *span = open;
    }
    fact
}

/// A reply that says `text` and calls these tools, to no request yet.
pub(crate) fn reply(text: &str, calls: &[(u128, &str)]) -> Fact {
    let said = (EventId::from_bits(clock::entropy()), vec![text.to_owned()]);
    let call = |(id, name): &(u128, &str)| ProposedCall {
        id: EventId::from_bits(*id),
        name: (*name).to_owned(),
        input: raw(r#"{"x":1}"#),
        judgement: None,
    };
    Fact::Replied {
        span: EventId::from_bits(0),
        thinking: Vec::new(),
        message: Some(said),
        calls: calls.iter().map(call).collect(),
        record: raw(&format!(r#"{{"exact":"{text}"}}"#)),
        used: Used {
            usage: ModelUsage {
                input_tokens: 10,
                output_tokens: 5,
                ..ModelUsage::default()
            },
            cache_1h: 0,
            cost: Some(Cost(7)),
        },
        end: ReplyEnd::Complete,
        crowded: false,
    }
}

pub(crate) fn finished(call: u128) -> Fact {
    Fact::Finished {
        call: EventId::from_bits(call),
        content: vec![Block::text("done")],
        is_error: false,
    }
}

pub(crate) fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// Waits until `holds`, or fails after ten seconds.
pub(crate) async fn eventually<F, R>(what: &str, mut holds: F)
where
    F: FnMut() -> R,
    R: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}
