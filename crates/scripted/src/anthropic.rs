//! Anthropic Messages: reads a request into turns and a prompt, writes an answer. The script decides what
//! is said.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::anthropic_check::{Refusal, invalid, kind, signature};
use crate::prefix::{Prompt, Tokens};
use crate::pump::{Answer, Frame, split};
use crate::script::Turn;

#[derive(Deserialize)]
struct RawBody<'a> {
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// The prompt of a checked body, from the bytes as they came.
pub(crate) fn prompt(bytes: &[u8], turns: &[Turn]) -> Result<Prompt, Refusal> {
    let raw: RawBody<'_> = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let head: Vec<&str> = [raw.tools, raw.system]
        .into_iter()
        .flatten()
        .map(RawValue::get)
        .collect();
    let messages: Vec<&str> = raw.messages.iter().map(|m| m.get()).collect();
    let settled = turns.iter().rposition(|t| t.assistant).unwrap_or(0);
    Ok(Prompt::new(&head, &messages, settled))
}

/// The turns of a checked body.
pub(crate) fn turns(body: &Value) -> Vec<Turn> {
    let messages = body.get("messages").and_then(Value::as_array);
    messages.into_iter().flatten().map(turn).collect()
}

fn turn(message: &Value) -> Turn {
    let role = message.get("role").and_then(Value::as_str);
    let mut turn = Turn {
        assistant: role == Some("assistant"),
        ..Turn::default()
    };
    // What the application says is neither a script nor something to echo.
    if role == Some("system") {
        return turn;
    }
    let content = message.get("content").unwrap_or(&Value::Null);
    turn.texts.extend(content.as_str().map(str::to_owned));
    for block in content.as_array().into_iter().flatten() {
        match kind(block) {
            "text" => turn
                .texts
                .extend(block.get("text").and_then(Value::as_str).map(str::to_owned)),
            "tool_result" => turn.results.push(quote(block)),
            _ => {}
        }
    }
    turn
}

fn quote(result: &Value) -> String {
    let text = match result.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let part = |p: &Value| {
                p.get("text")
                    .and_then(Value::as_str)
                    .map_or_else(|| format!("[{}]", kind(p)), str::to_owned)
            };
            parts.iter().map(part).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    if result.get("is_error") == Some(&true.into()) {
        format!("(error) {text}")
    } else {
        text
    }
}

/// How the API says that a request does not fit.
pub(crate) const TOO_LONG: &str = "prompt is too long: 208310 tokens > 200000 maximum";

/// The error envelope.
pub(crate) fn error(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"})
}

/// The error type that goes with a status.
pub(crate) fn error_kind(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn usage(tokens: Tokens, output: u64) -> Value {
    json!({"input_tokens": tokens.plain(), "cache_read_input_tokens": tokens.cache_read,
           "cache_creation_input_tokens": tokens.cache_creation,
           "cache_creation": {"ephemeral_5m_input_tokens": tokens.cache_creation, "ephemeral_1h_input_tokens": 0},
           "output_tokens": output})
}

fn stop(answer: &Answer) -> &str {
    let natural = if answer.calls.is_empty() {
        "end_turn"
    } else {
        "tool_use"
    };
    answer.stop.as_deref().unwrap_or(natural)
}

fn stop_details(answer: &Answer) -> Value {
    match stop(answer) {
        "refusal" => {
            json!({"type": "refusal", "category": "scripted", "explanation": "The script refuses."})
        }
        _ => Value::Null,
    }
}

/// What a turn was at when it was paused: a search that the provider itself makes. It must come back as it is.
fn paused(answer: &Answer) -> Option<Value> {
    (answer.stop.as_deref() == Some("pause_turn")).then(|| {
        json!({"type": "server_tool_use", "id": answer.id.replacen("msg", "srvtoolu", 1),
               "name": "web_search", "input": {"query": "scripted"}})
    })
}

/// The answer in one piece.
pub(crate) fn whole(answer: &Answer, tokens: Tokens) -> Value {
    let mut content = Vec::new();
    if let Some(thinking) = &answer.thinking {
        content.push(
            json!({"type": "thinking", "thinking": thinking, "signature": signature(thinking)}),
        );
    }
    if !answer.pieces.is_empty() {
        content.push(json!({"type": "text", "text": answer.text()}));
    }
    content.extend(paused(answer));
    for call in &answer.calls {
        content.push(
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}),
        );
    }
    json!({"id": answer.id, "type": "message", "role": "assistant", "model": answer.model, "content": content,
           "stop_reason": stop(answer), "stop_sequence": null, "stop_details": stop_details(answer),
           "usage": usage(tokens, answer.tokens())})
}

fn frame(data: &Value) -> Frame {
    Frame {
        bytes: format!("event: {}\ndata: {data}\n\n", kind(data)),
        piece: false,
    }
}

/// The answer as events.
pub(crate) fn frames(answer: &Answer, tokens: Tokens) -> Vec<Frame> {
    let mut frames = opening(answer, tokens);
    let mut index = 0_u64;
    if let Some(thinking) = &answer.thinking {
        let start = json!({"type": "thinking", "thinking": "", "signature": ""});
        let mut deltas: Vec<Value> = split(thinking, 2)
            .iter()
            .map(|t| json!({"type": "thinking_delta", "thinking": t}))
            .collect();
        deltas.push(json!({"type": "signature_delta", "signature": signature(thinking)}));
        block(&mut frames, &mut index, &start, deltas, false);
    }
    if !answer.pieces.is_empty() {
        let deltas = answer
            .pieces
            .iter()
            .map(|t| json!({"type": "text_delta", "text": t}))
            .collect();
        block(
            &mut frames,
            &mut index,
            &json!({"type": "text", "text": ""}),
            deltas,
            true,
        );
    }
    if let Some(start) = paused(answer) {
        block(&mut frames, &mut index, &start, Vec::new(), false);
    }
    for call in &answer.calls {
        let start = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
        // The real API begins with an empty piece, and sends none but that for an empty input.
        let mut pieces = vec![String::new()];
        if call.arguments() != "{}" {
            pieces.extend(split(&call.arguments(), 3));
        }
        let deltas = pieces
            .iter()
            .map(|p| json!({"type": "input_json_delta", "partial_json": p}))
            .collect();
        block(&mut frames, &mut index, &start, deltas, false);
    }
    frames.push(frame(&json!({"type": "message_delta",
        "delta": {"stop_reason": stop(answer), "stop_sequence": null, "stop_details": stop_details(answer)},
        "usage": usage(tokens, answer.tokens())})));
    frames.push(frame(&json!({"type": "message_stop"})));
    frames
}

fn opening(answer: &Answer, tokens: Tokens) -> Vec<Frame> {
    let start = json!({"type": "message_start", "message": {
        "id": answer.id, "type": "message", "role": "assistant", "model": answer.model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(tokens, 1)}});
    vec![frame(&start), frame(&json!({"type": "ping"}))]
}

fn block(frames: &mut Vec<Frame>, index: &mut u64, start: &Value, deltas: Vec<Value>, piece: bool) {
    frames.push(frame(
        &json!({"type": "content_block_start", "index": *index, "content_block": start}),
    ));
    for delta in deltas {
        let delta = frame(&json!({"type": "content_block_delta", "index": *index, "delta": delta}));
        frames.push(Frame { piece, ..delta });
    }
    frames.push(frame(
        &json!({"type": "content_block_stop", "index": *index}),
    ));
    *index += 1;
}

/// A stream that fails after its opening.
pub(crate) fn failing(answer: &Answer, tokens: Tokens, kind: &str) -> Vec<Frame> {
    let mut frames = opening(answer, tokens);
    frames.push(frame(&error(kind, "The script fails here.")));
    frames
}
