//! Messages for the scripted model: the text carries the script of its replies.

use serde_json::{Value, json};

/// A `user.message` that makes the scripted model play `steps`. `token` marks the message in the log.
#[must_use]
pub fn message(token: &str, steps: &Value) -> Value {
    said(&format!("{token}\n\nSCRIPT: {steps}"))
}

/// A plain `user.message`.
#[must_use]
pub fn said(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

/// One bash call.
#[must_use]
pub fn bash(command: &str) -> Value {
    json!({"tool": "bash", "input": {"command": command}})
}
