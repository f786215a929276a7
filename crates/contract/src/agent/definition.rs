//! What an agent is: the rules by which a request becomes a definition, and an update a new one
//! (api.md §4.3, behaviours §2). It never looks at other agents.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AwsRole, CreateAgent, ExecutionIdentity, McpServer, Multiagent, Skill, SkillParams, SkillRef,
    SkillRefParams, UpdateAgent,
};
use crate::check;
use crate::limits::{AGENT_NAME, DESCRIPTION, MCP_SERVER_NAME, MCP_SERVERS, ROLE_ARN, SKILL_ID};
use crate::limits::{SKILLS, SYSTEM};
use crate::metadata::{self, Empty, Metadata};
use crate::model::ModelConfig;
use crate::parse::Invalid;
use crate::patch::Patch;
use crate::tools::{self, Tool};

/// An agent without its identity: what is stored for each version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §4.0
pub struct AgentDefinition {
    pub name: String,
    pub description: Option<String>,
    pub system: Option<String>,
    pub model: ModelConfig,
    pub tools: Vec<Tool>,
    pub mcp_servers: Vec<McpServer>,
    pub skills: Vec<Skill>,
    pub multiagent: Option<Multiagent>,
    pub execution_identity: ExecutionIdentity,
    pub metadata: Metadata,
}

impl CreateAgent {
    /// Checks every rule that needs no other object and fills in the defaults.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn resolve(self) -> Result<AgentDefinition, Invalid> {
        metadata::check(&self.metadata)?;
        let definition = AgentDefinition {
            name: self.name,
            description: self.description,
            system: self.system,
            model: ModelConfig::resolve(self.model, None)?,
            tools: tools::resolve(self.tools)?,
            mcp_servers: self.mcp_servers,
            skills: resolve_skills(self.skills)?,
            multiagent: self
                .multiagent
                .map(|params| {
                    Multiagent::resolve(params, None).map_err(|bad| bad.under("multiagent"))
                })
                .transpose()?,
            execution_identity: self.execution_identity.unwrap_or_default(),
            metadata: self.metadata,
        };
        definition.check()?;
        Ok(definition)
    }
}

impl AgentDefinition {
    /// The definition after an update. Equal to the old one if nothing changes: then the version stays.
    /// `update.version` is the caller's to compare.
    ///
    /// # Errors
    /// The first rule that the *resulting* definition breaks, with its path.
    pub fn updated(&self, update: UpdateAgent) -> Result<Self, Invalid> {
        let multiagent = match update.multiagent {
            Patch::Absent => self.multiagent.clone(),
            Patch::Null => None,
            Patch::Value(params) => Some(
                Multiagent::resolve(params, self.multiagent.as_ref())
                    .map_err(|bad| bad.under("multiagent"))?,
            ),
        };
        let definition = Self {
            name: required("name", update.name)?.unwrap_or_else(|| self.name.clone()),
            description: cleared(update.description, &self.description),
            system: cleared(update.system, &self.system),
            model: match required("model", update.model)? {
                Some(model) => ModelConfig::resolve(model, Some(&self.model))?,
                None => self.model.clone(),
            },
            tools: match list(update.tools) {
                Some(tools) => tools::resolve(tools)?,
                None => self.tools.clone(),
            },
            mcp_servers: list(update.mcp_servers).unwrap_or_else(|| self.mcp_servers.clone()),
            skills: match list(update.skills) {
                Some(skills) => resolve_skills(skills)?,
                None => self.skills.clone(),
            },
            multiagent,
            execution_identity: match update.execution_identity {
                Patch::Absent => self.execution_identity.clone(),
                Patch::Null => ExecutionIdentity::default(),
                Patch::Value(identity) => identity,
            },
            metadata: metadata::patched(&self.metadata, update.metadata, Empty::Keeps)?,
        };
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), Invalid> {
        check::length("name", &self.name, 1, AGENT_NAME)?;
        if let Some(description) = &self.description {
            check::length("description", description, 0, DESCRIPTION)?;
        }
        if let Some(system) = &self.system {
            check::length("system", system, 0, SYSTEM)?;
        }
        if let ExecutionIdentity::AwsRole(AwsRole { role_arn }) = &self.execution_identity {
            check::length("execution_identity.role_arn", role_arn, 1, ROLE_ARN)?;
        }
        check_servers(&self.mcp_servers, &self.tools)
    }
}

/// A field that an update may leave out but not clear.
fn required<T>(field: &str, patch: Patch<T>) -> Result<Option<T>, Invalid> {
    match patch {
        Patch::Absent => Ok(None),
        Patch::Null => Err(Invalid::at(
            field,
            "cannot be cleared; leave it out to keep it",
        )),
        Patch::Value(value) => Ok(Some(value)),
    }
}

/// A text that null and `""` clear (api.md §4.3).
fn cleared(patch: Patch<String>, stored: &Option<String>) -> Option<String> {
    match patch {
        Patch::Absent => stored.clone(),
        Patch::Null => None,
        Patch::Value(text) => (!text.is_empty()).then_some(text),
    }
}

/// A list that null clears; `None` keeps what stands.
fn list<T>(patch: Patch<Vec<T>>) -> Option<Vec<T>> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(Vec::new()),
        Patch::Value(items) => Some(items),
    }
}

/// Skills keep their ids; a version that was left out stays `latest`.
pub(super) fn resolve_skills(params: Vec<SkillParams>) -> Result<Vec<Skill>, Invalid> {
    check::count("skills", params.len(), SKILLS)?;
    let mut seen = BTreeSet::new();
    let mut skills = Vec::with_capacity(params.len());
    for (index, params) in params.into_iter().enumerate() {
        let at = |bad: Invalid| bad.under_index(index).under("skills");
        let reference = |params: SkillRefParams| -> Result<SkillRef, Invalid> {
            check::length("skill_id", &params.skill_id, 1, SKILL_ID).map_err(at)?;
            let version = params.version.unwrap_or_else(|| "latest".to_owned());
            check::length("version", &version, 1, SKILL_ID).map_err(at)?;
            Ok(SkillRef {
                skill_id: params.skill_id,
                version,
            })
        };
        let skill = match params {
            SkillParams::Anthropic(params) => Skill::Anthropic(reference(params)?),
            SkillParams::Custom(params) => Skill::Custom(reference(params)?),
        };
        let key = match &skill {
            Skill::Anthropic(skill) => (0, skill.skill_id.clone()),
            Skill::Custom(skill) => (1, skill.skill_id.clone()),
        };
        if !seen.insert(key) {
            return Err(at(Invalid::at("skill_id", "is there twice")));
        }
        skills.push(skill);
    }
    Ok(skills)
}

/// Servers are named once, well-formed, and each is used by a toolset and the reverse (api.md §3.4).
pub(super) fn check_servers(servers: &[McpServer], tools: &[Tool]) -> Result<(), Invalid> {
    check::count("mcp_servers", servers.len(), MCP_SERVERS)?;
    let used: BTreeSet<&str> = tools
        .iter()
        .filter_map(|tool| match tool {
            Tool::McpToolset(toolset) => Some(toolset.mcp_server_name.as_str()),
            Tool::AgentToolset(_) | Tool::Custom(_) => None,
        })
        .collect();
    let mut declared = BTreeSet::new();
    for (index, McpServer::Url(server)) in servers.iter().enumerate() {
        let path = |field: &str| format!("mcp_servers[{index}].{field}");
        check::length(&path("name"), &server.name, 1, MCP_SERVER_NAME)?;
        check::url(&path("url"), &server.url)?;
        if !declared.insert(server.name.as_str()) {
            return Err(Invalid::at(path("name"), "is there twice"));
        }
        if !used.contains(server.name.as_str()) {
            return Err(Invalid::at(
                path("name"),
                "is not used: add an `mcp_toolset` with this `mcp_server_name` to `tools`",
            ));
        }
    }
    for (index, tool) in tools.iter().enumerate() {
        if let Tool::McpToolset(toolset) = tool
            && !declared.contains(toolset.mcp_server_name.as_str())
        {
            return Err(Invalid::at(
                format!("tools[{index}].mcp_server_name"),
                "names no entry of `mcp_servers`",
            ));
        }
    }
    Ok(())
}
