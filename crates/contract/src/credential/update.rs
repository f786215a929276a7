//! Updating a credential (api.md §12.3): the type, the server's URL and the variable's name are fixed;
//! what is left out stays.

use schemars::JsonSchema;
use serde::Deserialize;

use super::params::{
    NULL_LOCATION, check_future, check_location, check_name, check_secret, check_token, networking,
};
use super::{
    Auth, CredentialDefinition, EnvironmentVariable, Location, LocationParams, McpOauth,
    NetworkingParams, Refresh, Secrets, TokenAuth,
};
use crate::check;
use crate::limits::OAUTH_TEXT;
use crate::metadata::{self, Empty, MetadataPatch};
use crate::parse::{Invalid, tagged};
use crate::patch::{Patch, present};
use crate::secret::Secret;
use crate::time::Micros;

/// Body of `POST /v1/vaults/{id}/credentials/{id}`. [`CredentialDefinition::updated`] applies it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateCredential {
    /// Of the stored type.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AuthUpdate")]
    pub auth: Option<AuthUpdate>,
    /// Null clears.
    #[serde(default)]
    pub display_name: Patch<String>,
    /// Key by key.
    #[serde(default)]
    pub metadata: MetadataPatch,
}

/// What changes in the authentication.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum AuthUpdate {
    McpOauth(McpOauthUpdate),
    StaticBearer(StaticBearerUpdate),
    EnvironmentVariable(EnvironmentVariableUpdate),
}

tagged!(AuthUpdate {
    "mcp_oauth" => McpOauth(McpOauthUpdate),
    "static_bearer" => StaticBearer(StaticBearerUpdate),
    "environment_variable" => EnvironmentVariable(EnvironmentVariableUpdate),
});

/// What changes in OAuth.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct McpOauthUpdate {
    #[serde(default)]
    pub access_token: Option<Secret>,
    /// Null: not known to expire.
    #[serde(default)]
    pub expires_at: Patch<Micros>,
    #[serde(default)]
    pub refresh: Option<RefreshUpdate>,
}

/// What changes in refreshing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RefreshUpdate {
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// `""` clears.
    #[serde(default)]
    pub scope: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "TokenAuthUpdate")]
    pub token_endpoint_auth: Option<TokenAuthUpdate>,
}

/// A new client secret. The stored way of proving stays, whichever is named.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum TokenAuthUpdate {
    ClientSecretBasic(ClientSecretUpdate),
    ClientSecretPost(ClientSecretUpdate),
}

tagged!(TokenAuthUpdate {
    "client_secret_basic" => ClientSecretBasic(ClientSecretUpdate),
    "client_secret_post" => ClientSecretPost(ClientSecretUpdate),
});

/// A new client secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ClientSecretUpdate {
    #[serde(default)]
    pub client_secret: Option<Secret>,
}

/// What changes in a bearer token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct StaticBearerUpdate {
    #[serde(default)]
    pub token: Option<Secret>,
    /// Only to be refused by name: the URL is fixed.
    #[serde(default)]
    pub mcp_server_url: Patch<serde_json::Value>,
}

/// What changes in a variable.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct EnvironmentVariableUpdate {
    #[serde(default)]
    pub secret_value: Option<Secret>,
    /// Replaces the whole; null keeps.
    #[serde(default)]
    pub networking: Option<NetworkingParams>,
    /// Field by field; null is refused.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::value::<LocationParams>")] // null is refused
    pub injection_location: Patch<LocationParams>,
}

impl CredentialDefinition {
    /// The credential after an update, and the secrets that change.
    ///
    /// # Errors
    /// Another type than the stored one, or the first rule that the result breaks.
    pub fn updated(
        &self,
        update: UpdateCredential,
        now: Micros,
    ) -> Result<(Self, Secrets), Invalid> {
        let display_name = update.display_name.apply(self.display_name.clone());
        check_name(display_name.as_deref())?;
        let metadata = metadata::patched(&self.metadata, update.metadata, Empty::Keeps)?;
        let (auth, secrets) = match update.auth {
            None => (self.auth.clone(), Secrets::default()),
            Some(change) => changed(&self.auth, change, now).map_err(|bad| bad.under("auth"))?,
        };
        Ok((
            Self {
                auth,
                display_name,
                metadata,
            },
            secrets,
        ))
    }
}

fn changed(stored: &Auth, change: AuthUpdate, now: Micros) -> Result<(Auth, Secrets), Invalid> {
    match (stored, change) {
        (Auth::McpOauth(stored), AuthUpdate::McpOauth(change)) => oauth(stored, change, now),
        (Auth::StaticBearer(stored), AuthUpdate::StaticBearer(change)) => {
            if !change.mcp_server_url.is_absent() {
                return Err(Invalid::at(
                    "mcp_server_url",
                    "cannot change; create another credential",
                ));
            }
            if let Some(token) = &change.token {
                check_token("token", token)?;
            }
            let secrets = Secrets {
                main: change.token,
                ..Secrets::default()
            };
            Ok((Auth::StaticBearer(stored.clone()), secrets))
        }
        (Auth::EnvironmentVariable(stored), AuthUpdate::EnvironmentVariable(change)) => {
            variable(stored, change)
        }
        (stored, _) => Err(Invalid::at(
            "type",
            format!(
                "cannot change; this credential is of type `{}`",
                stored.kind()
            ),
        )),
    }
}

fn oauth(
    stored: &McpOauth,
    change: McpOauthUpdate,
    now: Micros,
) -> Result<(Auth, Secrets), Invalid> {
    if let Some(token) = &change.access_token {
        check_token("access_token", token)?;
    }
    if let Patch::Value(at) = &change.expires_at {
        check_future(Some(*at), now)?;
    }
    let mut secrets = Secrets {
        main: change.access_token,
        ..Secrets::default()
    };
    let refresh = match (stored.refresh.clone(), change.refresh) {
        (refresh, None) => refresh,
        (None, Some(_)) => {
            return Err(Invalid::at(
                "refresh",
                "this credential was created without `refresh`",
            ));
        }
        (Some(stored), Some(change)) => {
            Some(refresh(stored, change, &mut secrets).map_err(|bad| bad.under("refresh"))?)
        }
    };
    let auth = Auth::McpOauth(McpOauth {
        mcp_server_url: stored.mcp_server_url.clone(),
        expires_at: change.expires_at.apply(stored.expires_at),
        refresh,
    });
    Ok((auth, secrets))
}

fn refresh(
    mut stored: Refresh,
    change: RefreshUpdate,
    secrets: &mut Secrets,
) -> Result<Refresh, Invalid> {
    if let Some(token) = &change.refresh_token {
        check_secret("refresh_token", token)?;
    }
    if let Some(scope) = change.scope {
        check::length("scope", &scope, 0, OAUTH_TEXT)?;
        stored.scope = (!scope.is_empty()).then_some(scope);
    }
    let secret = match change.token_endpoint_auth {
        None => None,
        Some(
            TokenAuthUpdate::ClientSecretBasic(update) | TokenAuthUpdate::ClientSecretPost(update),
        ) => update.client_secret,
    };
    if let Some(secret) = &secret {
        check_secret("token_endpoint_auth.client_secret", secret)?;
        if stored.token_endpoint_auth == TokenAuth::None {
            return Err(Invalid::at(
                "token_endpoint_auth",
                "this credential was created without a client secret",
            ));
        }
    }
    secrets.refresh_token = change.refresh_token;
    secrets.client_secret = secret;
    Ok(stored)
}

fn variable(
    stored: &EnvironmentVariable,
    change: EnvironmentVariableUpdate,
) -> Result<(Auth, Secrets), Invalid> {
    if let Some(value) = &change.secret_value {
        check_secret("secret_value", value)?;
    }
    let injection_location = match change.injection_location {
        Patch::Absent => stored.injection_location,
        Patch::Null => return Err(Invalid::at("injection_location", NULL_LOCATION)),
        Patch::Value(location) => Location {
            body: location.body.unwrap_or(stored.injection_location.body),
            header: location.header.unwrap_or(stored.injection_location.header),
        },
    };
    check_location(injection_location)?;
    let networking = match change.networking {
        None => stored.networking.clone(),
        Some(params) => networking(params)?,
    };
    let auth = Auth::EnvironmentVariable(EnvironmentVariable {
        secret_name: stored.secret_name.clone(),
        networking,
        injection_location,
    });
    Ok((
        auth,
        Secrets {
            main: change.secret_value,
            ..Secrets::default()
        },
    ))
}
