//! Renders a request as OpenAI Responses. The bytes are a pure function of the request, and the rendering
//! of a longer transcript begins with that of the shorter one. Nothing is kept at the provider: each request
//! carries the whole transcript, with the model's thinking as the provider encrypted it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Dialect;
use crate::catalog::Quirks;
use crate::openai_content::{
    arguments, effort, outcome, search_result, sorted, system, text_document,
};
use crate::request::Request;
use crate::transcript::{Block, Message, ResultBlock, Source, UserBlock};

/// The field of a message that says what it is for.
pub(crate) const PHASE: &str = "phase";

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_output_tokens: u32,
    stream: bool,
    store: bool,
    /// Models that do not think refuse the wish for their thinking.
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<Value>,
}

/// The body of `POST /responses`.
pub(crate) fn body(
    request: &Request,
    model: &str,
    quirks: Quirks,
) -> Result<Vec<u8>, serde_json::Error> {
    // Without `strict` the dialect would change schemas that are not of its strict kind, or refuse them.
    let tools = sorted(request).into_iter().map(|t| {
        json!({"type": "function", "name": t.name, "description": t.description,
               "parameters": t.input_schema, "strict": false})
    });
    let mut input = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        match message {
            Message::User(blocks) => user(blocks, &mut input),
            Message::System(texts) => match system(texts) {
                said if said.is_empty() => {}
                said => input.push(json!({"role": "system", "content": said})),
            },
            Message::Assistant(blocks) => assistant(blocks, &mut input),
        }
    }
    let thinks = quirks.reasoning_effort;
    serde_json::to_vec(&Body {
        model,
        max_output_tokens: request.max_tokens,
        stream: true,
        store: false,
        include: thinks.then_some(["reasoning.encrypted_content"]),
        reasoning: request
            .effort
            .filter(|_| thinks)
            .map(|e| json!({"effort": effort(e)})),
        tools: tools.collect(),
        instructions: &request.system,
        input,
    })
}

/// Results first, then what the user says beside them.
fn user(blocks: &[UserBlock], input: &mut Vec<Value>) {
    let mut parts = Vec::new();
    for block in blocks {
        match block {
            UserBlock::ToolResult {
                tool_use_id,
                content,
                is_error,
            } => {
                let output = output(content, *is_error);
                input.push(
                    json!({"type": "function_call_output", "call_id": tool_use_id, "output": output}),
                );
            }
            UserBlock::Text { text } if text.is_empty() => {}
            UserBlock::Text { text } => parts.push(text_part(text)),
            UserBlock::Image { source } => parts.push(image(source)),
            UserBlock::Document {
                source,
                title,
                context,
            } => parts.extend(document(source, title.as_deref(), context.as_deref())),
        }
    }
    match parts.as_slice() {
        [] => {}
        // The plain form: not every server of the dialect takes a list.
        [Value::Object(part)] if part.get("type").is_some_and(|t| t == "input_text") => {
            input.push(json!({"role": "user", "content": part.get("text")}));
        }
        _ => input.push(json!({"role": "user", "content": parts})),
    }
}

/// Text alone goes as a string, which every server takes; pictures and files make it a list.
fn output(content: &[ResultBlock], is_error: bool) -> Value {
    let (mut texts, mut parts) = (Vec::new(), Vec::new());
    for block in content {
        match block {
            ResultBlock::Text { text } if text.is_empty() => {}
            ResultBlock::Text { text } => texts.push(text.clone()),
            ResultBlock::Image { source } => parts.push(image(source)),
            ResultBlock::Document {
                source: Source::Text { data },
                title,
                context,
            } => texts.push(text_document(data, title.as_deref(), context.as_deref())),
            ResultBlock::Document {
                source,
                title,
                context,
            } => parts.extend(document(source, title.as_deref(), context.as_deref())),
            ResultBlock::SearchResult {
                source,
                title,
                content,
                ..
            } => texts.push(search_result(source, title, content)),
        }
    }
    let text = outcome(&texts, is_error);
    if parts.is_empty() {
        return text.into();
    }
    if !text.is_empty() {
        parts.insert(0, text_part(&text));
    }
    parts.into()
}

fn text_part(text: &str) -> Value {
    json!({"type": "input_text", "text": text})
}

fn image(source: &Source) -> Value {
    let url = match source {
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url { url } => url.clone(),
        Source::Text { data } => return text_part(data),
    };
    json!({"type": "input_image", "image_url": url, "detail": "auto"})
}

/// A file has a name and no place for what the sender says of it: that stands before it.
fn document(source: &Source, title: Option<&str>, context: Option<&str>) -> Vec<Value> {
    let mut parts = Vec::new();
    if let (Some(context), false) = (context, matches!(source, Source::Text { .. })) {
        parts.push(text_part(context));
    }
    parts.push(match source {
        Source::Text { data } => text_part(&text_document(data, title, context)),
        Source::Base64 { media_type, data } => {
            let name = title.unwrap_or("document");
            json!({"type": "input_file", "filename": name, "file_data": format!("data:{media_type};base64,{data}")})
        }
        Source::Url { url } => json!({"type": "input_file", "file_url": url}),
    });
    parts
}

/// What the model said, item by item, without the ids of its messages: the provider kept nothing that they
/// could name. Thinking is refused unless what it led to follows it, so at the end of a cut answer it stays
/// away.
fn assistant(blocks: &[Block], input: &mut Vec<Value>) {
    let mut items = Vec::with_capacity(blocks.len());
    let mut phase = None;
    for block in blocks {
        match (block, item(block)) {
            (Block::Opaque { raw, .. }, _) if raw.get("type").is_none() => phase = raw.get(PHASE),
            (Block::Text { .. }, Some(mut said)) => {
                if let (Some(phase), Some(map)) = (phase, said.as_object_mut()) {
                    map.insert(PHASE.to_owned(), phase.clone());
                }
                items.push(said);
            }
            (Block::Text { .. }, None) => {}
            (_, other) => {
                phase = None;
                items.extend(other);
            }
        }
    }
    let is_thinking = |item: &Value| item.get("type").is_some_and(|t| t == "reasoning");
    let end = items.iter().rposition(|item| !is_thinking(item));
    input.extend(items.into_iter().take(end.map_or(0, |end| end + 1)));
}

fn item(block: &Block) -> Option<Value> {
    match block {
        Block::Text { text } if text.trim().is_empty() => None,
        Block::Text { text } => Some(json!({"role": "assistant", "content": text})),
        Block::ToolUse { id, name, input } => Some(
            json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments(input)}),
        ),
        Block::Reasoning {
            dialect: Dialect::OpenAiResponses,
            raw,
        } => reasoning(raw),
        Block::Opaque {
            dialect: Dialect::OpenAiResponses,
            raw,
        } if raw.get("type").is_some() => Some(raw.clone()),
        Block::Thinking { .. }
        | Block::RedactedThinking { .. }
        | Block::Reasoning { .. }
        | Block::Opaque { .. } => None,
    }
}

/// The item in the fields of a request. Its `status` is refused by some, and an item that holds neither
/// ciphertext nor words is only a name for what the provider did not keep.
fn reasoning(raw: &Value) -> Option<Value> {
    let held = |field: &str| match raw.get(field) {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    };
    if !held("encrypted_content") && !held("content") {
        return None;
    }
    let mut map = Map::new();
    map.insert("type".to_owned(), "reasoning".into());
    for field in ["id", "content", "encrypted_content"] {
        if held(field) {
            map.insert(
                field.to_owned(),
                raw.get(field).cloned().unwrap_or_default(),
            );
        }
    }
    let summary = raw.get("summary").filter(|s| s.is_array()).cloned();
    map.insert("summary".to_owned(), summary.unwrap_or_else(|| json!([])));
    Some(Value::Object(map))
}
