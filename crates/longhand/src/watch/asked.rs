//! What a session asks its client: confirmations, and results of custom tools. It reads them off the events
//! and makes an answer out of a line; it sends nothing.

use std::collections::VecDeque;
use std::fmt;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::{sessions, view};

/// Calls that are remembered until it is known whether they are asked about; one reply has fewer.
const REMEMBERED: usize = 1_000;

/// The calls that wait for an answer.
#[derive(Default)]
pub(super) struct Asked {
    called: VecDeque<Ask>,
    open: VecDeque<Ask>,
}

/// One call.
#[derive(Clone)]
pub(super) struct Ask {
    id: String,
    name: String,
    input: String,
    /// The client runs it, and answers with what came of it.
    custom: bool,
}

/// What a line means.
pub(super) enum Answer {
    Send(Value),
    Unclear(&'static str),
    NothingAsked,
}

impl Asked {
    /// Takes note of an event.
    pub(super) fn see(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap_or_default() {
            kind @ ("agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use") => {
                self.called.push_back(Ask {
                    id: text(&event["id"]),
                    name: text(&event["name"]),
                    input: view::brief(&event["input"]),
                    custom: kind == "agent.custom_tool_use",
                });
                if self.called.len() > REMEMBERED {
                    self.called.pop_front();
                }
            }
            "session.status_idle" => {
                let ids = event["stop_reason"]["event_ids"].as_array();
                let asked =
                    |ask: &&Ask| ids.is_some_and(|ids| ids.iter().any(|id| *id == ask.id.as_str()));
                self.open = self.called.iter().filter(asked).cloned().collect();
            }
            "session.status_running" => self.open.clear(),
            "user.tool_confirmation" => self.close(&event["tool_use_id"]),
            "user.custom_tool_result" => self.close(&event["custom_tool_use_id"]),
            _ => {}
        }
    }

    fn close(&mut self, id: &Value) {
        self.open.retain(|ask| *id != ask.id.as_str());
        self.called.retain(|ask| *id != ask.id.as_str());
    }

    /// The call to be answered next.
    pub(super) fn first(&self) -> Option<&Ask> {
        self.open.front()
    }

    /// Reads a line as the answer to [`Asked::first`].
    pub(super) fn answer(&self, line: &str) -> Answer {
        let Some(ask) = self.first() else {
            return Answer::NothingAsked;
        };
        if ask.custom {
            return Answer::Send(match line.strip_prefix("/error ") {
                Some(text) => sessions::custom_result(&ask.id, text, true),
                None => sessions::custom_result(&ask.id, line, false),
            });
        }
        let (word, reason) = line.split_once(' ').unwrap_or((line, ""));
        let reason = Some(reason.trim()).filter(|reason| !reason.is_empty());
        match word.to_lowercase().as_str() {
            "y" | "yes" => Answer::Send(sessions::confirmation(&ask.id, true, None)),
            "n" | "no" => Answer::Send(sessions::confirmation(&ask.id, false, reason)),
            _ => Answer::Unclear("y lets it run, n forbids it; `n because …` tells the agent why"),
        }
    }

    /// The answer to [`Asked::first`] was taken.
    pub(super) fn answered(&mut self) {
        self.open.pop_front();
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bold, name, input) = (
            view::colour(AnsiColor::Magenta).bold(),
            view::clean(&self.name),
            view::clean(&self.input),
        );
        let dim = Style::new().dimmed();
        writeln!(f, "{bold}? {name}{bold:#} {input}")?;
        if self.custom {
            write!(f, "{dim}its result, or /error TEXT{dim:#} > ")
        } else {
            write!(f, "{dim}may it run? y, n, or n REASON{dim:#} > ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asking() -> Asked {
        let mut asked = Asked::default();
        asked.see(&json!({"type": "agent.tool_use", "id": "a", "name": "bash", "input": {"command": "ls"}}));
        asked.see(
            &json!({"type": "agent.custom_tool_use", "id": "b", "name": "weather", "input": {}}),
        );
        asked.see(&json!({"type": "agent.tool_use", "id": "c", "name": "read", "input": {}}));
        let reason = json!({"type": "requires_action", "event_ids": ["a", "b"]});
        asked.see(&json!({"type": "session.status_idle", "stop_reason": reason}));
        asked
    }

    fn sent(answer: Answer) -> Value {
        match answer {
            Answer::Send(event) => event,
            Answer::Unclear(_) | Answer::NothingAsked => Value::Null,
        }
    }

    #[test]
    fn only_calls_that_the_session_waits_for_are_asked() {
        let mut asked = asking();
        assert_eq!(asked.first().unwrap().id, "a");
        asked.see(&json!({"type": "user.tool_confirmation", "tool_use_id": "a"}));
        assert_eq!(asked.first().unwrap().id, "b");
        asked.see(&json!({"type": "session.status_running"}));
        assert!(asked.first().is_none());
    }

    #[test]
    fn only_a_clear_yes_lets_a_call_run() {
        let asked = asking();
        assert_eq!(sent(asked.answer("y"))["result"], "allow");
        let denied = sent(asked.answer("n not now"));
        assert_eq!(
            (&denied["result"], &denied["deny_message"]),
            (&json!("deny"), &json!("not now"))
        );
        for unclear in ["ok", "yep", "run it", "a", "yy"] {
            assert!(
                matches!(asked.answer(unclear), Answer::Unclear(_)),
                "{unclear}"
            );
        }
    }

    #[test]
    fn a_custom_tool_is_answered_with_the_line() {
        let mut asked = asking();
        asked.answered();
        let result = sent(asked.answer("no rain"));
        assert_eq!(
            (&result["custom_tool_use_id"], &result["content"][0]["text"]),
            (&json!("b"), &json!("no rain"))
        );
        assert_eq!(result["is_error"], false);
        assert_eq!(sent(asked.answer("/error no such place"))["is_error"], true);
    }
}
