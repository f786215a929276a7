//! What both OpenAI dialects say in the same words: documents as text, failed results, arguments, efforts.
//! Pure functions of what is said; they must never know a request.

use serde_json::Value;

use crate::request::{Effort, Request, ToolSpec};

/// The tools on offer, in the order in which they go out.
pub(crate) fn sorted(request: &Request) -> Vec<&ToolSpec> {
    let mut tools: Vec<_> = request.tools.iter().collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools
}

pub(crate) fn effort(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        // not every model has a step above
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    }
}

/// A call's arguments as text. What could not be parsed goes back as the model wrote it.
pub(crate) fn arguments(input: &Value) -> String {
    input
        .as_str()
        .map_or_else(|| input.to_string(), str::to_owned)
}

/// The texts of a tool's outcome. The dialects have no mark for failure.
pub(crate) fn outcome(texts: &[String], is_error: bool) -> String {
    let text = texts.join("\n");
    match (is_error, text.is_empty()) {
        (true, true) => "Error".to_owned(),
        (true, false) => format!("Error: {text}"),
        (false, _) => text,
    }
}

pub(crate) fn search_result(source: &str, title: &str, content: &[String]) -> String {
    format!("{title} ({source})\n{}", content.join("\n"))
}

pub(crate) fn text_document(data: &str, title: Option<&str>, context: Option<&str>) -> String {
    let mut head = String::new();
    for line in [title, context].into_iter().flatten() {
        head.push_str(line);
        head.push('\n');
    }
    format!("{head}{data}")
}

/// What the application says between two turns, as one text; empty when it says nothing.
pub(crate) fn system(texts: &[String]) -> String {
    let said = texts.iter().filter(|text| !text.is_empty());
    said.map(String::as_str).collect::<Vec<_>>().join("\n\n")
}
