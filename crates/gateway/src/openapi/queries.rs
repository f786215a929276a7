//! The query parameters of each route as OpenAPI describes them. What is accepted is decided in
//! `contract::query`; a test holds the two together.

use contract::limits::{AUDIT_PAGE, EVENTS_PAGE, MODELS_PAGE, PAGE, SESSIONS_PAGE, THREADS_PAGE};
use contract::query::{EGRESS_ACTIONS, EVENT_TYPES};
use serde_json::{Value, json};

/// Which parameters a route takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Query {
    None,
    Agents,
    Agent,
    Versions,
    Archivable,
    Sessions,
    Events,
    ThreadEvents,
    Threads,
    Stream,
    Models,
    SandboxLook,
    SandboxRemove,
    SandboxWatch,
    SandboxUpload,
    SandboxPort,
    SandboxOutput,
    RemoveVolume,
    EgressAudit,
    EgressStream,
    EgressExplain,
}

const STATUSES: [&str; 4] = ["rescheduling", "running", "idle", "terminated"];

impl Query {
    /// Its parameters: name and schema.
    pub(super) fn parameters(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::None => vec![],
            Self::Agents => {
                let archived = ("include_archived", boolean());
                let ends = ["created_at[gte]", "created_at[lte]"].map(|name| (name, instant()));
                [paging(PAGE), vec![archived], ends.to_vec()].concat()
            }
            Self::Agent => vec![("version", positive(u32::MAX))],
            Self::Versions => paging(PAGE),
            Self::Archivable => [paging(PAGE), vec![("include_archived", boolean())]].concat(),
            Self::Sessions => sessions(),
            Self::Events => {
                let types = ("types[]", list(&EVENT_TYPES));
                [paging(EVENTS_PAGE), ordered(), vec![types]].concat()
            }
            Self::ThreadEvents => paging(EVENTS_PAGE),
            Self::Threads => [paging(THREADS_PAGE), vec![("statuses[]", list(&STATUSES))]].concat(),
            Self::Stream => vec![("event_deltas[]", list(&["agent.message", "agent.thinking"]))],
            Self::SandboxLook => vec![("path", text())],
            Self::SandboxRemove => vec![("path", text()), ("all", boolean())],
            Self::SandboxWatch => vec![("path", text()), ("deep", boolean())],
            Self::SandboxUpload => vec![("path", text()), ("mode", text())],
            Self::RemoveVolume => vec![("force", boolean())],
            Self::SandboxPort => vec![("port", positive(65_535))],
            Self::SandboxOutput => {
                let from = || json!({"type": "integer", "minimum": 0});
                let parts = ["stdout_from", "stderr_from"].map(|name| (name, from()));
                [parts.to_vec(), vec![("base64", boolean())]].concat()
            }
            Self::EgressAudit => {
                let order = ("order", json!({"type": "string", "enum": ["asc", "desc"]}));
                [paging(AUDIT_PAGE), vec![order], egress()].concat()
            }
            Self::EgressStream => egress(),
            Self::EgressExplain => vec![("url", text()), ("method", text())],
            Self::Models => vec![
                ("limit", positive(MODELS_PAGE.1)),
                ("after_id", text()),
                ("before_id", text()),
                ("lifecycle[]", list(&["active", "deprecated", "retired"])),
            ],
        }
    }
}

fn sessions() -> Vec<(&'static str, Value)> {
    let filters = vec![
        ("include_archived", boolean()),
        ("agent_id", text()),
        ("agent_version", positive(u32::MAX)),
        ("statuses[]", list(&STATUSES)),
        ("deployment_id", text()),
        ("memory_store_id", text()),
    ];
    [paging(SESSIONS_PAGE), ordered(), filters].concat()
}

fn egress() -> Vec<(&'static str, Value)> {
    vec![
        ("after", json!({"type": "integer", "minimum": 0})),
        ("sandbox_id", text()),
        ("session_id", text()),
        ("host", text()),
        ("action", json!({"type": "string", "enum": EGRESS_ACTIONS})),
        ("since", instant()),
        ("until", instant()),
    ]
}

fn paging((_, most): (u32, u32)) -> Vec<(&'static str, Value)> {
    vec![("limit", positive(most)), ("page", text())]
}

fn ordered() -> Vec<(&'static str, Value)> {
    let order = ("order", json!({"type": "string", "enum": ["asc", "desc"]}));
    let ends = [
        "created_at[gt]",
        "created_at[gte]",
        "created_at[lt]",
        "created_at[lte]",
    ];
    let ends = ends.into_iter().map(|name| (name, instant()));
    std::iter::once(order).chain(ends).collect()
}

fn positive(most: u32) -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": most})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn instant() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn list(values: &[&str]) -> Value {
    json!({"type": "array", "items": {"type": "string", "enum": values}})
}
