//! The live view on a terminal: previews grow in place, and the event that concludes one is not shown twice.

use std::io::Write as _;

use anstyle::Style;
use serde_json::{Value, json};

use crate::view;

/// What is on the terminal.
#[derive(Default)]
pub(super) struct Screen {
    /// The preview whose line is open.
    open: Option<Preview>,
}

struct Preview {
    id: String,
    text: String,
}

impl Screen {
    /// A start or a delta.
    pub(super) fn preview(&mut self, event: &Value) -> std::io::Result<()> {
        let mut out = anstream::stdout().lock();
        if event["type"] == "event_start" {
            self.close(&mut out)?;
            let started = &event["event"];
            view::head(&mut out, &json!({"type": started["type"]}))?;
            write!(out, " ")?;
            if started["type"] == "agent.thinking" {
                let dim = Style::new().dimmed();
                write!(out, "{dim}…{dim:#}")?;
            }
            self.open = Some(Preview {
                id: started["id"].as_str().unwrap_or_default().to_owned(),
                text: String::new(),
            });
            return out.flush();
        }
        let id = event["event_id"].as_str();
        let Some(open) = self
            .open
            .as_mut()
            .filter(|open| Some(open.id.as_str()) == id)
        else {
            return Ok(());
        };
        let text = event["delta"]["content"]["text"]
            .as_str()
            .unwrap_or_default();
        open.text += text;
        write!(out, "{}", indented(text))?;
        out.flush()
    }

    /// A stored event.
    pub(super) fn event(&mut self, event: &Value) -> std::io::Result<()> {
        let kind = event["type"].as_str().unwrap_or_default();
        let concludes = self.open.take_if(|open| event["id"] == open.id.as_str());
        if let Some(preview) = concludes {
            let mut out = anstream::stdout().lock();
            writeln!(out)?;
            if preview.text == view::texts(event) {
                return out.flush();
            }
            // Previews may be shed: then the whole message follows.
        }
        // Bookkeeping of one turn; what it means is said by the session's own events.
        if kind.starts_with("span.") || kind.starts_with("session.thread_status_") {
            return Ok(());
        }
        self.close(&mut anstream::stdout().lock())?;
        view::event(event)
    }

    fn close(&mut self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        match self.open.take() {
            Some(_) => writeln!(out),
            None => Ok(()),
        }
    }
}

/// A piece of a preview, its lines below the first one's beginning.
fn indented(text: &str) -> String {
    let margin = format!("\n{:width$}", "", width = view::MARGIN);
    view::clean(text).replace('\n', &margin)
}
