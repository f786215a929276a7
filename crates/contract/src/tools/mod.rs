//! Tools of an agent (api.md §3.3): what a request says and what it resolves to. Resolving fills in
//! every default; whether a tool can run is decided elsewhere.

mod resolve;
mod web;

pub use web::{ToolFilter, UrlSources, UserLocation};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parse::tagged;
use crate::patch::present;
pub(crate) use resolve::resolve;
pub use web::{Filter, FilterParams, ToolReference, UrlSourcesParams};

/// Who decides whether a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Policy {
    /// It runs.
    AlwaysAllow,
    /// The client is asked.
    AlwaysAsk,
    /// The server judges.
    Auto,
}

tagged!(Policy {
    "always_allow" => AlwaysAllow, "always_ask" => AlwaysAsk, "auto" => Auto,
});

/// A tool of the platform's toolset.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ToolName {
    Bash,
    Edit,
    Read,
    Write,
    Glob,
    Grep,
    WebFetch,
    WebSearch,
}

impl ToolName {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Bash,
        Self::Edit,
        Self::Read,
        Self::Write,
        Self::Glob,
        Self::Grep,
        Self::WebFetch,
        Self::WebSearch,
    ];

    /// The name on the wire and for the model.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Edit => "edit",
            Self::Read => "read",
            Self::Write => "write",
            Self::Glob => "glob",
            Self::Grep => "grep",
            Self::WebFetch => "web_fetch",
            Self::WebSearch => "web_search",
        }
    }

    /// The tool with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// True if it runs outside the sandbox, against the web.
    #[must_use]
    pub const fn is_web(self) -> bool {
        matches!(self, Self::WebFetch | Self::WebSearch)
    }
}

/// A tool in a request.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolParams {
    /// The platform's own tools.
    AgentToolset(AgentToolsetParams),
    /// The tools of an MCP server.
    McpToolset(McpToolsetParams),
    /// A tool that the client runs.
    Custom(CustomTool),
}

tagged!(ToolParams {
    "agent_toolset_20260401" => AgentToolset(AgentToolsetParams),
    "mcp_toolset" => McpToolset(McpToolsetParams),
    "custom" => Custom(CustomTool),
});

/// The platform's toolset in a request.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentToolsetParams {
    /// Overrides for single tools.
    #[serde(default)]
    pub configs: Vec<ToolConfigParams>,
    /// What holds for the rest.
    #[serde(default)]
    pub default_config: Option<DefaultConfigParams>,
}

/// What holds for the tools of a toolset that have no override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultConfigParams {
    /// Whether the model gets them; true if not said.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Who decides about calls.
    #[serde(default)]
    pub permission_policy: Option<Policy>,
}

/// An override for one tool in a request. Told apart by `name`; `type` may repeat it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolConfigParams {
    /// Which tool.
    pub name: ToolName,
    /// The same again.
    #[serde(default, rename = "type", deserialize_with = "present")]
    #[schemars(with = "ToolName")]
    pub kind: Option<ToolName>,
    /// Whether the model gets it.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Who decides about calls.
    #[serde(default)]
    pub permission_policy: Option<Policy>,
    /// Web tools: the only domains.
    #[serde(default)]
    pub allowed_domains: Option<Vec<String>>,
    /// Web tools: never these domains.
    #[serde(default)]
    pub blocked_domains: Option<Vec<String>>,
    /// `web_fetch`: the most tokens of text.
    #[serde(default)]
    pub max_content_tokens: Option<u32>,
    /// `web_fetch`: where a URL must have been seen.
    #[serde(default)]
    pub url_sources: Option<UrlSourcesParams>,
    /// `web_search`: where the user is.
    #[serde(default)]
    pub user_location: Option<UserLocation>,
}

/// The tools of an MCP server in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpToolsetParams {
    /// An entry of `mcp_servers`.
    pub mcp_server_name: String,
    /// Overrides for single tools.
    #[serde(default)]
    pub configs: Vec<McpToolConfigParams>,
    /// What holds for the rest.
    #[serde(default)]
    pub default_config: Option<DefaultConfigParams>,
}

/// An override for one MCP tool in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpToolConfigParams {
    /// The tool's name at its server.
    pub name: String,
    /// Whether the model gets it.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Who decides about calls.
    #[serde(default)]
    pub permission_policy: Option<Policy>,
}

/// A tool that the client runs; the same in requests, in store and in answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomTool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its input, kept with every key it came with.
    pub input_schema: Value,
}

/// A tool with its defaults filled in, as stored and served.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Tool {
    /// The platform's own tools.
    #[serde(rename = "agent_toolset_20260401")]
    AgentToolset(AgentToolset),
    /// The tools of an MCP server.
    #[serde(rename = "mcp_toolset")]
    McpToolset(McpToolset),
    /// A tool that the client runs.
    #[serde(rename = "custom")]
    Custom(CustomTool),
}

tagged!(Tool {
    "agent_toolset_20260401" => AgentToolset(AgentToolset),
    "mcp_toolset" => McpToolset(McpToolset),
    "custom" => Custom(CustomTool),
});

/// The platform's toolset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentToolset {
    /// Overrides for single tools, in the order of the request.
    pub configs: Vec<ToolConfig>,
    /// What holds for the rest.
    pub default_config: DefaultConfig,
}

/// What holds for the tools of a toolset that have no override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefaultConfig {
    /// Whether the model gets them.
    pub enabled: bool,
    /// Who decides about calls.
    pub permission_policy: Policy,
}

/// An override for one tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolConfig {
    /// Whether the model gets it.
    pub enabled: bool,
    /// Which tool.
    pub name: ToolName,
    /// Who decides about calls.
    pub permission_policy: Policy,
    /// The same as `name`.
    #[serde(rename = "type")]
    pub kind: ToolName,
    /// Web tools: the only domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_domains: Option<Vec<String>>,
    /// Web tools: never these domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_domains: Option<Vec<String>>,
    /// `web_fetch`: the most tokens of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_content_tokens: Option<u32>,
    /// `web_fetch`: where a URL must have been seen; null means anywhere. Absent for other tools.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "web::nullable"
    )]
    #[schemars(with = "Option<UrlSources>")]
    pub url_sources: Option<Option<UrlSources>>,
    /// `web_search`: where the user is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_location: Option<UserLocation>,
}

/// The tools of an MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpToolset {
    /// An entry of `mcp_servers`.
    pub mcp_server_name: String,
    /// Overrides for single tools.
    pub configs: Vec<McpToolConfig>,
    /// What holds for the rest.
    pub default_config: DefaultConfig,
}

/// An override for one MCP tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct McpToolConfig {
    /// Whether the model gets it.
    pub enabled: bool,
    /// The tool's name at its server.
    pub name: String,
    /// Who decides about calls.
    pub permission_policy: Policy,
}

impl AgentToolset {
    /// Whether the model gets a tool and who decides about its calls.
    #[must_use]
    pub fn effective(&self, tool: ToolName) -> DefaultConfig {
        self.configs
            .iter()
            .find(|config| config.name == tool)
            .map_or(self.default_config, |config| DefaultConfig {
                enabled: config.enabled,
                permission_policy: config.permission_policy,
            })
    }
}
