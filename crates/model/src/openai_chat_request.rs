//! Renders a request as OpenAI Chat Completions. The bytes are a pure function of the request, and the
//! rendering of a longer transcript begins with that of the shorter one.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::catalog::{MaxTokensField, Quirks};
use crate::request::{Effort, Request};
use crate::transcript::{Block, Message, ResultBlock, Source, UserBlock};

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
    let mut tools: Vec<_> = request.tools.iter().collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    let tools = tools.into_iter().map(|t| {
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
            Message::System(texts) => system(texts, &mut messages),
            Message::Assistant(blocks) => messages.extend(assistant(blocks)),
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

fn effort(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        // the dialect has no step above
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    }
}

fn system(texts: &[String], messages: &mut Vec<Value>) {
    let said = texts.iter().filter(|text| !text.is_empty());
    let said = said.map(String::as_str).collect::<Vec<_>>().join("\n\n");
    if !said.is_empty() {
        messages.push(json!({"role": "system", "content": said}));
    }
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
                parts.push(document(source, title.as_deref(), context.as_deref()));
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
                parts.push(document(source, title.as_deref(), context.as_deref()));
            }
            ResultBlock::SearchResult {
                source,
                title,
                content,
                ..
            } => {
                texts.push(format!("{title} ({source})\n{}", content.join("\n")));
            }
        }
    }
    let text = texts.join("\n");
    // The dialect has no mark for failure.
    match (is_error, text.is_empty()) {
        (true, true) => "Error".to_owned(),
        (true, false) => format!("Error: {text}"),
        (false, _) => text,
    }
}

fn image(source: &Source) -> Value {
    let url = match source {
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url { url } => url.clone(),
        Source::Text { data } => return json!({"type": "text", "text": data}),
    };
    json!({"type": "image_url", "image_url": {"url": url}})
}

fn document(source: &Source, title: Option<&str>, context: Option<&str>) -> Value {
    match source {
        Source::Text { data } => {
            json!({"type": "text", "text": text_document(data, title, context)})
        }
        Source::Base64 { media_type, data } => {
            let name = title.unwrap_or("document");
            json!({"type": "file", "file": {"filename": name, "file_data": format!("data:{media_type};base64,{data}")}})
        }
        Source::Url { url } => json!({"type": "text", "text": format!("[a document at {url}]")}),
    }
}

fn text_document(data: &str, title: Option<&str>, context: Option<&str>) -> String {
    let mut head = String::new();
    for line in [title, context].into_iter().flatten() {
        head.push_str(line);
        head.push('\n');
    }
    format!("{head}{data}")
}

/// Thinking is never sent back in this dialect, and neither are other dialects' own blocks.
fn assistant(blocks: &[Block]) -> Option<Value> {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for block in blocks {
        match block {
            Block::Text { text: more } => text.push_str(more),
            Block::ToolUse { id, name, input } => {
                // What could not be parsed goes back as the model wrote it.
                let arguments = input
                    .as_str()
                    .map_or_else(|| input.to_string(), str::to_owned);
                calls.push(json!({"id": id, "type": "function",
                                  "function": {"name": name, "arguments": arguments}}));
            }
            Block::Thinking { .. } | Block::RedactedThinking { .. } | Block::Opaque { .. } => {}
        }
    }
    if text.is_empty() && calls.is_empty() {
        return None;
    }
    let mut map = Map::new();
    map.insert("role".to_owned(), "assistant".into());
    map.insert(
        "content".to_owned(),
        if text.is_empty() {
            Value::Null
        } else {
            text.into()
        },
    );
    if !calls.is_empty() {
        map.insert("tool_calls".to_owned(), calls.into());
    }
    Some(Value::Object(map))
}
