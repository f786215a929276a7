//! OpenAI Chat Completions: reads a request into turns and a prompt, writes an answer. The script decides
//! what is said.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::anthropic_check::{Refusal, invalid};
use crate::prefix::{Prompt, Tokens};
use crate::pump::{Answer, Frame, split};
use crate::script::Turn;

#[derive(Deserialize)]
struct RawBody<'a> {
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// The prompt of a checked body. System messages go to the head; this dialect caches without marks.
pub(crate) fn prompt(bytes: &[u8], body: &Value) -> Result<Prompt, Refusal> {
    let raw: RawBody<'_> = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let roles: Vec<&str> = messages(body).map(role).collect();
    let systems = roles.iter().take_while(|r| is_system(r)).count();
    let mut head: Vec<&str> = raw.tools.iter().map(|t| t.get()).collect();
    head.extend(raw.messages.iter().take(systems).map(|m| m.get()));
    let rest: Vec<&str> = raw.messages.iter().skip(systems).map(|m| m.get()).collect();
    let settled = roles
        .iter()
        .skip(systems)
        .enumerate()
        .rfind(|(_, r)| **r == "assistant");
    Ok(Prompt::new(&head, &rest, settled.map_or(0, |(i, _)| i)).cached_without_marks())
}

fn messages(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("messages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn role(message: &Value) -> &str {
    message
        .get("role")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn is_system(role: &str) -> bool {
    matches!(role, "system" | "developer")
}

/// The turns of a checked body: tool messages and the user messages after them are one turn.
pub(crate) fn turns(body: &Value) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in messages(body).filter(|m| !is_system(role(m))) {
        let assistant = role(message) == "assistant";
        if turns.last().is_none_or(|t| t.assistant != assistant) {
            turns.push(Turn {
                assistant,
                ..Turn::default()
            });
        }
        let texts = texts(message.get("content"));
        if let Some(turn) = turns.last_mut() {
            let list = if role(message) == "tool" {
                &mut turn.results
            } else {
                &mut turn.texts
            };
            list.extend(texts);
        }
    }
    turns
}

/// The texts of a content, however it is written.
pub(crate) fn texts(content: Option<&Value>) -> Vec<String> {
    match content {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|p| p.get("text").and_then(Value::as_str))
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// How the API says that a request does not fit; its code is `context_length_exceeded`.
pub(crate) const TOO_LONG: &str = "This model's maximum context length is 200000 tokens. However, your messages resulted in 208310 tokens. Please reduce the length of the messages.";

/// The error envelope.
pub(crate) fn error(status: u16, code: Option<&str>, message: &str) -> Value {
    let kind = match status {
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

fn usage(tokens: Tokens, output: u64) -> Value {
    json!({"prompt_tokens": tokens.total, "completion_tokens": output, "total_tokens": tokens.total + output,
           "prompt_tokens_details": {"cached_tokens": tokens.cache_read},
           "completion_tokens_details": {"reasoning_tokens": 0}})
}

fn finish(answer: &Answer) -> &str {
    match answer.stop.as_deref() {
        Some("max_tokens") => "length",
        Some("refusal") => "content_filter",
        Some("end_turn") => "stop",
        Some("tool_use") => "tool_calls",
        Some(other) => other,
        None if answer.calls.is_empty() => "stop",
        None => "tool_calls",
    }
}

/// The id of a call as this family spells it.
pub(crate) fn call_id(id: &str) -> String {
    id.replacen("toolu_01", "call_", 1)
}

/// The answer in one piece.
pub(crate) fn whole(answer: &Answer, tokens: Tokens) -> Value {
    let calls: Vec<Value> = answer
        .calls
        .iter()
        .map(|c| {
            json!({"id": call_id(&c.id), "type": "function",
                   "function": {"name": c.name, "arguments": c.arguments()}})
        })
        .collect();
    let text = if answer.pieces.is_empty() {
        Value::Null
    } else {
        answer.text().into()
    };
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if let Some(map) = message.as_object_mut() {
        if let Some(thinking) = &answer.thinking {
            map.insert("reasoning_content".to_owned(), thinking.as_str().into());
        }
        if !calls.is_empty() {
            map.insert("tool_calls".to_owned(), calls.into());
        }
    }
    json!({"id": answer.id, "object": "chat.completion", "created": 0, "model": answer.model,
           "choices": [{"index": 0, "message": message, "finish_reason": finish(answer), "logprobs": null}],
           "usage": usage(tokens, answer.tokens())})
}

fn chunk(answer: &Answer, delta: &Value, finish: Value) -> Frame {
    let data = json!({"id": answer.id, "object": "chat.completion.chunk", "created": 0, "model": answer.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": null}]});
    Frame {
        bytes: format!("data: {data}\n\n"),
        piece: false,
    }
}

/// The answer as chunks; the usage chunk only when `with_usage`.
pub(crate) fn frames(answer: &Answer, tokens: Tokens, with_usage: bool) -> Vec<Frame> {
    let add = |delta: &Value| chunk(answer, delta, Value::Null);
    let mut frames = vec![add(
        &json!({"role": "assistant", "content": "", "refusal": null}),
    )];
    for piece in answer.thinking.iter().flat_map(|t| split(t, 2)) {
        frames.push(add(&json!({"reasoning_content": piece})));
    }
    for piece in &answer.pieces {
        frames.push(Frame {
            piece: true,
            ..add(&json!({"content": piece}))
        });
    }
    for (number, call) in answer.calls.iter().enumerate() {
        frames.push(add(
            &json!({"tool_calls": [{"index": number, "id": call_id(&call.id), "type": "function",
            "function": {"name": call.name, "arguments": ""}}]}),
        ));
        for piece in split(&call.arguments(), 3) {
            frames.push(add(
                &json!({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}),
            ));
        }
    }
    frames.push(chunk(answer, &json!({}), finish(answer).into()));
    if with_usage {
        let data = json!({"id": answer.id, "object": "chat.completion.chunk", "created": 0,
            "model": answer.model, "choices": [], "usage": usage(tokens, answer.tokens())});
        frames.push(Frame {
            bytes: format!("data: {data}\n\n"),
            piece: false,
        });
    }
    frames.push(Frame {
        bytes: "data: [DONE]\n\n".to_owned(),
        piece: false,
    });
    frames
}

/// A stream that fails after its opening.
pub(crate) fn failing(answer: &Answer, kind: &str) -> Vec<Frame> {
    let error = error(500, Some(kind), "The script fails here.");
    vec![
        chunk(
            answer,
            &json!({"role": "assistant", "content": ""}),
            Value::Null,
        ),
        Frame {
            bytes: format!("data: {error}\n\n"),
            piece: false,
        },
    ]
}
