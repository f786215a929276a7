//! A policy as a TOML file. It must never be laxer than the API: an unknown key is an error.

use contract::environment::{Limited, Networking};
use serde::{Deserialize, Serialize};

use super::compile::Policy;
use super::error::PolicyError;
use super::rule::{Attached, Base, Mode, Ports, Protocol, Rule, RuleSet};
use crate::dns::OnDenied;

/// The file of a policy.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// `enforce` or `observe`.
    #[serde(default)]
    pub mode: Mode,
    /// The contract's networking; without it nothing is allowed but by rules.
    #[serde(default)]
    pub networking: NetworkingFile,
    /// What the session has attached.
    #[serde(default)]
    pub attached: AttachedFile,
    /// Ports of the hosts in `networking.allowed_hosts`.
    #[serde(default)]
    pub contract_ports: Ports,
    /// Ranges that the operator lifts out of the always-denied set.
    #[serde(default)]
    pub allow_private: Vec<dial::Net>,
    /// What a denied name is answered: `virtual` or `refuse`.
    #[serde(default)]
    pub dns_deny: OnDenied,
    /// The operator's rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// The sandbox's rules.
    #[serde(default)]
    pub sandbox_rules: Vec<Rule>,
}

impl PolicyFile {
    /// What an environment says, without any operator.
    #[must_use]
    pub fn of(networking: NetworkingFile, attached: AttachedFile) -> Self {
        Self {
            mode: Mode::default(),
            networking,
            attached,
            contract_ports: Ports::default(),
            allow_private: Vec::new(),
            dns_deny: OnDenied::default(),
            rules: Vec::new(),
            sandbox_rules: Vec::new(),
        }
    }

    /// Whether any rule has to see requests inside TLS. Without one, no connection is looked into for this policy's sake.
    #[must_use]
    pub fn looks_into_tls(&self) -> bool {
        let mut all = self.rules.iter().chain(&self.sandbox_rules);
        all.any(|rule| rule.names_requests() && rule.protocol != Protocol::Http)
    }

    /// A digest in hex: two that differ anywhere have different ones.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// `[networking]`, with the words of the contract.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkingFile {
    /// Nothing is allowed.
    #[default]
    Nothing,
    /// Everything but the always-denied set.
    Unrestricted {},
    /// Nothing but what is listed.
    Limited {
        /// As in the contract.
        #[serde(default)]
        allowed_hosts: Vec<String>,
        /// As in the contract.
        #[serde(default)]
        allow_package_managers: bool,
        /// As in the contract.
        #[serde(default)]
        allow_mcp_servers: bool,
    },
}

/// `[attached]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AttachedFile {
    /// URLs of the agent's MCP servers.
    #[serde(default)]
    pub mcp_servers: Vec<String>,
    /// URLs of the session's repositories.
    #[serde(default)]
    pub repositories: Vec<String>,
}

/// Why a file is no policy or no list of cases.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no TOML, or has a key or a value that is not known; the text names the line.
    #[error("{0}")]
    Toml(String),
    /// The policy in it is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Reads and compiles a policy.
///
/// # Errors
/// [`FileError`], naming the line or the field.
pub fn read_policy(text: &str) -> Result<Policy, FileError> {
    let file: PolicyFile = from_toml(text)?;
    Ok(Policy::compile(file.into())?)
}

pub(super) fn from_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, FileError> {
    toml::from_str(text).map_err(|error| FileError::Toml(error.to_string()))
}

impl From<PolicyFile> for RuleSet {
    fn from(file: PolicyFile) -> Self {
        let attached = Attached {
            mcp_servers: file.attached.mcp_servers,
            repositories: file.attached.repositories,
        };
        let base = match file.networking {
            NetworkingFile::Nothing => Base::Nothing,
            NetworkingFile::Unrestricted {} => Base::of(&Networking::Unrestricted, attached),
            NetworkingFile::Limited {
                allowed_hosts,
                allow_package_managers,
                allow_mcp_servers,
            } => {
                let limited = Limited {
                    allow_mcp_servers,
                    allow_package_managers,
                    allowed_hosts,
                };
                Base::of(&Networking::Limited(limited), attached)
            }
        };
        Self {
            mode: file.mode,
            operator: file.rules,
            sandbox: file.sandbox_rules,
            base,
            contract_ports: file.contract_ports,
            lifted: dial::Policy {
                allow_private: file.allow_private,
            },
            dns_deny: file.dns_deny,
        }
    }
}
