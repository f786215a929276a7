//! Versions of memories (api.md §17.3): who changed what. A version never changes, but that it may be redacted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ApiKeyId, MemoryId, MemoryStoreId, MemoryVersionId, SessionId};
use crate::schema::constants;
use crate::time::Micros;

constants! { MemoryVersionTag = MemoryVersion; }

/// A version of a memory as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §17.3
pub struct MemoryVersion {
    pub id: MemoryVersionId,
    #[serde(rename = "type")]
    pub kind: MemoryVersionTag,
    pub memory_store_id: MemoryStoreId,
    pub memory_id: MemoryId,
    pub operation: Operation,
    /// Null if it was redacted.
    pub path: Option<String>,
    /// Null in the basic view, of a deletion, and if it was redacted.
    pub content: Option<String>,
    /// Null of a deletion, and if it was redacted.
    pub content_sha256: Option<String>,
    /// Null of a deletion, and if it was redacted.
    pub content_size_bytes: Option<u64>,
    pub created_at: Micros,
    /// Absent: nobody who is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Actor>,
    pub redacted_at: Option<Micros>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_by: Option<Actor>,
}

/// What a version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the values are the contract's
pub enum Operation {
    Created,
    Modified,
    Deleted,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)] // the fields are the contract's
pub enum Actor {
    /// The agent of a session.
    SessionActor { session_id: SessionId },
    /// A client with an API key.
    ApiActor { api_key_id: ApiKeyId },
    /// A person.
    UserActor { user_id: String },
    /// A service account.
    ServiceAccountActor { service_account_id: String },
}
