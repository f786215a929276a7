//! What a session's object holds of its resources and outcomes (api.md §7.0, §11). Nothing here mounts or judges.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Checkout};
use crate::ids::{FileId, MemoryStoreId, OutcomeId, ResourceId};
use crate::time::Micros;

/// A resource of a session as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Resource {
    /// A file of the Files API.
    File(FileMount),
    /// A repository that was cloned. Its token is never served.
    GithubRepository(RepositoryMount),
    /// A memory store.
    MemoryStore(MemoryMount),
}

/// A file in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct FileMount {
    pub id: ResourceId,
    pub file_id: FileId,
    pub mount_path: String,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// A repository in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct RepositoryMount {
    pub id: ResourceId,
    pub url: String,
    /// Absent: the default branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<Checkout>,
    pub mount_path: String,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// A memory store in the sandbox. It has no id of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct MemoryMount {
    pub memory_store_id: MemoryStoreId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// How far the agent is with an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "outcome_evaluation")]
#[allow(missing_docs)] // the fields are the contract's
#[schemars(transform = tagged)]
pub struct OutcomeEvaluation {
    pub outcome_id: OutcomeId,
    pub description: String,
    pub iteration: u32,
    pub result: String,
    pub explanation: Option<String>,
    pub completed_at: Option<Micros>,
}

// The derive does not know the tag of a struct.
fn tagged(schema: &mut schemars::Schema) {
    *schema = crate::schema::variant("outcome_evaluation", schema.clone());
}
