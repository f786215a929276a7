//! Renders a request as OpenAI Chat Completions. The bytes are a pure function of the request, and the
//! rendering of a longer transcript begins with that of the shorter one.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Dialect;
use crate::catalog::{MaxTokensField, Quirks};
use crate::openai_content::{
    arguments, effort, outcome, search_result, sorted, system, text_document,
};
use crate::request::Request;
use crate::transcript::{Block, Message, ResultBlock, Source, UserBlock};

/// The field of a call in which Google's servers keep the proof of their model's thinking
/// (<https://ai.google.dev/gemini-api/docs/thought-signatures>); calls without it are refused later.
pub(crate) const EXTRA: &str = "extra_content";

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    stream: bool,
    stream_options: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    messages: Vec<Value>,
}

/// The body of `POST /chat/completions`.
pub(crate) fn body(
    request: &Request,
    model: &str,
    quirks: Quirks,
) -> Result<Vec<u8>, serde_json::Error> {
    let tools = sorted(request).into_iter().map(|t| {
        json!({"type": "function",
               "function": {"name": t.name, "description": t.description, "parameters": t.input_schema}})
    });
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in &request.messages {
        match message {
            Message::User(blocks) => user(blocks, &mut messages),
            Message::System(texts) => match system(texts) {
                said if said.is_empty() => {}
                said => messages.push(json!({"role": "system", "content": said})),
            },
            Message::Assistant(blocks) => messages.extend(assistant(blocks, quirks)),
        }
    }
    let completion = quirks.max_tokens_field == MaxTokensField::MaxCompletionTokens;
    serde_json::to_vec(&Body {
        model,
        max_tokens: (!completion).then_some(request.max_tokens),
        max_completion_tokens: completion.then_some(request.max_tokens),
        reasoning_effort: request
            .effort
            .filter(|_| quirks.reasoning_effort)
            .map(effort),
        stream: true,
        stream_options: json!({"include_usage": true}),
        tools: tools.collect(),
        messages,
    })
}

/// Results first, one `tool` message each: they must follow their calls at once. What a `tool` message
/// cannot carry (pictures, documents) follows in the user message.
fn user(blocks: &[UserBlock], messages: &mut Vec<Value>) {
    let mut parts = Vec::new();
    for block in blocks {
        if let UserBlock::ToolResult {
            tool_use_id,
            content,
            is_error,
        } = block
        {
            let text = result_text(tool_use_id, content, *is_error, &mut parts);
            messages.push(json!({"role": "tool", "tool_call_id": tool_use_id, "content": text}));
        }
    }
    for block in blocks {
        match block {
            UserBlock::Text { text } if text.is_empty() => {}
            UserBlock::Text { text } => parts.push(json!({"type": "text", "text": text})),
            UserBlock::Image { source } => parts.push(image(source)),
            UserBlock::Document {
                source,
                title,
                context,
            } => {
                parts.extend(document(source, title.as_deref(), context.as_deref()));
            }
            UserBlock::ToolResult { .. } => {}
        }
    }
    match parts.as_slice() {
        [] => {}
        // The plain form: not every provider of the dialect takes a list.
        [Value::Object(part)] if part.get("type").is_some_and(|t| t == "text") => {
            messages.push(json!({"role": "user", "content": part.get("text")}));
        }
        _ => messages.push(json!({"role": "user", "content": parts})),
    }
}

fn result_text(
    id: &str,
    content: &[ResultBlock],
    is_error: bool,
    parts: &mut Vec<Value>,
) -> String {
    let mut texts = Vec::new();
    for block in content {
        match block {
            ResultBlock::Text { text } if text.is_empty() => {}
            ResultBlock::Text { text } => texts.push(text.clone()),
            ResultBlock::Image { source } => {
                texts.push("[an image, shown in the next message]".to_owned());
                parts.push(
                    json!({"type": "text", "text": format!("Image from the result of {id}:")}),
                );
                parts.push(image(source));
            }
            ResultBlock::Document {
                source: Source::Text { data },
                title,
                context,
            } => {
                texts.push(text_document(data, title.as_deref(), context.as_deref()));
            }
            ResultBlock::Document {
                source,
                title,
                context,
            } => {
                texts.push("[a document, shown in the next message]".to_owned());
                parts.extend(document(source, title.as_deref(), context.as_deref()));
            }
            ResultBlock::SearchResult {
                source,
                title,
                content,
                ..
            } => {
                texts.push(search_result(source, title, content));
            }
        }
    }
    outcome(&texts, is_error)
}

fn image(source: &Source) -> Value {
    let url = match source {
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url { url } => url.clone(),
        Source::Text { data } => return json!({"type": "text", "text": data}),
    };
    json!({"type": "image_url", "image_url": {"url": url}})
}

/// A file has a name and no place for what the sender says of it: that stands before it.
fn document(source: &Source, title: Option<&str>, context: Option<&str>) -> Vec<Value> {
    let text = |text: String| json!({"type": "text", "text": text});
    let mut parts = Vec::new();
    if let (Some(context), false) = (context, matches!(source, Source::Text { .. })) {
        parts.push(text(context.to_owned()));
    }
    parts.push(match source {
        Source::Text { data } => text(text_document(data, title, context)),
        Source::Base64 { media_type, data } => {
            let name = title.unwrap_or("document");
            json!({"type": "file", "file": {"filename": name, "file_data": format!("data:{media_type};base64,{data}")}})
        }
        Source::Url { url } => text(format!("[a document at {url}]")),
    });
    parts
}

/// Thinking goes back in the fields in which it came, because some providers lose their thread or refuse a
/// result without it; other dialects' own blocks do not.
fn assistant(blocks: &[Block], quirks: Quirks) -> Option<Value> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    let mut thinking = Map::new();
    for block in blocks {
        match block {
            Block::Text { text: more } => text.push_str(more),
            Block::ToolUse { id, name, input } => {
                let mut call = Map::new();
                call.insert("id".to_owned(), id.as_str().into());
                call.insert("type".to_owned(), "function".into());
                let function = json!({"name": name, "arguments": arguments(input)});
                call.insert("function".to_owned(), function);
                calls.push(Value::Object(call));
            }
            Block::Reasoning {
                dialect: Dialect::OpenAiChat,
                raw: Value::Object(raw),
            } if quirks.replay_reasoning => think(&mut thinking, raw),
            Block::Opaque {
                dialect: Dialect::OpenAiChat,
                raw,
            } => sign(&mut calls, raw),
            Block::Thinking { .. }
            | Block::RedactedThinking { .. }
            | Block::Reasoning { .. }
            | Block::Opaque { .. } => {}
        }
    }
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    let mut map = Map::new();
    map.insert("role".to_owned(), "assistant".into());
    map.append(&mut thinking);
    let content = if text.is_empty() {
        Value::Null
    } else {
        text.into()
    };
    map.insert("content".to_owned(), content);
    if !calls.is_empty() {
        map.insert("tool_calls".to_owned(), calls.into());
    }
    Some(Value::Object(map))
}

/// Adds one piece of thinking to what the message carries already.
fn think(into: &mut Map<String, Value>, raw: &Map<String, Value>) {
    for (field, more) in raw {
        match (into.get_mut(field), more) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(more),
            (Some(Value::Array(list)), Value::Array(more)) => list.extend(more.iter().cloned()),
            _ => {
                into.insert(field.clone(), more.clone());
            }
        }
    }
}

/// Gives a call back what its provider had attached to it, e.g. the proof of the thinking behind it.
fn sign(calls: &mut [Value], raw: &Value) {
    let call = calls
        .iter_mut()
        .rfind(|call| call.get("id") == raw.get("id"));
    if let (Some(call), Some(extra)) = (call.and_then(Value::as_object_mut), raw.get(EXTRA)) {
        call.insert(EXTRA.to_owned(), extra.clone());
    }
}
