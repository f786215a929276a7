//! How results look: colour and tables on a terminal, JSON in a pipe.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Lines of a tool's output that a person is shown.
const SHOWN_LINES: usize = 8;

/// Prints one event for a person.
///
/// # Errors
/// Standard output is gone.
pub fn event(event: &Value) -> std::io::Result<()> {
    let kind = event["type"].as_str().unwrap_or_default();
    let at = event["processed_at"].as_str().unwrap_or_default();
    let at = at.get(11..23).unwrap_or_default();
    let (style, text) = match kind {
        "user.message" => (
            colour(AnsiColor::Cyan).bold(),
            first_paragraph(&texts(event)),
        ),
        "agent.message" => (colour(AnsiColor::Green).bold(), texts(event)),
        "agent.tool_use" | "agent.custom_tool_use" => {
            let name = event["name"].as_str().unwrap_or_default();
            (
                colour(AnsiColor::Yellow),
                format!("{name} {}", brief(&event["input"])),
            )
        }
        "agent.tool_result" if event["is_error"] == true => (colour(AnsiColor::Red), texts(event)),
        "agent.tool_result" => (Style::new(), texts(event)),
        "session.error" => (
            colour(AnsiColor::Red).bold(),
            event["error"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
        "session.usage" => (Style::new().dimmed(), usage(&event["usage"])),
        "session.status_idle" => (
            Style::new().dimmed(),
            event["stop_reason"]["type"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
        _ => (Style::new().dimmed(), String::new()),
    };
    let mut out = anstream::stdout().lock();
    let dim = Style::new().dimmed();
    write!(out, "{dim}{at}{dim:#} {style}{kind:<30}{style:#}")?;
    let mut lines = text.lines();
    writeln!(out, " {}", lines.next().unwrap_or_default())?;
    let rest = lines.collect::<Vec<_>>();
    for line in rest.iter().take(SHOWN_LINES) {
        writeln!(out, "{:44}{line}", "")?;
    }
    if rest.len() > SHOWN_LINES {
        writeln!(
            out,
            "{:44}{dim}… {} more lines{dim:#}",
            "",
            rest.len() - SHOWN_LINES
        )?;
    }
    out.flush()
}

fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(colour.into()))
}

fn texts(event: &Value) -> String {
    let blocks = event["content"].as_array().into_iter().flatten();
    blocks
        .filter_map(|b| b["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

fn first_paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().to_owned()
}

fn brief(input: &Value) -> String {
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

/// Prints objects: a table of `columns` on a terminal, else one JSON object a line.
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
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns);
    for object in objects {
        table.add_row(columns.iter().map(|column| match &object[*column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    writeln!(out, "{table}")?;
    out.flush()
}
