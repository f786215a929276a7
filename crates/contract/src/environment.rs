//! Environments (api.md §5): requests, the definition that is stored, and the object that is served.
//! What a network rule means is decided where the network is.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::error::ApiError;
use crate::ids::EnvironmentId;
use crate::limits::{ALLOWED_HOSTS, DESCRIPTION, ENVIRONMENT_NAME, PACKAGE, PACKAGES};
use crate::metadata::{self, Empty, Metadata, MetadataPatch};
use crate::parse::{Invalid, tagged};
use crate::patch::{Patch, present};
use crate::time::Micros;

/// Body of `POST /v1/environments`. [`CreateEnvironment::resolve`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §5.1
pub struct CreateEnvironment {
    pub name: String,
    #[serde(default)]
    pub config: Option<ConfigParams>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// Body of `POST /v1/environments/{id}`. [`EnvironmentDefinition::updated`] applies it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields are the contract's, api.md §5.3
pub struct UpdateEnvironment {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub config: Option<ConfigParams>,
    #[serde(default)]
    pub description: Patch<String>,
    #[serde(default)]
    pub metadata: MetadataPatch,
    #[serde(default)]
    pub scope: Option<Scope>,
}

/// Who may see an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everyone in the workspace; the only one that API organisations have.
    Organization,
    /// Its owner; refused.
    Account,
}

/// Where sandboxes run, in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigParams {
    /// Here.
    Cloud(CloudParams),
    /// At the client's worker.
    SelfHosted,
}

tagged!(ConfigParams { "cloud" => Cloud(CloudParams), "self_hosted" => SelfHosted });

/// Sandboxes that run here, in a request. Absent and null: the default, or what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudParams {
    /// What they may reach.
    #[serde(default)]
    pub networking: Option<NetworkingParams>,
    /// What is installed in them.
    #[serde(default)]
    pub packages: Option<PackagesParams>,
}

/// What sandboxes may reach, in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkingParams {
    /// Everything but the always-denied set.
    Unrestricted,
    /// Only what is listed.
    Limited(LimitedParams),
}

tagged!(NetworkingParams { "unrestricted" => Unrestricted, "limited" => Limited(LimitedParams) });

/// The list of a limited network, in a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct LimitedParams {
    #[serde(default)]
    pub allow_mcp_servers: Option<bool>,
    #[serde(default)]
    pub allow_package_managers: Option<bool>,
    #[serde(default)]
    pub allowed_hosts: Option<Vec<String>>,
}

/// What is installed, in a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct PackagesParams {
    #[serde(default, rename = "type", deserialize_with = "present")]
    #[schemars(with = "PackagesTag")]
    pub kind: Option<PackagesTag>,
    #[serde(default)]
    pub apt: Option<Vec<String>>,
    #[serde(default)]
    pub cargo: Option<Vec<String>>,
    #[serde(default)]
    pub gem: Option<Vec<String>>,
    #[serde(default)]
    pub go: Option<Vec<String>>,
    #[serde(default)]
    pub npm: Option<Vec<String>>,
    #[serde(default)]
    pub pip: Option<Vec<String>>,
}

/// The constant `packages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackagesTag {
    /// The only value.
    #[default]
    Packages,
}

/// Where sandboxes run, as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Config {
    /// Here.
    Cloud(Cloud),
    /// At the client's worker.
    SelfHosted,
}

tagged!(Config { "cloud" => Cloud(Cloud), "self_hosted" => SelfHosted });

/// Sandboxes that run here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cloud {
    /// What they may reach.
    pub networking: Networking,
    /// What is installed in them.
    pub packages: Packages,
}

/// What sandboxes may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// Everything but the always-denied set; the default (design.md §6).
    #[default]
    Unrestricted,
    /// Only what is listed.
    Limited(Limited),
}

tagged!(Networking { "unrestricted" => Unrestricted, "limited" => Limited(Limited) });

/// The list of a limited network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Limited {
    pub allow_mcp_servers: bool,
    pub allow_package_managers: bool,
    pub allowed_hosts: Vec<String>,
}

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct Packages {
    pub apt: Vec<String>,
    pub cargo: Vec<String>,
    pub gem: Vec<String>,
    pub go: Vec<String>,
    pub npm: Vec<String>,
    pub pip: Vec<String>,
    #[serde(rename = "type")]
    pub kind: PackagesTag,
}

/// An environment without its identity: what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §5.0
pub struct EnvironmentDefinition {
    pub name: String,
    pub description: Option<String>,
    pub config: Config,
    pub metadata: Metadata,
}

/// An environment as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §5.0
pub struct Environment {
    pub id: EnvironmentId,
    #[serde(rename = "type")]
    pub kind: EnvironmentTag,
    pub name: String,
    pub description: Option<String>,
    pub config: Config,
    pub metadata: Metadata,
    pub scope: Scope,
    pub created_at: Micros,
    pub updated_at: Micros,
    pub archived_at: Option<Micros>,
}

/// The constant `environment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentTag {
    /// The only value.
    #[default]
    Environment,
}

impl Environment {
    /// An environment as it is served.
    #[must_use]
    pub fn new(
        id: EnvironmentId,
        definition: EnvironmentDefinition,
        created_at: Micros,
        updated_at: Micros,
        archived_at: Option<Micros>,
    ) -> Self {
        Self {
            id,
            kind: EnvironmentTag::Environment,
            name: definition.name,
            description: definition.description,
            config: definition.config,
            metadata: definition.metadata,
            scope: Scope::Organization,
            created_at,
            updated_at,
            archived_at,
        }
    }
}

impl CreateEnvironment {
    /// Checks every rule and fills in the defaults.
    ///
    /// # Errors
    /// 400 naming the field; metadata with the code `invalid_metadata`.
    pub fn resolve(self) -> Result<EnvironmentDefinition, ApiError> {
        check_scope(self.scope)?;
        metadata::check(&self.metadata).map_err(invalid_metadata)?;
        let definition = EnvironmentDefinition {
            name: self.name,
            // Recorded: an environment made without a description has an empty one.
            description: Patch::apply(self.description, Some(String::new())),
            config: Config::resolve(
                self.config
                    .unwrap_or(ConfigParams::Cloud(CloudParams::default())),
                None,
            ),
            metadata: self.metadata,
        };
        definition.check()?;
        Ok(definition)
    }
}

impl EnvironmentDefinition {
    /// The definition after an update; equal to the old one if nothing changes.
    ///
    /// # Errors
    /// 400 naming the field; a change of `config.type` with the code `invalid_config_type_change`.
    pub fn updated(&self, update: UpdateEnvironment) -> Result<Self, ApiError> {
        check_scope(update.scope)?;
        let config = match update.config {
            None => self.config.clone(),
            Some(params) => {
                let same = matches!(
                    (&self.config, &params),
                    (Config::Cloud(_), ConfigParams::Cloud(_))
                        | (Config::SelfHosted, ConfigParams::SelfHosted)
                );
                if !same {
                    return Err(ApiError::from(Invalid::at(
                        "config.type",
                        "cannot change; create another environment",
                    ))
                    .code("invalid_config_type_change"));
                }
                Config::resolve(params, Some(&self.config))
            }
        };
        let definition = Self {
            name: update.name.unwrap_or_else(|| self.name.clone()),
            description: update.description.apply(self.description.clone()),
            config,
            metadata: metadata::patched(&self.metadata, update.metadata, Empty::Deletes)
                .map_err(invalid_metadata)?,
        };
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), Invalid> {
        check::length("name", &self.name, 1, ENVIRONMENT_NAME)?;
        if let Some(description) = &self.description {
            check::length("description", description, 0, DESCRIPTION)?;
        }
        let Config::Cloud(cloud) = &self.config else {
            return Ok(());
        };
        let packages = cloud.packages.lists();
        for (manager, list) in packages {
            let path = format!("config.packages.{manager}");
            check::count(&path, list.len(), PACKAGES)?;
            for (index, package) in list.iter().enumerate() {
                check::length(&format!("{path}[{index}]"), package, 1, PACKAGE)?;
                // They become arguments of the package managers.
                if package.starts_with('-') || package.chars().any(char::is_control) {
                    return Err(Invalid::at(
                        format!("{path}[{index}]"),
                        "must be a package name, optionally with a version",
                    ));
                }
            }
        }
        if let Networking::Limited(limited) = &cloud.networking {
            let path = "config.networking.allowed_hosts";
            check::count(path, limited.allowed_hosts.len(), ALLOWED_HOSTS)?;
            let mut seen = BTreeSet::new();
            for (index, host) in limited.allowed_hosts.iter().enumerate() {
                let path = format!("{path}[{index}]");
                check::host_pattern(&path, host)?;
                if !seen.insert(host.to_ascii_lowercase()) {
                    return Err(Invalid::at(path, "is there twice"));
                }
            }
            if !limited.allow_package_managers && !cloud.packages.is_empty() {
                return Err(Invalid::at(
                    "config.networking.allow_package_managers",
                    "must be true while `packages` names any",
                ));
            }
        }
        Ok(())
    }
}

fn check_scope(scope: Option<Scope>) -> Result<(), Invalid> {
    match scope {
        None | Some(Scope::Organization) => Ok(()),
        Some(Scope::Account) => Err(Invalid::at("scope", "only `organization` is supported")),
    }
}

fn invalid_metadata(bad: Invalid) -> ApiError {
    ApiError::from(bad).code("invalid_metadata")
}

impl Config {
    /// Fills in what was left out: from what is stored, or the defaults.
    fn resolve(params: ConfigParams, stored: Option<&Self>) -> Self {
        let ConfigParams::Cloud(params) = params else {
            return Self::SelfHosted;
        };
        let kept = match stored {
            Some(Self::Cloud(kept)) => kept.clone(),
            Some(Self::SelfHosted) | None => Cloud::default(),
        };
        let networking = match params.networking {
            None => kept.networking,
            Some(NetworkingParams::Unrestricted) => Networking::Unrestricted,
            Some(NetworkingParams::Limited(params)) => {
                let kept = match kept.networking {
                    Networking::Limited(kept) => kept,
                    Networking::Unrestricted => Limited::default(),
                };
                Networking::Limited(Limited {
                    allow_mcp_servers: params.allow_mcp_servers.unwrap_or(kept.allow_mcp_servers),
                    allow_package_managers: params
                        .allow_package_managers
                        .unwrap_or(kept.allow_package_managers),
                    allowed_hosts: params.allowed_hosts.unwrap_or(kept.allowed_hosts),
                })
            }
        };
        let packages = match params.packages {
            None => kept.packages,
            Some(params) => Packages {
                apt: params.apt.unwrap_or(kept.packages.apt),
                cargo: params.cargo.unwrap_or(kept.packages.cargo),
                gem: params.gem.unwrap_or(kept.packages.gem),
                go: params.go.unwrap_or(kept.packages.go),
                npm: params.npm.unwrap_or(kept.packages.npm),
                pip: params.pip.unwrap_or(kept.packages.pip),
                kind: PackagesTag::Packages,
            },
        };
        Self::Cloud(Cloud {
            networking,
            packages,
        })
    }
}

impl Packages {
    fn lists(&self) -> [(&'static str, &[String]); 6] {
        [
            ("apt", &self.apt),
            ("cargo", &self.cargo),
            ("gem", &self.gem),
            ("go", &self.go),
            ("npm", &self.npm),
            ("pip", &self.pip),
        ]
    }

    /// True if nothing is to be installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists().into_iter().all(|(_, list)| list.is_empty())
    }

    /// The first manager that has something to install.
    #[must_use]
    pub fn first_used(&self) -> Option<&'static str> {
        self.lists()
            .into_iter()
            .find(|(_, list)| !list.is_empty())
            .map(|(manager, _)| manager)
    }
}
