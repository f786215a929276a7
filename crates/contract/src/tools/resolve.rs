//! From the tools of a request to the tools of a definition: defaults filled in, duplicates refused.
//! Paths start at `tools`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::web;
use super::{
    AgentToolset, AgentToolsetParams, CustomTool, DefaultConfig, DefaultConfigParams,
    McpToolConfig, McpToolset, McpToolsetParams, Policy, Tool, ToolConfig, ToolName, ToolParams,
};
use crate::check;
use crate::limits::{MCP_SERVER_NAME, PROPERTY_NAME, TOOL_DESCRIPTION, TOOL_NAME, TOOLS};
use crate::parse::Invalid;

/// Resolves the whole array.
///
/// # Errors
/// More than 256 tools, a toolset or a name twice, a rule of a custom tool broken.
pub(crate) fn resolve(params: Vec<ToolParams>) -> Result<Vec<Tool>, Invalid> {
    let total: usize = params
        .iter()
        .map(|tool| match tool {
            ToolParams::AgentToolset(_) => ToolName::ALL.len(),
            ToolParams::McpToolset(toolset) => toolset.configs.len().max(1),
            ToolParams::Custom(_) => 1,
        })
        .sum();
    if total > TOOLS {
        return Err(Invalid::at(
            "tools",
            format!("names {total} tools; at most {TOOLS} are allowed"),
        ));
    }
    let customs: BTreeSet<String> = params
        .iter()
        .filter_map(|tool| match tool {
            ToolParams::Custom(custom) => Some(custom.name.clone()),
            _ => None,
        })
        .collect();
    let customs: BTreeSet<&str> = customs.iter().map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    let mut tools = Vec::with_capacity(params.len());
    for (index, tool) in params.into_iter().enumerate() {
        let key = match &tool {
            ToolParams::AgentToolset(_) => (0, "agent_toolset_20260401".to_owned()),
            ToolParams::McpToolset(toolset) => (1, toolset.mcp_server_name.clone()),
            ToolParams::Custom(custom) => (2, custom.name.clone()),
        };
        let at = |bad: Invalid| bad.under_index(index).under("tools");
        if !seen.insert(key) {
            return Err(at(Invalid::body("repeats an earlier entry of `tools`")));
        }
        tools.push(
            match tool {
                ToolParams::AgentToolset(toolset) => {
                    agent_toolset(toolset, &customs).map(Tool::AgentToolset)
                }
                ToolParams::McpToolset(toolset) => mcp_toolset(toolset).map(Tool::McpToolset),
                ToolParams::Custom(custom) => custom_tool(custom).map(Tool::Custom),
            }
            .map_err(at)?,
        );
    }
    Ok(tools)
}

fn default_config(params: Option<DefaultConfigParams>, policy: Policy) -> DefaultConfig {
    DefaultConfig {
        enabled: params.and_then(|params| params.enabled).unwrap_or(true),
        permission_policy: params
            .and_then(|params| params.permission_policy)
            .unwrap_or(policy),
    }
}

fn agent_toolset(
    params: AgentToolsetParams,
    customs: &BTreeSet<&str>,
) -> Result<AgentToolset, Invalid> {
    let default_config = default_config(params.default_config, Policy::AlwaysAllow);
    let mut seen = BTreeSet::new();
    let mut configs = Vec::with_capacity(params.configs.len());
    for (index, config) in params.configs.into_iter().enumerate() {
        let at = |bad: Invalid| bad.under_index(index).under("configs");
        if !seen.insert(config.name) {
            return Err(at(Invalid::at("name", "is configured twice")));
        }
        if config.kind.is_some_and(|kind| kind != config.name) {
            return Err(at(Invalid::at("type", "must be the same as `name`")));
        }
        let url_sources = web::check_config(&config, customs).map_err(at)?;
        configs.push(ToolConfig {
            enabled: config.enabled.unwrap_or(default_config.enabled),
            name: config.name,
            permission_policy: config
                .permission_policy
                .unwrap_or(default_config.permission_policy),
            kind: config.name,
            allowed_domains: config.allowed_domains,
            blocked_domains: config.blocked_domains,
            max_content_tokens: config.max_content_tokens,
            url_sources,
            user_location: config.user_location,
        });
    }
    Ok(AgentToolset {
        configs,
        default_config,
    })
}

fn mcp_toolset(params: McpToolsetParams) -> Result<McpToolset, Invalid> {
    check::length(
        "mcp_server_name",
        &params.mcp_server_name,
        1,
        MCP_SERVER_NAME,
    )?;
    let default_config = default_config(params.default_config, Policy::AlwaysAsk);
    let mut seen = BTreeSet::new();
    let mut configs = Vec::with_capacity(params.configs.len());
    for (index, config) in params.configs.into_iter().enumerate() {
        let at = |bad: Invalid| bad.under_index(index).under("configs");
        check::length("name", &config.name, 1, TOOL_NAME).map_err(at)?;
        if !seen.insert(config.name.clone()) {
            return Err(at(Invalid::at("name", "is configured twice")));
        }
        configs.push(McpToolConfig {
            enabled: config.enabled.unwrap_or(default_config.enabled),
            name: config.name,
            permission_policy: config
                .permission_policy
                .unwrap_or(default_config.permission_policy),
        });
    }
    Ok(McpToolset {
        mcp_server_name: params.mcp_server_name,
        configs,
        default_config,
    })
}

fn custom_tool(tool: CustomTool) -> Result<CustomTool, Invalid> {
    check::length("name", &tool.name, 1, TOOL_NAME)?;
    if !tool
        .name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        return Err(Invalid::at(
            "name",
            "may hold only letters, digits, `_` and `-`",
        ));
    }
    if ToolName::named(&tool.name).is_some() {
        return Err(Invalid::at("name", "is the name of a built-in tool"));
    }
    if tool.name.starts_with("mcp__") {
        return Err(Invalid::at("name", "must not start with `mcp__`"));
    }
    if tool.description.trim().is_empty() {
        return Err(Invalid::at("description", "must not be empty"));
    }
    check::length("description", &tool.description, 1, TOOL_DESCRIPTION)?;
    schema(&tool.input_schema).map_err(|bad| bad.under("input_schema"))?;
    Ok(tool)
}

fn schema(schema: &Value) -> Result<(), Invalid> {
    let Value::Object(fields) = schema else {
        return Err(Invalid::body("expected an object"));
    };
    match fields.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        Some(_) => return Err(Invalid::at("type", "must be `object`")),
        None => return Err(Invalid::at("type", "is required")),
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if fields.contains_key(key) {
            return Err(Invalid::at(key, "is not supported at the top of a schema"));
        }
    }
    match fields.get("properties") {
        None | Some(Value::Null) => {}
        Some(Value::Object(properties)) => {
            for name in properties.keys() {
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
                if name.is_empty() || name.len() > PROPERTY_NAME || !name.bytes().all(plain) {
                    return Err(Invalid::at(
                        "properties",
                        format!(
                            "names must have 1 to {PROPERTY_NAME} letters, digits, `_`, `.` or `-`"
                        ),
                    ));
                }
            }
        }
        Some(_) => return Err(Invalid::at("properties", "expected an object")),
    }
    match fields.get("required") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {}
        Some(_) => return Err(Invalid::at("required", "expected an array of strings")),
    }
    no_references(schema)
}

fn no_references(value: &Value) -> Result<(), Invalid> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            // A property may be called `$ref` only below `properties`, and names there are checked.
            if key == "$ref" {
                return Err(Invalid::at(
                    key.as_str(),
                    "is not supported; write the schema out",
                ));
            }
            no_references(value).map_err(|bad| bad.under(key))
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            no_references(item).map_err(|bad| bad.under_index(index))
        }),
        _ => Ok(()),
    }
}
