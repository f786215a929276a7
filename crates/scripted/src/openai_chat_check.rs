//! What OpenAI Chat Completions refuses. Pure.

use http::HeaderMap;
use serde_json::Value;

use crate::anthropic_check::{Refusal, invalid};

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
        kind: "invalid_api_key",
        message,
    };
    let key = text("authorization")
        .strip_prefix("Bearer ")
        .unwrap_or_default();
    if key.is_empty() {
        return Err(auth(
            "You didn't provide an API key in an Authorization header of the form Bearer KEY."
                .to_owned(),
        ));
    }
    if key.starts_with("bad") {
        return Err(auth(format!("Incorrect API key provided: {key}.")));
    }
    if !text("content-type").starts_with("application/json") {
        return Err(invalid("content-type must be application/json"));
    }
    Ok(key.to_owned())
}

/// Judges a body.
pub(crate) fn body(body: &Value) -> Result<(), Refusal> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("model").is_empty() {
        return Err(invalid("you must provide a model parameter"));
    }
    let (old, new) = (body.get("max_tokens"), body.get("max_completion_tokens"));
    if old.is_some() && new.is_some() {
        return Err(invalid(
            "max_tokens and max_completion_tokens cannot both be set",
        ));
    }
    if body.get("stream_options").is_some() && body.get("stream") != Some(&true.into()) {
        return Err(invalid(
            "stream_options is only allowed when stream is enabled",
        ));
    }
    for (i, tool) in body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if tool.get("type") != Some(&"function".into()) || tool.pointer("/function/name").is_none()
        {
            return Err(invalid(format!(
                "tools[{i}]: must be a function with a name"
            )));
        }
    }
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .filter(|m| !m.is_empty());
    let messages = messages.ok_or_else(|| invalid("messages: must not be empty"))?;
    let mut open: Vec<String> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let at = format!("messages[{i}]");
        let role = message
            .get("role")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if role != "tool" && !open.is_empty() {
            return Err(unanswered(&at, &open));
        }
        match role {
            "system" | "developer" | "user" => content(message, &at)?,
            "assistant" => open = calls(message, &at)?,
            "tool" => {
                let id = message
                    .get("tool_call_id")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let place = open.iter().position(|o| o == id).ok_or_else(|| {
                    invalid(format!("{at}: messages with role 'tool' must be a response to a preceding message with 'tool_calls'"))
                })?;
                open.remove(place);
                content(message, &at)?;
            }
            other => return Err(invalid(format!("{at}.role: invalid value {other:?}"))),
        }
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(unanswered("messages", &open))
    }
}

fn unanswered(at: &str, open: &[String]) -> Refusal {
    invalid(format!(
        "{at}: an assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'; missing: {}",
        open.join(", ")
    ))
}

fn content(message: &Value, at: &str) -> Result<(), Refusal> {
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) if !parts.is_empty() => Ok(()),
        _ => Err(invalid(format!(
            "{at}.content: must be a string or a non-empty list"
        ))),
    }
}

fn calls(message: &Value, at: &str) -> Result<Vec<String>, Refusal> {
    let Some(calls) = message.get("tool_calls").and_then(Value::as_array) else {
        content(message, at)?;
        return Ok(Vec::new());
    };
    let mut ids = Vec::new();
    for (i, call) in calls.iter().enumerate() {
        let at = format!("{at}.tool_calls[{i}]");
        if !call
            .pointer("/function/arguments")
            .is_some_and(Value::is_string)
        {
            return Err(invalid(format!(
                "{at}.function.arguments: must be a string"
            )));
        }
        match call
            .get("id")
            .and_then(Value::as_str)
            .filter(|id| !id.is_empty())
        {
            Some(id) => ids.push(id.to_owned()),
            None => return Err(invalid(format!("{at}.id: required"))),
        }
    }
    Ok(ids)
}
