//! What the check of an OAuth credential found (api.md §12.3). Nothing here connects.

use schemars::JsonSchema;
use serde::Serialize;

use crate::ids::{CredentialId, VaultId};
use crate::schema::constants;
use crate::time::Micros;

constants! { ValidationTag = VaultCredentialValidation; }

/// The answer of `POST …/mcp_oauth_validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §12.3
pub struct Validation {
    #[serde(rename = "type")]
    pub kind: ValidationTag,
    pub vault_id: VaultId,
    pub credential_id: CredentialId,
    pub validated_at: Micros,
    pub status: ValidationStatus,
    pub has_refresh_token: bool,
    /// The step that failed; null if none did or there was no token to try.
    pub mcp_probe: Option<McpProbe>,
    /// Null unless a 401 led to one.
    pub refresh: Option<RefreshAttempt>,
}

/// What the check says of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValidationStatus {
    /// It opens the server.
    Valid,
    /// It does not, and will not.
    Invalid,
    /// Nobody knows: the server could not be asked.
    Unknown,
}

/// The step of a check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct McpProbe {
    /// `initialize`, `tools/list`.
    pub method: String,
    /// Null if there was no answer.
    pub http_response: Option<HttpAnswer>,
}

/// An attempt to refresh the access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefreshAttempt {
    /// How it ended.
    pub status: RefreshStatus,
    /// Null unless it failed.
    pub http_response: Option<HttpAnswer>,
}

/// How an attempt to refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the values are the contract's
pub enum RefreshStatus {
    Succeeded,
    Failed,
    ConnectError,
    NoRefreshToken,
}

/// What a foreign server said, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct HttpAnswer {
    pub status_code: u16,
    pub content_type: String,
    pub body: String,
    pub body_truncated: bool,
}
