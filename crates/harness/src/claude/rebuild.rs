//! Claude's own transcript, made from ours: what it would have written itself, so that it goes on from there with
//! `--resume`. A pure function of the conversation; it writes no file.

use model::Message;
use serde_json::{Value, json};

/// From what a new process of it starts.
#[derive(Debug, PartialEq)]
pub(crate) struct Start {
    /// Its transcript, one row a line; empty if there is nothing to go on from.
    pub(crate) transcript: String,
    /// What it is told when it has started: the user's words that nobody has answered. None if it is in the middle
    /// of a turn and goes on by itself.
    pub(crate) say: Option<Value>,
}

/// A start from `messages`, for the session `id` of claude's. `now` is written into rows that want a time.
pub(crate) fn start(messages: &[Message], id: &str, version: &str) -> Start {
    let mut turns = model::anthropic_messages(messages);
    let is_users = turns.last().is_some_and(|turn| turn["role"] == "user");
    let answers = turns.last().is_some_and(|turn| has_results(turn));
    let say = if is_users && !answers {
        turns.pop().map(|mut turn| turn["content"].take())
    } else {
        None
    };
    let mut transcript = String::new();
    let mut parent = Value::Null;
    for (place, turn) in turns.into_iter().enumerate() {
        let uuid = format!("00000000-0000-4000-8000-{place:012x}");
        let row = json!({
            "parentUuid": parent, "isSidechain": false, "userType": "external", "cwd": "/workspace",
            "sessionId": id, "version": version, "type": turn["role"], "message": message(&turn, place),
            "uuid": uuid, "timestamp": "2026-01-01T00:00:00.000Z",
        });
        transcript.push_str(&row.to_string());
        transcript.push('\n');
        parent = uuid.into();
    }
    Start { transcript, say }
}

fn has_results(turn: &Value) -> bool {
    let blocks = turn["content"].as_array();
    { blocks.into_iter().flatten() }.any(|block| block["type"] == "tool_result")
}

/// The model's words as an answer, which is what it keeps them as.
fn message(turn: &Value, place: usize) -> Value {
    if turn["role"] != "assistant" {
        return turn.clone();
    }
    let blocks = turn["content"].as_array();
    let calls = { blocks.into_iter().flatten() }.any(|block| block["type"] == "tool_use");
    json!({
        "id": format!("msg_{place}"), "type": "message", "role": "assistant", "model": "claude",
        "content": turn["content"], "stop_reason": if calls { "tool_use" } else { "end_turn" },
        "stop_sequence": null, "usage": {"input_tokens": 0, "output_tokens": 0},
    })
}
