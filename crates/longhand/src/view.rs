//! How results look: colour and tables on a terminal, JSON in a pipe.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Lines of a tool's output that a person is shown.
const SHOWN_LINES: usize = 8;

/// Where an event's text begins.
pub const MARGIN: usize = 44;

/// Prints one event for a person.
///
/// # Errors
/// Standard output is gone.
pub fn event(event: &Value) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    let dim = Style::new().dimmed();
    head(&mut out, event)?;
    let text = clean(&summary(event));
    let mut lines = text.lines();
    writeln!(out, " {}", lines.next().unwrap_or_default())?;
    let rest = lines.collect::<Vec<_>>();
    let shown = match event["type"].as_str() {
        Some("agent.message" | "user.message") => rest.len(),
        _ => SHOWN_LINES,
    };
    for line in rest.iter().take(shown) {
        writeln!(out, "{:MARGIN$}{line}", "")?;
    }
    if rest.len() > shown {
        let more = rest.len() - shown;
        writeln!(out, "{:MARGIN$}{dim}… {more} more lines{dim:#}", "")?;
    }
    out.flush()
}

/// Prints when an event was and of which type it is, and leaves the line open.
///
/// # Errors
/// Standard output is gone.
pub fn head(out: &mut impl std::io::Write, event: &Value) -> std::io::Result<()> {
    let kind = event["type"].as_str().unwrap_or_default();
    let at = event["processed_at"].as_str().unwrap_or_default();
    let at = at.get(11..23).unwrap_or_default();
    let (dim, style) = (Style::new().dimmed(), style(event));
    write!(
        out,
        "{dim}{at:<12}{dim:#} {style}{:<30}{style:#}",
        clean(kind)
    )
}

fn style(event: &Value) -> Style {
    match event["type"].as_str().unwrap_or_default() {
        "user.message" => colour(AnsiColor::Cyan).bold(),
        "user.interrupt" | "user.tool_confirmation" | "user.custom_tool_result" => {
            colour(AnsiColor::Cyan)
        }
        "agent.message" => colour(AnsiColor::Green).bold(),
        "agent.tool_use" | "agent.custom_tool_use" => colour(AnsiColor::Yellow),
        "agent.tool_result" if event["is_error"] == true => colour(AnsiColor::Red),
        "agent.tool_result" => Style::new(),
        "session.error" => colour(AnsiColor::Red).bold(),
        _ => Style::new().dimmed(),
    }
}

/// What is to be said of an event.
fn summary(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = match event["type"].as_str().unwrap_or_default() {
        "user.message" => first_paragraph(&texts(event)),
        "agent.message" | "agent.tool_result" | "user.custom_tool_result" | "system.message" => {
            texts(event)
        }
        "agent.tool_use" | "agent.custom_tool_use" => {
            format!("{} {}", text(&event["name"]), brief(&event["input"]))
        }
        "user.tool_confirmation" => {
            format!(
                "{} {}",
                text(&event["result"]),
                text(&event["deny_message"])
            )
        }
        "session.error" => text(&event["error"]["message"]),
        "session.usage" => usage(&event["usage"]),
        "session.status_idle" => text(&event["stop_reason"]["type"]),
        _ => String::new(),
    };
    let waits = event["type"]
        .as_str()
        .is_some_and(|kind| kind.starts_with("user."))
        && event["processed_at"].is_null();
    if waits {
        format!("{said} (waits)")
    } else {
        said
    }
}

/// Text from elsewhere as a terminal may get it: what would move the cursor, change colours or titles
/// becomes visible instead. An agent's words, and file names, may be anything.
#[must_use]
pub fn clean(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\t' => c,
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}'..='\u{9f}' => '\u{fffd}',
        // Marks that turn the direction of what follows.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(visible).collect()
}

/// A colour of the terminal.
#[must_use]
pub fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(colour.into()))
}

/// The texts of an event's content.
#[must_use]
pub fn texts(event: &Value) -> String {
    let blocks = event["content"].as_array().into_iter().flatten();
    blocks
        .filter_map(|b| b["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().to_owned()
}

/// A tool's input in few words.
#[must_use]
pub fn brief(input: &Value) -> String {
    let shown = input["command"]
        .as_str()
        .or_else(|| input["file_path"].as_str());
    shown.map_or_else(|| input.to_string(), ToOwned::to_owned)
}

fn usage(usage: &Value) -> String {
    format!(
        "{} in, {} cached, {} out, {:.2} s active",
        usage["input_tokens"],
        usage["cache_read_input_tokens"],
        usage["output_tokens"],
        usage["active_seconds"].as_f64().unwrap_or_default()
    )
}

/// True if results go to a person.
#[must_use]
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints objects: a table of `columns` on a terminal, else one JSON object a line. A column may go into
/// an object with dots: `agent.name`.
///
/// # Errors
/// Standard output is gone.
pub fn objects(objects: &[Value], columns: &[&str], as_json: bool) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    if as_json || !is_terminal() {
        for object in objects {
            writeln!(out, "{object}")?;
        }
        return out.flush();
    }
    if objects.is_empty() {
        eprintln!("none");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns);
    for object in objects {
        table.add_row(columns.iter().map(|column| cell(field(object, column))));
    }
    writeln!(out, "{table}")?;
    out.flush()
}

/// Prints one object: a line a field on a terminal, else JSON.
///
/// # Errors
/// Standard output is gone.
pub fn object(object: &Value, as_json: bool) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    if as_json || !is_terminal() {
        writeln!(out, "{object}")?;
        return out.flush();
    }
    let fields = object.as_object().into_iter().flatten();
    let bold = Style::new().bold();
    for (name, value) in fields.filter(|(_, value)| !is_empty(value)) {
        let text = match value {
            Value::Object(_) | Value::Array(_) => {
                serde_json::to_string_pretty(value).unwrap_or_default()
            }
            value => cell(value),
        };
        let text = clean(&text);
        let mut lines = text.lines();
        writeln!(
            out,
            "{bold}{name:<22}{bold:#} {}",
            lines.next().unwrap_or_default()
        )?;
        for line in lines {
            writeln!(out, "{:22} {line}", "")?;
        }
    }
    out.flush()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn field<'v>(object: &'v Value, column: &str) -> &'v Value {
    column.split('.').fold(object, |value, name| &value[name])
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_an_agent_says_steers_the_terminal() {
        let title = "ok\u{1b}]0;owned\u{7}\r\n\u{9b}2Jend\u{202e}";
        assert_eq!(clean(title), "ok␛]0;owned␇\n\u{fffd}2Jend\u{fffd}");
        assert_eq!(clean("a\tb\nç漢"), "a\tb\nç漢");
    }
}
