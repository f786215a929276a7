//! What Anthropic Messages refuses. As strict as the real API, and a little stricter where a client of
//! ours could only be wrong; each text names the place. Pure.

use std::collections::BTreeSet;

use http::HeaderMap;
use serde_json::Value;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal {
        status: 400,
        kind: "invalid_request_error",
        message: message.into(),
    }
}

const KNOWN: [&str; 20] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "tools",
    "tool_choice",
    "stream",
    "thinking",
    "output_config",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "metadata",
    "service_tier",
    "container",
    "context_management",
    "mcp_servers",
    "inference_geo",
    "speed",
];
const MARKS: usize = 4;

/// The key, when the headers are those of the API.
pub(crate) fn headers(headers: &HeaderMap) -> Result<String, Refusal> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let auth = |message: String| Refusal {
        status: 401,
        kind: "authentication_error",
        message,
    };
    let key = text("x-api-key");
    if key.is_empty() {
        return Err(auth("x-api-key header is required".to_owned()));
    }
    if key.starts_with("bad") {
        // The real API does not echo keys; some gateways do, and clients must not pass that on.
        return Err(auth(format!("invalid x-api-key: {key}")));
    }
    if text("anthropic-version") != "2023-06-01" {
        return Err(invalid(
            "anthropic-version: header is required and must be 2023-06-01",
        ));
    }
    if !text("content-type").starts_with("application/json") {
        return Err(invalid("content-type: must be application/json"));
    }
    Ok(key.to_owned())
}

/// Judges a body.
pub(crate) fn body(body: &Value) -> Result<(), Refusal> {
    let map = body
        .as_object()
        .ok_or_else(|| invalid("the body must be an object"))?;
    if let Some(unknown) = map.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(invalid(format!(
            "{unknown}: Extra inputs are not permitted"
        )));
    }
    if body
        .get("model")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return Err(invalid("model: Field required"));
    }
    if body
        .get("max_tokens")
        .and_then(Value::as_u64)
        .is_none_or(|n| n == 0)
    {
        return Err(invalid("max_tokens: must be an integer greater than 0"));
    }
    let mut marks = 0;
    system(body.get("system"), &mut marks)?;
    tools(body.get("tools"), &mut marks)?;
    messages(body.get("messages"), &mut marks)?;
    if marks > MARKS {
        return Err(invalid(format!(
            "A maximum of {MARKS} blocks with cache_control may be provided. Found {marks}."
        )));
    }
    Ok(())
}

fn mark(block: &Value, at: &str, marks: &mut usize) -> Result<(), Refusal> {
    let Some(control) = block.get("cache_control").filter(|c| !c.is_null()) else {
        return Ok(());
    };
    *marks += 1;
    if control.get("type") != Some(&"ephemeral".into()) {
        return Err(invalid(format!(
            "{at}.cache_control.type: must be ephemeral"
        )));
    }
    if matches!(kind(block), "thinking" | "redacted_thinking") {
        return Err(invalid(format!(
            "{at}.cache_control: cannot be set on thinking blocks"
        )));
    }
    Ok(())
}

fn system(system: Option<&Value>, marks: &mut usize) -> Result<(), Refusal> {
    match system {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(blocks)) => blocks.iter().enumerate().try_for_each(|(i, block)| {
            let at = format!("system.{i}");
            text(block, &at)?;
            mark(block, &at, marks)
        }),
        Some(_) => Err(invalid("system: must be a string or a list of text blocks")),
    }
}

fn tools(tools: Option<&Value>, marks: &mut usize) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    for (i, tool) in tools
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = format!("tools.{i}");
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        if !is_name(name, 128) {
            return Err(invalid(format!(
                "{at}.name: must match ^[a-zA-Z0-9_-]{{1,128}}$"
            )));
        }
        if !names.insert(name) {
            return Err(invalid(format!("{at}: Tool names must be unique.")));
        }
        if tool.pointer("/input_schema/type") != Some(&"object".into()) {
            return Err(invalid(format!("{at}.input_schema.type: must be object")));
        }
        mark(tool, &at, marks)?;
    }
    Ok(())
}

fn is_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn messages(messages: Option<&Value>, marks: &mut usize) -> Result<(), Refusal> {
    let messages = messages.and_then(Value::as_array).filter(|m| !m.is_empty());
    let messages = messages.ok_or_else(|| invalid("messages: at least one message is required"))?;
    let mut open: Vec<String> = Vec::new();
    let mut all_calls = BTreeSet::new();
    let mut before = "";
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages.{i}");
        let role = message
            .get("role")
            .and_then(Value::as_str)
            .unwrap_or_default();
        order(&at, before, role)?;
        before = role;
        let user = role == "user";
        let blocks = match message.get("content") {
            Some(Value::String(text)) if !text.is_empty() => Vec::new(),
            Some(Value::Array(blocks)) if !blocks.is_empty() => blocks.iter().collect(),
            _ => {
                return Err(invalid(format!(
                    "{at}: all messages must have non-empty content"
                )));
            }
        };
        if user {
            results(&blocks, &at, &open)?;
            open.clear();
        }
        for (j, block) in blocks.iter().enumerate() {
            let at = format!("{at}.content.{j}");
            if role == "system" && kind(block) != "text" {
                return Err(invalid(format!("{at}: a system message holds text only")));
            }
            content(block, &at, user)?;
            mark(block, &at, marks)?;
            if kind(block) == "tool_use" {
                let id = block.get("id").and_then(Value::as_str).unwrap_or_default();
                if !is_name(id, 256) || !all_calls.insert(id.to_owned()) {
                    return Err(invalid(format!(
                        "{at}: `tool_use` ids must be unique and match ^[a-zA-Z0-9_-]+$"
                    )));
                }
                open.push(id.to_owned());
            }
        }
    }
    // A paused turn is sent back to go on; nothing else may end with the model's words.
    let last = messages
        .last()
        .and_then(|m| m.get("content")?.as_array()?.last());
    let paused = last.is_some_and(|block| kind(block) == "server_tool_use");
    if before == "assistant" && !paused {
        return Err(invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    Ok(())
}

/// Roles alternate, beginning with the user's; a system message stands right after a user's and is last or
/// right before the model's.
fn order(at: &str, before: &str, role: &str) -> Result<(), Refusal> {
    match (before, role) {
        ("" | "assistant", "user") | ("user", "assistant" | "system") | ("system", "assistant") => {
            Ok(())
        }
        ("", "system") => Err(invalid(format!(
            "{at}: use the top-level 'system' parameter for the initial system prompt"
        ))),
        ("system", _) => Err(invalid(format!(
            "{at}: role 'system' must precede an 'assistant' message or end the array"
        ))),
        (_, "system") => Err(invalid(format!(
            "{at}: role 'system' must follow a 'user' message"
        ))),
        _ => Err(invalid(format!(
            "{at}: roles must alternate between \"user\" and \"assistant\", beginning with \"user\"; found {role:?}"
        ))),
    }
}

/// Each call of the message before has its result here, first, and nothing else has one.
fn results(blocks: &[&Value], at: &str, open: &[String]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    let mut other = false;
    for (j, block) in blocks.iter().enumerate() {
        if kind(block) != "tool_result" {
            other = true;
            continue;
        }
        let id = block
            .get("tool_use_id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !open.iter().any(|o| o == id) {
            return Err(invalid(format!(
                "{at}.content.{j}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )));
        }
        if !seen.insert(id) {
            return Err(invalid(format!(
                "{at}.content.{j}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"
            )));
        }
        if other {
            return Err(invalid(format!(
                "{at}.content.{j}: `tool_result` blocks must come first in the message"
            )));
        }
    }
    let missing: Vec<&str> = open
        .iter()
        .map(String::as_str)
        .filter(|id| !seen.contains(id))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(invalid(format!(
        "{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
        missing.join(", ")
    )))
}

fn content(block: &Value, at: &str, user: bool) -> Result<(), Refusal> {
    match (kind(block), user) {
        ("text", _) => text(block, at),
        ("image" | "document", true) => match block.get("source") {
            Some(Value::Object(_)) => Ok(()),
            _ => Err(invalid(format!("{at}.source: Field required"))),
        },
        ("tool_result", true) => match block.get("content") {
            None | Some(Value::String(_)) => Ok(()),
            Some(Value::Array(parts)) => parts
                .iter()
                .enumerate()
                .filter(|(_, p)| kind(p) == "text")
                .try_for_each(|(k, p)| text(p, &format!("{at}.content.{k}"))),
            Some(_) => Err(invalid(format!("{at}.content: must be a string or a list"))),
        },
        ("tool_use", false) if !block.get("input").is_some_and(Value::is_object) => Err(invalid(
            format!("{at}.input: Input should be a valid dictionary"),
        )),
        ("thinking", false) => {
            let part = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default();
            if part("signature") == signature(part("thinking")) {
                Ok(())
            } else {
                Err(invalid(format!(
                    "{at}: Invalid `signature` in `thinking` block"
                )))
            }
        }
        ("tool_use" | "redacted_thinking" | "server_tool_use", false) => Ok(()),
        (kind, _) => {
            let role = if user { "user" } else { "assistant" };
            Err(invalid(format!(
                "{at}: a block of type {kind:?} is not permitted in a {role} message"
            )))
        }
    }
}

fn text(block: &Value, at: &str) -> Result<(), Refusal> {
    match block.get("text").and_then(Value::as_str) {
        Some(text) if !text.trim().is_empty() => Ok(()),
        Some(text) if !text.is_empty() => Err(invalid(format!(
            "{at}: text content blocks must contain non-whitespace text"
        ))),
        Some(_) => Err(invalid(format!(
            "{at}: text content blocks must be non-empty"
        ))),
        None => Err(invalid(format!("{at}.text: Field required"))),
    }
}

pub(crate) fn kind(block: &Value) -> &str {
    block
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The signature of a piece of thinking.
pub(crate) fn signature(thinking: &str) -> String {
    format!("scripted-{:016x}", crate::prefix::fnv(thinking.as_bytes()))
}
