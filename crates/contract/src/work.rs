//! The work queue of a self-hosted environment (api.md §6): requests, items, leases and what a worker is handed.
//! Who may lease what is decided elsewhere.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorKind};
use crate::ids::{EnvironmentId, SessionId, WorkId};
use crate::metadata::{self, Empty, Metadata};
use crate::parse::Invalid;
use crate::patch::{Patch, present};
use crate::schema::constants;
use crate::secret::Secret;
use crate::time::Micros;

constants! {
    WorkTag = Work;
    HeartbeatTag = WorkHeartbeat;
    WorkStatsTag = WorkQueueStats;
    HeartbeatCode = HeartbeatPreconditionFailed;
}

/// Body of `POST /v1/environments/{id}/work/{work_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateWork {
    /// Key by key: a text sets, null deletes.
    pub metadata: BTreeMap<String, Option<String>>,
}

/// Body of `POST /v1/environments/{id}/work/{work_id}/stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopWork {
    /// At once instead of at the worker's next heartbeat; absent: no.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "bool")]
    pub force: Option<bool>,
}

/// An item of work as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §6.0
pub struct Work {
    pub id: WorkId,
    #[serde(rename = "type")]
    pub kind: WorkTag,
    pub environment_id: EnvironmentId,
    pub data: WorkData,
    pub state: WorkState,
    pub metadata: Metadata,
    /// What [`WorkSecret::encode`] wrote; null but in the answer to a poll.
    pub secret: Option<String>,
    pub created_at: Micros,
    pub acknowledged_at: Option<Micros>,
    pub started_at: Option<Micros>,
    pub latest_heartbeat_at: Option<Micros>,
    pub stop_requested_at: Option<Micros>,
    pub stopped_at: Option<Micros>,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkData {
    /// Run the tools of a session.
    Session {
        /// Which.
        id: SessionId,
    },
    /// Show that the worker is there.
    Healthcheck {
        /// Of the check.
        id: String,
    },
}

/// Where an item is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkState {
    /// Nobody has acknowledged it.
    Queued,
    /// Acknowledged, without a heartbeat.
    Starting,
    /// Its worker is alive.
    Active,
    /// Its worker is to stop.
    Stopping,
    /// Over.
    Stopped,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §6.7
pub struct Heartbeat {
    #[serde(rename = "type")]
    pub kind: HeartbeatTag,
    /// What the next heartbeat has to expect, byte by byte.
    pub last_heartbeat: String,
    pub lease_extended: bool,
    pub state: WorkState,
    pub ttl_seconds: u32,
}

/// The state of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §6.8
pub struct WorkStats {
    #[serde(rename = "type")]
    pub kind: WorkStatsTag,
    /// Items that wait.
    pub depth: u64,
    /// Items that were handed out and not acknowledged.
    pub pending: u64,
    pub oldest_queued_at: Option<Micros>,
    /// Workers that asked in the last 30 seconds; null if none said who it is.
    pub workers_polling: Option<u64>,
}

/// A lease as a refused heartbeat shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §2.4
pub struct LeaseState {
    pub last_heartbeat: Option<String>,
    pub lease_extended: bool,
    pub state: WorkState,
    pub ttl_seconds: u32,
}

/// 412: `error.details` of a heartbeat that expected another one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §2.4
pub struct HeartbeatFailed {
    pub error_code: HeartbeatCode,
    pub current_state: LeaseState,
}

impl HeartbeatFailed {
    /// The lease as it is.
    #[must_use]
    pub const fn at(current_state: LeaseState) -> Self {
        Self {
            error_code: HeartbeatCode::HeartbeatPreconditionFailed,
            current_state,
        }
    }
}

impl From<HeartbeatFailed> for ApiError {
    fn from(failed: HeartbeatFailed) -> Self {
        let text =
            "`expected_last_heartbeat` is not the last one: another worker may have the lease.";
        let state = serde_json::to_value(failed.current_state).unwrap_or_default();
        Self::new(ErrorKind::PreconditionFailed, text)
            .code("heartbeat_precondition_failed")
            .detail("current_state", state)
    }
}

/// What the `secret` of an item holds: the worker's access to one session.
#[derive(Debug, JsonSchema)]
pub struct WorkSecret {
    /// The bearer token.
    pub sessions_token: Secret,
    /// Where the API is; absent: where the worker asked.
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub api_base_url: Option<String>,
}

impl WorkSecret {
    /// URL-safe base64 of a JSON object (api.md §25.2).
    #[must_use]
    pub fn encode(&self) -> Secret {
        #[derive(Serialize)]
        struct Shown<'a> {
            sessions_token: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            api_base_url: Option<&'a str>,
        }
        let shown = Shown {
            sessions_token: self.sessions_token.expose(),
            api_base_url: self.api_base_url.as_deref(),
        };
        let json = serde_json::to_vec(&shown).expect("two texts are JSON");
        Secret::new(URL_SAFE_NO_PAD.encode(zeroize::Zeroizing::new(json)))
    }
}

impl UpdateWork {
    /// An item's metadata after the update.
    ///
    /// # Errors
    /// The result breaks a rule of metadata; the path starts with `metadata`.
    pub fn updated(self, stored: &Metadata) -> Result<Metadata, Invalid> {
        metadata::patched(stored, Patch::Value(self.metadata), Empty::Keeps)
    }
}
