//! What OpenAI Responses refuses. Pure.

use serde_json::Value;

use crate::anthropic_check::{Refusal, invalid, kind, signature};

/// Judges a body. The headers are those of the other OpenAI dialect.
pub(crate) fn body(body: &Value) -> Result<(), Refusal> {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let model = text("model");
    if model.is_empty() {
        return Err(invalid("Missing required parameter: 'model'."));
    }
    for field in ["messages", "max_tokens", "stream_options", "system"] {
        if body.get(field).is_some() {
            return Err(invalid(format!("Unknown parameter: '{field}'.")));
        }
    }
    if wants_encrypted(body) && !thinks(model) {
        return Err(invalid(
            "Encrypted content is not supported with this model.",
        ));
    }
    if body.pointer("/reasoning/effort").is_some() && !thinks(model) {
        return Err(invalid(
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
        ));
    }
    let tools = body.get("tools").and_then(Value::as_array);
    for (i, tool) in tools.into_iter().flatten().enumerate() {
        if kind(tool) != "function" || tool.get("name").and_then(Value::as_str).is_none() {
            return Err(invalid(format!(
                "Missing required parameter: 'tools[{i}].name'."
            )));
        }
        // The default is strict, which takes no schema with optional properties.
        if tool.get("strict") != Some(&false.into()) {
            return Err(invalid(format!(
                "Invalid schema for function: 'required' must include every key in properties (tools[{i}])."
            )));
        }
    }
    match body.get("input") {
        Some(Value::String(text)) if !text.is_empty() => Ok(()),
        Some(Value::Array(items)) if !items.is_empty() => input(items, body),
        _ => Err(invalid("Missing required parameter: 'input'.")),
    }
}

/// Whether the client wants the thinking in a form that it can send back.
pub(crate) fn wants_encrypted(body: &Value) -> bool {
    let include = body.get("include").and_then(Value::as_array);
    include
        .into_iter()
        .flatten()
        .any(|wish| wish == "reasoning.encrypted_content")
}

fn thinks(model: &str) -> bool {
    ["gpt-5", "o3", "o4"]
        .iter()
        .any(|name| model.contains(name))
}

/// Whether the model said the item.
pub(crate) fn is_output(item: &Value) -> bool {
    match kind(item) {
        "" | "message" => item.get("role") == Some(&"assistant".into()),
        "function_call_output" => false,
        _ => true,
    }
}

fn input(items: &[Value], body: &Value) -> Result<(), Refusal> {
    let stored = body.get("store") != Some(&false.into());
    let mut open: Vec<&str> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let at = format!("input[{i}]");
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        match kind(item) {
            "" | "message" => message(item, &at)?,
            "function_call" => {
                if text("call_id").is_empty() || text("name").is_empty() {
                    return Err(invalid(format!(
                        "Missing required parameter: '{at}.call_id'."
                    )));
                }
                if !item.get("arguments").is_some_and(Value::is_string) {
                    return Err(invalid(format!("Invalid type for '{at}.arguments'.")));
                }
                open.push(text("call_id"));
            }
            "function_call_output" => {
                let place = open.iter().position(|id| *id == text("call_id"));
                let place = place.ok_or_else(|| {
                    invalid(format!(
                        "No tool call found for function call output with call_id {}.",
                        text("call_id")
                    ))
                })?;
                open.remove(place);
                if !matches!(item.get("output"), Some(Value::String(_) | Value::Array(_))) {
                    return Err(invalid(format!(
                        "Missing required parameter: '{at}.output'."
                    )));
                }
            }
            "reasoning" => reasoning(item, items.get(i + 1), &at, stored)?,
            "web_search_call" => {}
            other => {
                return Err(invalid(format!("Invalid value: '{other}' ('{at}.type').")));
            }
        }
    }
    match open.first() {
        None => Ok(()),
        Some(id) => Err(invalid(format!(
            "No tool output found for function call {id}."
        ))),
    }
}

fn message(item: &Value, at: &str) -> Result<(), Refusal> {
    let role = item.get("role").and_then(Value::as_str).unwrap_or_default();
    if !matches!(role, "user" | "assistant" | "system" | "developer") {
        return Err(invalid(format!("Invalid value: '{role}' ('{at}.role').")));
    }
    let parts = match item.get("content") {
        Some(Value::String(_)) => return Ok(()),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        _ => {
            return Err(invalid(format!(
                "Missing required parameter: '{at}.content'."
            )));
        }
    };
    for (j, part) in parts.iter().enumerate() {
        let fits = match (role, kind(part)) {
            ("assistant", kind) => matches!(kind, "output_text" | "refusal"),
            (_, kind) => matches!(kind, "input_text" | "input_image" | "input_file"),
        };
        if !fits {
            return Err(invalid(format!(
                "Invalid value: '{}' ('{at}.content[{j}].type').",
                kind(part)
            )));
        }
    }
    Ok(())
}

/// Thinking comes back as it was given, with what it led to behind it.
fn reasoning(item: &Value, next: Option<&Value>, at: &str, stored: bool) -> Result<(), Refusal> {
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    if item.get("status").is_some() {
        return Err(invalid(format!("Unknown parameter: '{at}.status'.")));
    }
    let summary = item.pointer("/summary/0/text").and_then(Value::as_str);
    let proof = item.get("encrypted_content").and_then(Value::as_str);
    match proof {
        None if !stored => {
            return Err(Refusal {
                status: 404,
                kind: "invalid_request_error",
                message: format!(
                    "Item with id '{id}' not found. Items are not persisted when `store` is set to false."
                ),
            });
        }
        Some(proof) if Some(proof) != summary.map(signature).as_deref() => {
            return Err(Refusal {
                status: 400,
                kind: "invalid_encrypted_content",
                message: format!("The encrypted content for item {id} could not be verified."),
            });
        }
        _ => {}
    }
    if !next.is_some_and(is_output) {
        return Err(invalid(format!(
            "Item '{id}' of type 'reasoning' was provided without its required following item."
        )));
    }
    Ok(())
}
