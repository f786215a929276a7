//! Query strings of lists and streams (api.md §1.6), read as strictly as bodies: an unknown key is
//! refused, except `beta`, which old SDKs send. Cursors are passed on unread.

/// Defines `parse` of a query: reads the keys, then refuses whatever is left.
macro_rules! query {
    ($name:ident, $pairs:ident => $read:expr) => {
        impl $name {
            /// Reads the query string (without the question mark; empty if there is none).
            ///
            /// # Errors
            /// An unknown key, a key twice that is no list, or a value out of its domain; the path is
            /// the key.
            pub fn parse(query: &str) -> Result<Self, Invalid> {
                let mut $pairs = Pairs::read(query)?;
                let read = $read;
                $pairs.finish()?;
                Ok(read)
            }
        }
    };
}

mod egress;
mod files;
mod memories;
mod pairs;
mod sandboxes;
mod schedules;
mod work;

pub use egress::{EGRESS_ACTIONS, EgressExplain, EgressFilter, ListEgressAudit, StreamEgressAudit};
pub use files::{Files, ListBetaFiles, ListFiles, ListSkills};
pub use memories::{
    DeleteMemory, Depth, GetMemory, ListMemories, ListMemoryStores, ListMemoryVersions, WriteMemory,
};
pub(crate) use pairs::Pairs;
pub use sandboxes::{RemoveVolume, SandboxOutput, SandboxPath, SandboxPort};
pub use schedules::{ListDeploymentRuns, ListDeployments, ListDreams};
pub use work::{ExpectedHeartbeat, HeartbeatWork, PollWork};

use crate::event::Body;
use crate::ids::{AgentId, DeploymentId, MemoryStoreId};
use crate::limits::{
    EVENT_DELTAS, EVENTS_PAGE, FILES_PAGE, MODELS_PAGE, PAGE, QUERY_VALUES, RESOURCES_PAGE,
    SESSIONS_PAGE, THREADS_PAGE,
};
use crate::model::Lifecycle;
use crate::parse::Invalid;
use crate::session::Status;
use crate::time::Micros;

/// A direction of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

impl Order {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// How many items, between 1 and the cap of the list.
    pub limit: u32,
    /// The cursor, if any.
    pub page: Option<String>,
}

/// A range of instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Range {
    pub gt: Option<Micros>,
    pub gte: Option<Micros>,
    pub lt: Option<Micros>,
    pub lte: Option<Micros>,
}

/// `GET /v1/agents`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListAgents {
    pub paging: Paging,
    pub include_archived: bool,
    /// Only `gte` and `lte`.
    pub created_at: Range,
}

/// `GET /v1/agents/{id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetAgent {
    /// Absent: the latest.
    pub version: Option<u32>,
}

/// A list that only pages: versions of agents and skills, events of a thread, resources, work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListPlain {
    pub paging: Paging,
}

/// A list that pages and may show archived things: environments, vaults, credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListArchivable {
    pub paging: Paging,
    pub include_archived: bool,
}

/// `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListSessions {
    pub paging: Paging,
    pub order: Order,
    pub include_archived: bool,
    pub created_at: Range,
    pub agent_id: Option<AgentId>,
    /// Only with `agent_id`.
    pub agent_version: Option<u32>,
    /// Without repetitions, in the order of the query; empty: all.
    pub statuses: Vec<Status>,
    /// No session of this build has one, so a list filtered by it is empty.
    pub deployment_id: Option<DeploymentId>,
    /// No session of this build has one, so a list filtered by it is empty.
    pub memory_store_id: Option<MemoryStoreId>,
}

/// `GET /v1/sessions/{id}/events`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListEvents {
    pub paging: Paging,
    pub order: Order,
    /// Compared with `processed_at`.
    pub created_at: Range,
    /// Without repetitions, in the order of the query; empty: all.
    pub types: Vec<&'static str>,
}

/// A stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamEvents {
    /// Preview `agent.message`.
    pub message_deltas: bool,
    /// Preview `agent.thinking`.
    pub thinking_deltas: bool,
}

/// `GET /v1/sessions/{id}/threads`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListThreads {
    pub paging: Paging,
    pub statuses: Vec<Status>,
}

/// `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListModels {
    pub limit: u32,
    pub after_id: Option<String>,
    pub before_id: Option<String>,
    /// Empty: active and deprecated.
    pub lifecycle: Vec<Lifecycle>,
}

/// Every type of event that a list can be filtered by (api.md §9.1).
pub const EVENT_TYPES: [&str; 41] = [
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "user.tool_result",
    "user.define_outcome",
    "system.message",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.tool_result",
    "agent.mcp_tool_use",
    "agent.mcp_tool_result",
    "agent.custom_tool_use",
    "agent.thread_message_received",
    "agent.thread_message_sent",
    "agent.thread_context_compacted",
    "session.status_running",
    "session.status_idle",
    "session.status_rescheduled",
    "session.status_terminated",
    "session.error",
    "session.updated",
    "session.usage",
    "session.thread_created",
    "session.thread_status_running",
    "session.thread_status_idle",
    "session.thread_status_rescheduled",
    "session.thread_status_terminated",
    "span.model_request_start",
    "span.model_request_end",
    "span.outcome_evaluation_start",
    "span.outcome_evaluation_ongoing",
    "span.outcome_evaluation_end",
    "workflow_run.created",
    "workflow_run.status_running",
    "workflow_run.status_idle",
    "workflow_run.status_ended",
    "workflow_run.error",
    "workflow_run.phase_started",
    "workflow_run.phase_ended",
];

const STATUSES: [(&str, Status); 4] = [
    ("rescheduling", Status::Rescheduling),
    ("running", Status::Running),
    ("idle", Status::Idle),
    ("terminated", Status::Terminated),
];
const ORDERS: [(&str, Order); 2] = [("asc", Order::Asc), ("desc", Order::Desc)];

query!(ListAgents, pairs => Self {
    paging: pairs.paging(PAGE)?,
    include_archived: pairs.boolean("include_archived")?.unwrap_or(false),
    created_at: Range {
        gte: pairs.instant("created_at[gte]")?,
        lte: pairs.instant("created_at[lte]")?,
        ..Range::default()
    },
});
query!(GetAgent, pairs => Self { version: pairs.positive("version")? });
query!(ListArchivable, pairs => Self {
    paging: pairs.paging(PAGE)?,
    include_archived: pairs.boolean("include_archived")?.unwrap_or(false),
});
query!(ListEvents, pairs => Self {
    paging: pairs.paging(EVENTS_PAGE)?,
    order: pairs.choice("order", &ORDERS)?.unwrap_or(Order::Asc),
    created_at: pairs.range()?,
    types: pairs.choices("types", &EVENT_TYPES.map(|name| (name, name)), QUERY_VALUES)?,
});
query!(ListThreads, pairs => Self {
    paging: pairs.paging(THREADS_PAGE)?,
    statuses: pairs.choices("statuses", &STATUSES, QUERY_VALUES)?,
});
query!(StreamEvents, pairs => {
    let kinds = [("agent.message", false), ("agent.thinking", true)];
    let asked = pairs.choices("event_deltas", &kinds, EVENT_DELTAS)?;
    Self { message_deltas: asked.contains(&false), thinking_deltas: asked.contains(&true) }
});
query!(ListSessions, pairs => {
    let agent_id = pairs.id("agent_id")?;
    let agent_version = pairs.positive("agent_version")?;
    if agent_version.is_some() && agent_id.is_none() {
        return Err(Invalid::at("agent_version", "only applies together with `agent_id`"));
    }
    Self {
        paging: pairs.paging(SESSIONS_PAGE)?,
        order: pairs.choice("order", &ORDERS)?.unwrap_or(Order::Desc),
        include_archived: pairs.boolean("include_archived")?.unwrap_or(false),
        created_at: pairs.range()?,
        agent_id,
        agent_version,
        statuses: pairs.choices("statuses", &STATUSES, QUERY_VALUES)?,
        deployment_id: pairs.id("deployment_id")?,
        memory_store_id: pairs.id("memory_store_id")?,
    }
});
query!(ListModels, pairs => {
    let stages = [
        ("active", Lifecycle::Active),
        ("deprecated", Lifecycle::Deprecated),
        ("retired", Lifecycle::Retired),
    ];
    let (after_id, before_id) = (pairs.text("after_id")?, pairs.text("before_id")?);
    if after_id.is_some() && before_id.is_some() {
        return Err(Invalid::at("before_id", "cannot stand together with `after_id`"));
    }
    Self {
        limit: pairs.limit(MODELS_PAGE)?,
        after_id,
        before_id,
        lifecycle: pairs.choices("lifecycle", &stages, QUERY_VALUES)?,
    }
});

impl ListPlain {
    /// Reads the query of a list of versions.
    ///
    /// # Errors
    /// As every query here.
    pub fn parse_versions(query: &str) -> Result<Self, Invalid> {
        Self::parse(query, PAGE)
    }

    /// Reads the query of a list of a thread's events.
    ///
    /// # Errors
    /// As every query here.
    pub fn parse_thread_events(query: &str) -> Result<Self, Invalid> {
        Self::parse(query, EVENTS_PAGE)
    }

    /// Reads the query of a list of a session's resources: all of them unless it says otherwise.
    ///
    /// # Errors
    /// As every query here.
    pub fn parse_resources(query: &str) -> Result<Self, Invalid> {
        Self::parse(query, RESOURCES_PAGE)
    }

    /// Reads the query of a list of a skill's versions.
    ///
    /// # Errors
    /// As every query here.
    pub fn parse_skill_versions(query: &str) -> Result<Self, Invalid> {
        Self::parse(query, FILES_PAGE)
    }

    /// Reads the query of a list of work.
    ///
    /// # Errors
    /// As every query here.
    pub fn parse_work(query: &str) -> Result<Self, Invalid> {
        Self::parse(query, PAGE)
    }

    fn parse(query: &str, limits: (u32, u32)) -> Result<Self, Invalid> {
        let mut pairs = Pairs::read(query)?;
        let paging = pairs.paging(limits)?;
        pairs.finish()?;
        Ok(Self { paging })
    }
}

/// For a route that takes no query: refuses any key but `beta`.
///
/// # Errors
/// There is a key; the path is the key.
pub fn none(query: &str) -> Result<(), Invalid> {
    Pairs::read(query)?.finish()
}

impl ListEvents {
    /// True if the filter lets an event through by its type.
    #[must_use]
    pub fn wants(&self, body: &Body) -> bool {
        self.types.is_empty() || self.types.contains(&body.kind())
    }
}
