//! What is said to claude and what it says: one JSON object a line, both ways. It reads what it hears as hostile: a
//! line means one of a few things or nothing, and none of them is an event. No IO.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::content::{Block, Source};
use model::ToolSpec;
use serde_json::{Value, json};

use crate::limits::{FOREIGN_RESULT_BYTES, FOREIGN_RESULT_IMAGE_BYTES};

/// The name of the MCP server by which it reaches the client's tools, through us.
pub(crate) const CUSTOM: &str = "custom";
/// The name of our first request to it.
const INITIALIZE: &str = "initialize";

/// What a line means to us.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// It wants to run a tool of its own, and waits.
    Ask {
        request: String,
        call: String,
        tool: String,
        input: Value,
    },
    /// It wants a tool of the client's, and waits.
    Custom {
        request: String,
        rpc: Value,
        call: String,
    },
    /// It wants to know something about the client's tools.
    Rpc {
        request: String,
        rpc: Value,
        method: String,
    },
    /// It wants something that it does not get.
    Unknown { request: String },
    /// What its own tools said.
    Results(Vec<ToolResult>),
    /// It has come to the end of a turn, as it sees it; true if that went wrong.
    Ended { wrong: bool },
    /// It has taken in the first words.
    Listens,
    /// Nothing that matters here.
    Other,
}

/// What a tool of its own said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolResult {
    pub(crate) call: String,
    pub(crate) content: Vec<Block>,
    pub(crate) is_error: bool,
}

impl Heard {
    /// The request that it waits for an answer to.
    pub(crate) fn request(&self) -> Option<&str> {
        match self {
            Self::Ask { request, .. }
            | Self::Custom { request, .. }
            | Self::Rpc { request, .. }
            | Self::Unknown { request } => Some(request),
            Self::Results(_) | Self::Ended { .. } | Self::Listens | Self::Other => None,
        }
    }
}

/// What it was told, read back from the lines: the requests that were answered, and whether the user said something.
pub(crate) fn told(lines: &str) -> (HashSet<String>, bool) {
    let (mut answered, mut said) = (HashSet::new(), false);
    for line in lines.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        match text(&line, "type") {
            "control_response" => {
                let response = line.get("response").unwrap_or(&Value::Null);
                answered.insert(text(response, "request_id").to_owned());
            }
            "user" => said = true,
            _ => {}
        }
    }
    (answered, said)
}

/// Reads a line; none if it is no JSON object.
pub(crate) fn heard(line: &[u8]) -> Option<Heard> {
    let line: Value = serde_json::from_slice(line).ok()?;
    line.as_object()?;
    Some(match text(&line, "type") {
        "control_request" => request(&line),
        "control_response" if line["response"]["request_id"] == INITIALIZE => Heard::Listens,
        // What happens in a loop of its own below the conversation is not part of it.
        "user" if line.get("parent_tool_use_id").is_none_or(Value::is_null) => results(&line),
        "result" => Heard::Ended {
            wrong: line.get("is_error") != Some(&Value::Bool(false)),
        },
        _ => Heard::Other,
    })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn request(line: &Value) -> Heard {
    let request = text(line, "request_id").to_owned();
    let body = line.get("request").unwrap_or(&Value::Null);
    match text(body, "subtype") {
        "can_use_tool" => Heard::Ask {
            request,
            call: text(body, "tool_use_id").to_owned(),
            tool: text(body, "tool_name").to_owned(),
            input: body.get("input").cloned().unwrap_or_else(|| json!({})),
        },
        "mcp_message" if text(body, "server_name") == CUSTOM => {
            let message = body.get("message").unwrap_or(&Value::Null);
            // A word that wants no answer gets one all the same, of the number 0: the request around it wants it.
            let rpc = message.get("id").cloned().unwrap_or_else(|| json!(0));
            let meta = message.pointer("/params/_meta").unwrap_or(&Value::Null);
            match text(message, "method") {
                "tools/call" => Heard::Custom {
                    request,
                    rpc,
                    call: text(meta, "claudecode/toolUseId").to_owned(),
                },
                method => Heard::Rpc {
                    request,
                    rpc,
                    method: method.to_owned(),
                },
            }
        }
        _ => Heard::Unknown { request },
    }
}

fn results(line: &Value) -> Heard {
    let blocks = line.pointer("/message/content").and_then(Value::as_array);
    let results = blocks.into_iter().flatten();
    let results = results.filter(|block| text(block, "type") == "tool_result");
    let results = results.map(|block| ToolResult {
        call: text(block, "tool_use_id").to_owned(),
        content: content(block.get("content").unwrap_or(&Value::Null)),
        is_error: block.get("is_error") == Some(&Value::Bool(true)),
    });
    let results = results.collect::<Vec<_>>();
    if results.is_empty() {
        Heard::Other
    } else {
        Heard::Results(results)
    }
}

/// What a tool said, in the contract's words and bounded.
fn content(said: &Value) -> Vec<Block> {
    if let Some(said) = said.as_str() {
        return vec![Block::text(cut(said, FOREIGN_RESULT_BYTES))];
    }
    let mut left = FOREIGN_RESULT_BYTES;
    let mut blocks = Vec::new();
    for block in said.as_array().into_iter().flatten() {
        match text(block, "type") {
            "text" => {
                let said = cut(text(block, "text"), left);
                left = left.saturating_sub(said.len());
                blocks.push(Block::text(said));
            }
            "image" => blocks.push(image(block)),
            _ => {}
        }
        if left == 0 {
            break;
        }
    }
    blocks
}

fn image(block: &Value) -> Block {
    let source = block.get("source").unwrap_or(&Value::Null);
    let (data, media_type) = (text(source, "data"), text(source, "media_type"));
    let known = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    let fits = data.len() <= FOREIGN_RESULT_IMAGE_BYTES && STANDARD.decode(data).is_ok();
    if text(source, "type") != "base64" || !known.contains(&media_type) || !fits {
        return Block::text("[an image that cannot be shown]");
    }
    Block::Image {
        source: Source::Base64 {
            data: data.to_owned(),
            media_type: media_type.to_owned(),
        },
    }
}

fn cut(said: &str, most: usize) -> String {
    if said.len() <= most {
        return said.to_owned();
    }
    let end = said.floor_char_boundary(most);
    format!("{}\n[cut: the rest of {} bytes]", &said[..end], said.len())
}

/// The first words: who it is, and which tools its client has.
pub(crate) fn initialize(append: &str, custom: &[ToolSpec]) -> Value {
    let mut request = json!({
        "subtype": "initialize",
        "appendSystemPrompt": append,
        "systemPromptSnapshot": false,
    });
    if !custom.is_empty() {
        request["sdkMcpServers"] = json!([CUSTOM]);
        // A client may take as long as it likes.
        request["sdkMcpServerConfigs"] =
            json!({CUSTOM: {"timeout": 2_147_483_647, "disableAutoBackground": true}});
    }
    json!({"type": "control_request", "request_id": INITIALIZE, "request": request})
}

/// What a user says.
pub(crate) fn user(content: Value) -> Value {
    json!({"type": "user", "session_id": "", "parent_tool_use_id": null,
           "message": {"role": "user", "content": content}})
}

/// It may run the tool.
pub(crate) fn allow(request: &str, input: &Value) -> Value {
    answer(
        request,
        &json!({"behavior": "allow", "updatedInput": input}),
    )
}

/// It may not; the model is told why.
pub(crate) fn deny(request: &str, why: &str) -> Value {
    answer(request, &json!({"behavior": "deny", "message": why}))
}

/// What the client's tool said.
pub(crate) fn returned(request: &str, rpc: &Value, content: &[Block], is_error: bool) -> Value {
    let content = content.iter().filter_map(|block| match block {
        Block::Text { text } => Some(json!({"type": "text", "text": text})),
        Block::Image {
            source: Source::Base64 { data, media_type },
        } => Some(json!({"type": "image", "data": data, "mimeType": media_type})),
        // MCP has no word for the rest that the loop would pass on.
        other => Some(json!({"type": "text", "text": serde_json::to_string(other).ok()?})),
    });
    let content = content.collect::<Vec<_>>();
    let result = json!({"content": content, "isError": is_error});
    rpc_answer(request, rpc, &result)
}

/// What it wants to know about the client's tools; none if there is nothing to know.
pub(crate) fn about(request: &str, rpc: &Value, method: &str, custom: &[ToolSpec]) -> Value {
    let result = match method {
        "initialize" => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": CUSTOM, "version": "1"},
        }),
        "tools/list" => {
            // Said to be read-only so that calls beside one another are all made at once.
            let tools = custom.iter().map(|tool| {
                json!({"name": tool.name, "description": tool.description,
                       "inputSchema": tool.input_schema, "annotations": {"readOnlyHint": true}})
            });
            json!({"tools": tools.collect::<Vec<_>>()})
        }
        _ => json!({}),
    };
    rpc_answer(request, rpc, &result)
}

/// It asked for something that there is not.
pub(crate) fn refuse(request: &str) -> Value {
    json!({"type": "control_response", "response": {
        "subtype": "error", "request_id": request, "error": "there is no such thing here"}})
}

fn rpc_answer(request: &str, rpc: &Value, result: &Value) -> Value {
    let message = json!({"jsonrpc": "2.0", "id": rpc, "result": result});
    answer(request, &json!({"mcp_response": message}))
}

fn answer(request: &str, response: &Value) -> Value {
    json!({"type": "control_response", "response": {
        "subtype": "success", "request_id": request, "response": response}})
}
