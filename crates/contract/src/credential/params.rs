//! Creating a credential: the request and its rules. The secret half leaves in [`Secrets`].

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Auth, CredentialDefinition, EnvironmentVariable, Hosts, Location, McpOauth, Networking,
    Refresh, Secrets, StaticBearer, TokenAuth,
};
use crate::check;
use crate::limits::{CREDENTIAL_HOSTS, DISPLAY_NAME, OAUTH_TEXT, SECRET_BYTES, SECRET_NAME};
use crate::metadata::{self, Metadata};
use crate::parse::{Invalid, tagged};
use crate::patch::{Patch, present};
use crate::secret::Secret;
use crate::time::Micros;

/// Body of `POST /v1/vaults/{id}/credentials`. [`CreateCredential::resolve`] checks it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §12.3
pub struct CreateCredential {
    pub auth: AuthParams,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub metadata: Metadata,
}

/// The authentication of a new credential.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum AuthParams {
    McpOauth(McpOauthParams),
    StaticBearer(StaticBearerParams),
    EnvironmentVariable(EnvironmentVariableParams),
}

tagged!(AuthParams {
    "mcp_oauth" => McpOauth(McpOauthParams),
    "static_bearer" => StaticBearer(StaticBearerParams),
    "environment_variable" => EnvironmentVariable(EnvironmentVariableParams),
});

/// OAuth for an MCP server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct McpOauthParams {
    pub access_token: Secret,
    pub mcp_server_url: String,
    #[serde(default)]
    pub expires_at: Option<Micros>,
    #[serde(default)]
    pub refresh: Option<RefreshParams>,
}

/// How to refresh an access token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RefreshParams {
    pub client_id: String,
    pub refresh_token: Secret,
    pub token_endpoint: String,
    pub token_endpoint_auth: TokenAuthParams,
    #[serde(default)]
    pub resource: Option<String>,
    #[serde(default)]
    pub scope: Option<String>,
}

/// How the client proves itself at the token endpoint.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum TokenAuthParams {
    None,
    ClientSecretBasic(ClientSecret),
    ClientSecretPost(ClientSecret),
}

tagged!(TokenAuthParams {
    "none" => None,
    "client_secret_basic" => ClientSecretBasic(ClientSecret),
    "client_secret_post" => ClientSecretPost(ClientSecret),
});

/// The client's secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ClientSecret {
    pub client_secret: Secret,
}

/// A fixed bearer token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticBearerParams {
    /// The token.
    pub token: Secret,
    /// Which server; may be absent only in an LLM vault, which the gateway checks.
    #[serde(default)]
    pub mcp_server_url: Option<String>,
}

/// A variable in the sandbox that holds a placeholder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EnvironmentVariableParams {
    pub secret_name: String,
    pub secret_value: Secret,
    pub networking: NetworkingParams,
    /// Absent: both. Null is refused.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::value::<LocationParams>")] // null is refused
    pub injection_location: Patch<LocationParams>,
}

/// Where a secret may go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NetworkingParams {
    Unrestricted,
    Limited(Hosts),
}

tagged!(NetworkingParams { "unrestricted" => Unrestricted, "limited" => Limited(Hosts) });

/// In which part of a request a secret may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LocationParams {
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "bool")]
    pub body: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "bool")]
    pub header: Option<bool>,
}

impl CreateCredential {
    /// Checks every rule that needs no other object. `now` decides whether `expires_at` has passed.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn resolve(self, now: Micros) -> Result<(CredentialDefinition, Secrets), Invalid> {
        check_name(self.display_name.as_deref())?;
        metadata::check(&self.metadata)?;
        let (auth, secrets) = match self.auth {
            AuthParams::McpOauth(params) => oauth(params, now),
            AuthParams::StaticBearer(params) => bearer(params),
            AuthParams::EnvironmentVariable(params) => variable(params),
        }
        .map_err(|bad| bad.under("auth"))?;
        let definition = CredentialDefinition {
            auth,
            display_name: self.display_name,
            metadata: self.metadata,
        };
        Ok((definition, secrets))
    }
}

pub(super) fn check_name(name: Option<&str>) -> Result<(), Invalid> {
    name.map_or(Ok(()), |name| {
        check::length("display_name", name, 1, DISPLAY_NAME)
    })
}

/// A secret that will stand in a header: not empty, not huge, no line breaks.
pub(super) fn check_token(path: &str, secret: &Secret) -> Result<(), Invalid> {
    check_secret(path, secret)?;
    if secret.expose().bytes().any(|b| b.is_ascii_control()) {
        return Err(Invalid::at(
            path,
            "must not contain line breaks or control characters",
        ));
    }
    Ok(())
}

/// A secret of any text: not empty, not huge.
pub(super) fn check_secret(path: &str, secret: &Secret) -> Result<(), Invalid> {
    match secret.expose().len() {
        0 => Err(Invalid::at(path, "must not be empty")),
        1..=SECRET_BYTES => Ok(()),
        _ => Err(Invalid::at(
            path,
            format!("is too long; at most {SECRET_BYTES} bytes are allowed"),
        )),
    }
}

fn bearer(params: StaticBearerParams) -> Result<(Auth, Secrets), Invalid> {
    check_token("token", &params.token)?;
    if let Some(url) = &params.mcp_server_url {
        check::url("mcp_server_url", url)?;
    }
    Ok((
        Auth::StaticBearer(StaticBearer {
            mcp_server_url: params.mcp_server_url,
        }),
        Secrets {
            main: Some(params.token),
            ..Secrets::default()
        },
    ))
}

fn oauth(params: McpOauthParams, now: Micros) -> Result<(Auth, Secrets), Invalid> {
    check_token("access_token", &params.access_token)?;
    check::url("mcp_server_url", &params.mcp_server_url)?;
    check_future(params.expires_at, now)?;
    let mut secrets = Secrets {
        main: Some(params.access_token),
        ..Secrets::default()
    };
    let refresh = match params.refresh {
        None => None,
        Some(params) => Some(refresh(params, &mut secrets).map_err(|bad| bad.under("refresh"))?),
    };
    let auth = Auth::McpOauth(McpOauth {
        mcp_server_url: params.mcp_server_url,
        expires_at: params.expires_at,
        refresh,
    });
    Ok((auth, secrets))
}

pub(super) fn check_future(expires_at: Option<Micros>, now: Micros) -> Result<(), Invalid> {
    match expires_at {
        Some(at) if at <= now => Err(Invalid::at("expires_at", "must be in the future")),
        _ => Ok(()),
    }
}

fn refresh(params: RefreshParams, secrets: &mut Secrets) -> Result<Refresh, Invalid> {
    check::length("client_id", &params.client_id, 1, OAUTH_TEXT)?;
    check_secret("refresh_token", &params.refresh_token)?;
    check::url("token_endpoint", &params.token_endpoint)?;
    for (field, text) in [("resource", &params.resource), ("scope", &params.scope)] {
        if let Some(text) = text {
            check::length(field, text, 1, OAUTH_TEXT)?;
        }
    }
    let (token_endpoint_auth, secret) = match params.token_endpoint_auth {
        TokenAuthParams::None => (TokenAuth::None, None),
        TokenAuthParams::ClientSecretBasic(client) => {
            (TokenAuth::ClientSecretBasic, Some(client.client_secret))
        }
        TokenAuthParams::ClientSecretPost(client) => {
            (TokenAuth::ClientSecretPost, Some(client.client_secret))
        }
    };
    if let Some(secret) = &secret {
        check_secret("token_endpoint_auth.client_secret", secret)?;
    }
    secrets.refresh_token = Some(params.refresh_token);
    secrets.client_secret = secret;
    Ok(Refresh {
        client_id: params.client_id,
        token_endpoint: params.token_endpoint,
        token_endpoint_auth,
        resource: params.resource,
        scope: params.scope,
    })
}

fn variable(params: EnvironmentVariableParams) -> Result<(Auth, Secrets), Invalid> {
    check_variable_name(&params.secret_name)?;
    check_secret("secret_value", &params.secret_value)?;
    let injection_location = match params.injection_location {
        Patch::Absent => Location {
            body: true,
            header: true,
        },
        Patch::Null => return Err(Invalid::at("injection_location", NULL_LOCATION)),
        Patch::Value(location) => Location {
            body: location.body.unwrap_or(false),
            header: location.header.unwrap_or(false),
        },
    };
    check_location(injection_location)?;
    let auth = Auth::EnvironmentVariable(EnvironmentVariable {
        secret_name: params.secret_name,
        networking: networking(params.networking)?,
        injection_location,
    });
    Ok((
        auth,
        Secrets {
            main: Some(params.secret_value),
            ..Secrets::default()
        },
    ))
}

pub(super) const NULL_LOCATION: &str = "must not be null; omit the field instead";

pub(super) fn check_location(location: Location) -> Result<(), Invalid> {
    if location.body || location.header {
        return Ok(());
    }
    Err(Invalid::at(
        "injection_location",
        "must enable `header`, `body` or both",
    ))
}

fn check_variable_name(name: &str) -> Result<(), Invalid> {
    check::length("secret_name", name, 1, SECRET_NAME)?;
    let good = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good {
        return Ok(());
    }
    Err(Invalid::at(
        "secret_name",
        "must be the name of an environment variable: letters, digits and `_`, not starting with a digit",
    ))
}

pub(super) fn networking(params: NetworkingParams) -> Result<Networking, Invalid> {
    let NetworkingParams::Limited(hosts) = params else {
        return Ok(Networking::Unrestricted);
    };
    let path = "networking.allowed_hosts";
    if hosts.allowed_hosts.is_empty() {
        return Err(Invalid::at(
            path,
            "must not be empty: the secret could go nowhere",
        ));
    }
    check::count(path, hosts.allowed_hosts.len(), CREDENTIAL_HOSTS)?;
    let mut seen = BTreeSet::new();
    for (index, host) in hosts.allowed_hosts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        check::host_pattern(&path, host)?;
        if !seen.insert(host.to_ascii_lowercase()) {
            return Err(Invalid::at(path, "is there twice"));
        }
    }
    Ok(Networking::Limited(hosts))
}
