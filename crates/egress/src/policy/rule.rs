//! What a policy is made of, as people and programs say it. Nothing is checked here; compiling does that.

use contract::environment::Networking;
use serde::{Deserialize, Serialize};

use super::preset::Preset;
use crate::dns::OnDenied;

/// All that is said about one sandbox's network. [`super::Policy::compile`] makes it decide.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// Whether what is denied is stopped.
    pub mode: Mode,
    /// The operator's rules, first match wins.
    pub operator: Vec<Rule>,
    /// The sandbox's own, after the operator's.
    pub sandbox: Vec<Rule>,
    /// What stands below both.
    pub base: Base,
    /// Ports on which hosts of the contract's `allowed_hosts` are reached. The default is 443: the hosted
    /// service was seen to refuse plain HTTP to a listed host (hosted-facts, 60–62). MCP servers and
    /// repositories have the port of their URL.
    pub contract_ports: Ports,
    /// What the operator lifts out of the always-denied set.
    pub lifted: dial::Policy,
    /// What a denied name is answered.
    pub dns_deny: OnDenied,
}

/// Whether what is denied is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Yes.
    #[default]
    Enforce,
    /// It is let through and recorded; the always-denied set stays in force.
    Observe,
}

/// The contract's networking with what is attached to the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Nothing is known: nothing is allowed. What a missing policy is.
    #[default]
    Nothing,
    /// Everything but the always-denied set.
    Unrestricted,
    /// Nothing but what is listed.
    Limited {
        /// Hosts, `*.suffix`, or IPv4 addresses.
        allowed_hosts: Vec<String>,
        /// Registries of packages.
        package_managers: bool,
        /// URLs of MCP servers that may be reached.
        mcp_servers: Vec<String>,
        /// URLs of repositories that are attached.
        repositories: Vec<String>,
    },
}

/// What a session has attached that a limited network may let it reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// URLs of the agent's MCP servers.
    pub mcp_servers: Vec<String>,
    /// URLs of the session's repositories.
    pub repositories: Vec<String>,
}

impl Base {
    /// What `networking` means for a session with `attached`.
    #[must_use]
    pub fn of(networking: &Networking, attached: Attached) -> Self {
        match networking {
            Networking::Unrestricted => Self::Unrestricted,
            Networking::Limited(limited) => Self::Limited {
                allowed_hosts: limited.allowed_hosts.clone(),
                package_managers: limited.allow_package_managers,
                mcp_servers: if limited.allow_mcp_servers {
                    attached.mcp_servers
                } else {
                    Vec::new()
                },
                repositories: attached.repositories,
            },
        }
    }
}

/// One rule: where to, and what then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in answers and in the audit; unique among those of its list.
    pub name: String,
    /// What happens.
    pub action: Action,
    /// Names, `*.suffix`, addresses, ranges, or `*`.
    #[serde(default)]
    pub to: Vec<String>,
    /// Lists of hosts that we keep.
    #[serde(default)]
    pub presets: Vec<Preset>,
    /// Ports; none is every port, or a preset's own.
    #[serde(default)]
    pub ports: Ports,
    /// What must be spoken.
    #[serde(default)]
    pub protocol: Protocol,
    /// Methods of HTTP; none is every one. This and what follows makes a connection be looked into.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Prefixes of the path by whole segments; none is every path.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Tools of an MCP server. A rule that allows some lets the rest of the protocol through as well, but no
    /// call of another tool; one that denies some touches only calls of these.
    #[serde(default)]
    pub mcp_tools: Vec<String>,
}

impl Rule {
    /// Whether only a request can tell that it applies.
    #[must_use]
    pub fn names_requests(&self) -> bool {
        !(self.methods.is_empty() && self.paths.is_empty() && self.mcp_tools.is_empty())
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Lets it through.
    Allow,
    /// Refuses.
    #[default]
    Deny,
}

/// What a rule wants to be spoken on the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Anything over TCP; nothing else leaves a sandbox.
    #[default]
    Tcp,
    /// TLS.
    Tls,
    /// HTTP in clear text.
    Http,
}

/// Who said a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator.
    Operator,
    /// The sandbox's owner.
    Sandbox,
    /// The contract's networking.
    Contract,
}

/// Ports, as in `[443, "8000-8080"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Ports(pub Vec<PortSpec>);

/// A port, or a text that is checked when the policy is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "a port such as 443 or a range such as \"8000-8080\""
)]
pub enum PortSpec {
    /// One port.
    One(u16),
    /// A range, both ends included.
    Range(String),
}

impl From<&[u16]> for Ports {
    fn from(ports: &[u16]) -> Self {
        Self(ports.iter().copied().map(PortSpec::One).collect())
    }
}
