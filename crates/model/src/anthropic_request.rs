//! Renders a request as Anthropic Messages. The bytes are a pure function of the request, and the
//! rendering of a longer transcript begins with that of the shorter one, cache marks aside.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Dialect;
use crate::catalog::Quirks;
use crate::request::{Request, Thinking};
use crate::transcript::{Block, Message, ResultBlock, Source, UserBlock};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Value>,
    messages: Vec<Turn>,
}

#[derive(Serialize)]
struct Turn {
    role: &'static str,
    content: Vec<Value>,
}

/// The body of `POST /v1/messages`.
pub(crate) fn body(
    request: &Request,
    model: &str,
    quirks: Quirks,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut tools: Vec<_> = request.tools.iter().collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    let mut tools: Vec<Value> = tools
        .into_iter()
        .map(|t| json!({"name": t.name, "description": t.description, "input_schema": t.input_schema}))
        .collect();
    let mut system = Vec::new();
    if !request.system.is_empty() {
        system.push(json!({"type": "text", "text": request.system}));
    }
    let mut messages = turns(&request.messages, quirks);
    // The order on the wire is tools, system, messages: a mark on the last system block covers the tools.
    mark(if system.is_empty() {
        tools.last_mut()
    } else {
        system.last_mut()
    });
    mark_messages(&mut messages);
    serde_json::to_vec(&Body {
        model,
        max_tokens: request.max_tokens,
        stream: true,
        thinking: match request.thinking {
            Thinking::Unset => None,
            Thinking::Adaptive => Some(json!({"type": "adaptive"})),
        },
        output_config: request
            .effort
            .filter(|_| quirks.effort)
            .map(|e| json!({"effort": e.name()})),
        tools,
        system,
        messages,
    })
}

fn mark(block: Option<&mut Value>) {
    if let Some(map) = block.and_then(Value::as_object_mut) {
        map.insert("cache_control".to_owned(), json!({"type": "ephemeral"}));
    }
}

/// Two marks: the end of the last user message writes the cache for the next request; the end of the user
/// message before it is where the last request wrote, and so is found again even if more than the
/// provider's look-back window of blocks has come since.
fn mark_messages(messages: &mut [Turn]) {
    let users = messages.iter().enumerate().rev();
    let users = users.filter(|(_, m)| m.role == "user").map(|(i, _)| i);
    for index in users.take(2).collect::<Vec<_>>() {
        let blocks = messages.get_mut(index).map(|m| m.content.iter_mut());
        mark(blocks.and_then(|mut all| all.rfind(|b| may_be_marked(b))));
    }
}

fn may_be_marked(block: &Value) -> bool {
    !matches!(
        block.get("type").and_then(Value::as_str),
        Some("thinking" | "redacted_thinking")
    )
}

/// A transcript as the dialect has it, without cache marks; what the application says is told in the user's turns.
pub(crate) fn messages(messages: &[Message]) -> Vec<Value> {
    let quirks = Quirks {
        system_messages: false,
        ..Quirks::default()
    };
    let turns = turns(messages, quirks).into_iter();
    turns
        .map(|turn| json!({"role": turn.role, "content": turn.content}))
        .collect()
}

/// Messages with alternating roles: neighbours of one role are merged, empty ones left out. The API takes
/// a system message only right after a user's and right before the model's (or last), so what is said to
/// the model between two of its answers becomes at most one user message and one system message.
fn turns(messages: &[Message], quirks: Quirks) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len());
    let mut system: Vec<Value> = Vec::new();
    for message in messages {
        match message {
            Message::User(blocks) => add(&mut turns, "user", user(blocks)),
            Message::System(texts) if quirks.system_messages => {
                system.extend(texts.iter().filter_map(|text| text_block(text)));
            }
            Message::System(texts) => add(&mut turns, "user", texts.iter().filter_map(reminder)),
            Message::Assistant(blocks) => {
                // An answer that says nothing ends no exchange: what follows it joins what came before.
                let content = blocks.iter().filter_map(block).collect::<Vec<_>>();
                if !content.is_empty() {
                    add(&mut turns, "system", std::mem::take(&mut system));
                    add(&mut turns, "assistant", content);
                }
            }
        }
    }
    add(&mut turns, "system", system);
    for turn in turns.iter_mut().filter(|t| t.role == "user") {
        // Results must come before anything else the user says. The sort is stable.
        turn.content
            .sort_by_key(|b| b.get("type").and_then(Value::as_str) != Some("tool_result"));
    }
    turns
}

fn add(turns: &mut Vec<Turn>, role: &'static str, content: impl IntoIterator<Item = Value>) {
    let content = content.into_iter().collect::<Vec<_>>();
    match turns.last_mut() {
        _ if content.is_empty() => {}
        Some(turn) if turn.role == role => turn.content.extend(content),
        _ => turns.push(Turn { role, content }),
    }
}

/// What the application says, for a model that takes no system message in the middle.
fn reminder(text: &String) -> Option<Value> {
    let said = format!("<system-message>\n{text}\n</system-message>");
    text_block(&said).filter(|_| !text.is_empty())
}

/// A message of nothing but white space still is the user's turn, and the API takes no blank one.
fn user(blocks: &[UserBlock]) -> Vec<Value> {
    let content = blocks.iter().filter_map(user_block).collect::<Vec<_>>();
    let blank = |block: &UserBlock| matches!(block, UserBlock::Text { text } if !text.is_empty());
    if content.is_empty() && blocks.iter().any(blank) {
        return vec![json!({"type": "text", "text": "(blank)"})];
    }
    content
}

fn user_block(block: &UserBlock) -> Option<Value> {
    Some(match block {
        UserBlock::Text { text } => text_block(text)?,
        UserBlock::Image { source } => json!({"type": "image", "source": source_of(source)}),
        UserBlock::Document {
            source,
            title,
            context,
        } => document(source, title, context),
        UserBlock::ToolResult {
            tool_use_id,
            content,
            is_error,
        } => {
            let mut map = Map::new();
            map.insert("type".to_owned(), "tool_result".into());
            map.insert("tool_use_id".to_owned(), tool_use_id.as_str().into());
            let content: Vec<Value> = content.iter().filter_map(result_block).collect();
            if !content.is_empty() {
                map.insert("content".to_owned(), content.into());
            }
            if *is_error {
                map.insert("is_error".to_owned(), true.into());
            }
            Value::Object(map)
        }
    })
}

fn result_block(block: &ResultBlock) -> Option<Value> {
    Some(match block {
        ResultBlock::Text { text } => text_block(text)?,
        ResultBlock::Image { source } => json!({"type": "image", "source": source_of(source)}),
        ResultBlock::Document {
            source,
            title,
            context,
        } => document(source, title, context),
        ResultBlock::SearchResult {
            source,
            title,
            content,
            citations,
        } => {
            let content: Vec<Value> = content.iter().filter_map(|text| text_block(text)).collect();
            json!({"type": "search_result", "source": source, "title": title, "content": content,
                   "citations": {"enabled": citations}})
        }
    })
}

/// The API refuses texts that are empty or nothing but white space.
fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn document(source: &Source, title: &Option<String>, context: &Option<String>) -> Value {
    let mut map = Map::new();
    map.insert("type".to_owned(), "document".into());
    map.insert("source".to_owned(), source_of(source));
    for (key, value) in [("title", title), ("context", context)] {
        if let Some(value) = value {
            map.insert(key.to_owned(), value.as_str().into());
        }
    }
    Value::Object(map)
}

fn source_of(source: &Source) -> Value {
    match source {
        Source::Base64 { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Source::Text { data } => json!({"type": "text", "media_type": "text/plain", "data": data}),
        Source::Url { url } => json!({"type": "url", "url": url}),
    }
}

fn block(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } => text_block(text),
        Block::Thinking { text, signature } => signature
            .as_ref()
            .map(|signature| json!({"type": "thinking", "thinking": text, "signature": signature})),
        Block::RedactedThinking { data } => {
            Some(json!({"type": "redacted_thinking", "data": data}))
        }
        Block::ToolUse { id, name, input } => {
            // The API takes only objects; what the model garbled is shown to it as such.
            let input = if input.is_object() {
                input.clone()
            } else {
                json!({"invalid_json": input})
            };
            Some(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
        }
        Block::Opaque {
            dialect: Dialect::AnthropicMessages,
            raw,
        } => Some(raw.clone()),
        Block::Opaque { .. } | Block::Reasoning { .. } => None,
    }
}
