//! Credentials of a vault (api.md §12.2): the public half, which is stored and served, and the secret
//! half, which only goes to encryption. No type here can serialise a secret.

mod params;
mod update;
mod validation;

pub use params::{
    AuthParams, CreateCredential, EnvironmentVariableParams, LocationParams, McpOauthParams,
    NetworkingParams, RefreshParams, StaticBearerParams, TokenAuthParams,
};
pub use update::{
    AuthUpdate, EnvironmentVariableUpdate, McpOauthUpdate, RefreshUpdate, StaticBearerUpdate,
    TokenAuthUpdate, UpdateCredential,
};

pub use validation::{
    HttpAnswer, McpProbe, RefreshAttempt, RefreshStatus, Validation, ValidationStatus,
    ValidationTag,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CredentialId, VaultId};
use crate::metadata::Metadata;
use crate::parse::tagged;
use crate::secret::Secret;
use crate::time::Micros;

/// The public half of a credential's authentication, as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Auth {
    /// OAuth for an MCP server.
    McpOauth(McpOauth),
    /// A fixed bearer token.
    StaticBearer(StaticBearer),
    /// A variable in the sandbox that holds a placeholder.
    EnvironmentVariable(EnvironmentVariable),
}

tagged!(Auth {
    "mcp_oauth" => McpOauth(McpOauth),
    "static_bearer" => StaticBearer(StaticBearer),
    "environment_variable" => EnvironmentVariable(EnvironmentVariable),
});

/// OAuth for an MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpOauth {
    /// Which server.
    pub mcp_server_url: String,
    /// When the access token expires, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Micros>,
    /// How to get another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Refresh>,
}

/// How to refresh an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Refresh {
    pub client_id: String,
    pub token_endpoint: String,
    pub token_endpoint_auth: TokenAuth,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// How the client proves itself at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TokenAuth {
    None,
    ClientSecretBasic,
    ClientSecretPost,
}

tagged!(TokenAuth {
    "none" => None,
    "client_secret_basic" => ClientSecretBasic,
    "client_secret_post" => ClientSecretPost,
});

/// A fixed bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaticBearer {
    /// Which server; absent only in an LLM vault, which the gateway checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_server_url: Option<String>,
}

/// A variable in the sandbox that holds a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentVariable {
    /// Its name.
    pub secret_name: String,
    /// Where the real value may go.
    pub networking: Networking,
    /// In which part of a request.
    pub injection_location: Location,
}

/// Where a secret may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// Wherever the environment may.
    Unrestricted,
    /// Only to these hosts.
    Limited(Hosts),
}

tagged!(Networking { "unrestricted" => Unrestricted, "limited" => Limited(Hosts) });

/// The only hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// Names, IPv4 addresses or wildcards.
    pub allowed_hosts: Vec<String>,
}

/// In which part of a request a secret may stand; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// In the body.
    pub body: bool,
    /// In headers.
    pub header: bool,
}

/// A credential without its identity and without secrets: what is stored in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct CredentialDefinition {
    pub auth: Auth,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub metadata: Metadata,
}

/// A credential as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct Credential {
    pub id: CredentialId,
    #[serde(rename = "type")]
    pub kind: CredentialTag,
    pub vault_id: VaultId,
    pub auth: Auth,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub metadata: Metadata,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

/// The constant `vault_credential`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialTag {
    /// The only value.
    #[default]
    VaultCredential,
}

/// The secrets of a request. In a create all that the type needs are there; in an update only those
/// that change.
#[derive(Debug, Default)]
pub struct Secrets {
    /// The bearer token, access token or value of the variable.
    pub main: Option<Secret>,
    /// OAuth: the refresh token.
    pub refresh_token: Option<Secret>,
    /// OAuth: the client's secret.
    pub client_secret: Option<Secret>,
}

impl Secrets {
    /// True if no secret is there.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.main.is_none() && self.refresh_token.is_none() && self.client_secret.is_none()
    }
}

impl Credential {
    /// A credential as it is served.
    #[must_use]
    pub fn new(
        id: CredentialId,
        vault_id: VaultId,
        definition: CredentialDefinition,
        created_at: Micros,
        updated_at: Micros,
        archived_at: Option<Micros>,
    ) -> Self {
        Self {
            id,
            kind: CredentialTag::VaultCredential,
            vault_id,
            auth: definition.auth,
            display_name: definition.display_name,
            metadata: definition.metadata,
            created_at,
            updated_at,
            archived_at,
        }
    }
}

impl Auth {
    /// Its type on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::McpOauth(_) => "mcp_oauth",
            Self::StaticBearer(_) => "static_bearer",
            Self::EnvironmentVariable(_) => "environment_variable",
        }
    }

    /// What may stand only once among the active credentials of a vault: the normalised server URL or
    /// the variable's name. `None` for the bearer of an LLM vault, which has neither.
    #[must_use]
    pub fn unique_key(&self) -> Option<String> {
        match self {
            Self::McpOauth(oauth) => Some(format!("url:{}", normal_url(&oauth.mcp_server_url))),
            Self::StaticBearer(bearer) => bearer
                .mcp_server_url
                .as_ref()
                .map(|url| format!("url:{}", normal_url(url))),
            Self::EnvironmentVariable(variable) => Some(format!("env:{}", variable.secret_name)),
        }
    }
}

/// A URL as credentials are matched by it (behaviours §11): scheme and host in lower case, without
/// default port and trailing slash.
#[must_use]
pub fn normal_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.to_ascii_lowercase();
    let default = if scheme == "http" { ":80" } else { ":443" };
    let authority = authority.strip_suffix(default).unwrap_or(&authority);
    format!("{scheme}://{authority}{}", path.trim_end_matches('/'))
}
