//! Which of claude's own tools is which of the contract's. Events, policies and the hand know only the latter; the
//! model knows only the former. Pure.

use serde_json::{Map, Value, json};

use crate::brief::BuiltinTool;

/// Claude's name for a tool of the contract.
pub(crate) const fn theirs(tool: BuiltinTool) -> &'static str {
    match tool {
        BuiltinTool::Bash => "Bash",
        BuiltinTool::Edit => "Edit",
        BuiltinTool::Glob => "Glob",
        BuiltinTool::Grep => "Grep",
        BuiltinTool::Read => "Read",
        BuiltinTool::Write => "Write",
    }
}

/// Whether claude runs it beside others; what is not waits for those before it, and holds up those behind it.
pub(crate) fn runs_beside(name: &str, custom: bool) -> bool {
    custom || matches!(name, "Glob" | "Grep" | "Read")
}

/// A call as the model wrote it, in the contract's words. A tool of the client's keeps its own.
pub(crate) fn ours(name: &str, input: &Value) -> (String, Value) {
    let tool = BuiltinTool::ALL
        .into_iter()
        .find(|tool| theirs(*tool) == name);
    let (Some(tool), Some(fields)) = (tool, input.as_object()) else {
        let ours = tool.map_or_else(|| name.to_owned(), |tool| tool.name().to_owned());
        return (ours, input.clone());
    };
    (tool.name().to_owned(), translated(tool, fields))
}

fn translated(tool: BuiltinTool, fields: &Map<String, Value>) -> Value {
    let kept: &[&str] = match tool {
        BuiltinTool::Bash => &["command"],
        BuiltinTool::Edit => &["file_path", "old_string", "new_string", "replace_all"],
        BuiltinTool::Glob | BuiltinTool::Grep => &["pattern", "path"],
        BuiltinTool::Read => &["file_path"],
        BuiltinTool::Write => &["file_path", "content"],
    };
    let kept = fields
        .iter()
        .filter(|(name, _)| kept.contains(&name.as_str()));
    let mut input = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<Map<_, _>>();
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    match tool {
        BuiltinTool::Bash => {
            let limit = number("timeout");
            input.extend(limit.map(|limit| ("timeout_ms".to_owned(), json!(limit))));
        }
        BuiltinTool::Read if number("offset").is_some() || number("limit").is_some() => {
            let first = number("offset").unwrap_or(1).max(1);
            let last = number("limit").map_or(json!(-1), |limit| {
                json!(first.saturating_add(limit.saturating_sub(1)))
            });
            input.insert("view_range".to_owned(), json!([first, last]));
        }
        _ => {}
    }
    Value::Object(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_in_the_words_of_the_contract() {
        for (name, input, ours_name, ours_input) in [
            (
                "Bash",
                json!({"command": "ls", "timeout": 5, "description": "List"}),
                "bash",
                json!({"command": "ls", "timeout_ms": 5}),
            ),
            (
                "Read",
                json!({"file_path": "/a", "offset": 3, "limit": 2}),
                "read",
                json!({"file_path": "/a", "view_range": [3, 4]}),
            ),
            (
                "Read",
                json!({"file_path": "/a"}),
                "read",
                json!({"file_path": "/a"}),
            ),
            (
                "Grep",
                json!({"pattern": "x", "output_mode": "content"}),
                "grep",
                json!({"pattern": "x"}),
            ),
            (
                "weather",
                json!({"city": "Oslo"}),
                "weather",
                json!({"city": "Oslo"}),
            ),
            ("Bash", json!("no object"), "bash", json!("no object")),
        ] {
            let told = ours(name, &input);
            assert_eq!(told, (ours_name.to_owned(), ours_input), "{name} {input}");
        }
    }
}
