//! What a session owes its clients, kept outside the server: what was acknowledged, what was seen, which calls
//! were asked for. The judge of every crash: it looks at the log alone and knows nothing of the store.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::{id, texts};

/// Words of the result of a call whose outcome is unknown.
const UNKNOWN: &str = "outcome of this call is unknown";

/// One session's debts.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Events whose acceptance was answered.
    acknowledged: BTreeSet<String>,
    /// Tokens of messages that were sent once, answered or not.
    sent: BTreeSet<String>,
    /// Events seen on a stream with their place: id → `processed_at`.
    seen: BTreeMap<String, String>,
}

/// What became of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has an ordinary result.
    Done,
    /// Its result is an error that is known.
    Failed,
    /// Its result says that its outcome is unknown.
    Unknown,
}

impl Ledger {
    /// A message with that token is on its way.
    pub fn sent(&mut self, token: &str) {
        self.sent.insert(token.to_owned());
    }

    /// The server answered that it has these events.
    pub fn acknowledged(&mut self, ids: impl IntoIterator<Item = String>) {
        self.acknowledged.extend(ids);
    }

    /// How many events were acknowledged.
    #[must_use]
    pub fn promised(&self) -> usize {
        self.acknowledged.len()
    }

    /// A stream showed this event.
    pub fn seen(&mut self, event: &Value) {
        if let Some(at) = event["processed_at"].as_str() {
            self.seen.insert(id(event), at.to_owned());
        }
    }

    /// What is wrong with the log of a session that has come to rest; empty if nothing.
    #[must_use]
    pub fn audit(&self, log: &[Value]) -> Vec<String> {
        let mut wrong = order(log);
        wrong.extend(calls(log).err());
        let at = log
            .iter()
            .map(|event| (id(event), event["processed_at"].as_str()))
            .collect::<BTreeMap<_, _>>();
        for event in &self.acknowledged {
            match at.get(event) {
                None => wrong.push(format!("{event} was acknowledged and is missing")),
                Some(None) => wrong.push(format!("{event} still waits although the session rests")),
                Some(Some(_)) => {}
            }
        }
        for (event, seen) in &self.seen {
            if at.get(event) != Some(&Some(seen.as_str())) {
                wrong.push(format!("{event} was seen at {seen} and is not there now"));
            }
        }
        let mut tokens = BTreeSet::new();
        for event in log.iter().filter(|event| event["type"] == "user.message") {
            let text = texts(event);
            let token = text.lines().next().unwrap_or_default().to_owned();
            if !self.sent.contains(&token) {
                wrong.push(format!("a message {token:?} that nobody sent"));
            } else if !tokens.insert(token.clone()) {
                wrong.push(format!("the message {token:?}, sent once, is there twice"));
            }
        }
        if log
            .last()
            .is_some_and(|last| last["type"] != "session.status_idle")
        {
            wrong.push("it rests, but its last event is not session.status_idle".to_owned());
        }
        wrong
    }
}

/// Ids are unique and `processed_at` grows strictly: log order is list order.
fn order(log: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    let mut last = String::new();
    for event in log {
        if !ids.insert(id(event)) {
            wrong.push(format!("{} is listed twice", id(event)));
        }
        // One format, six digits and Z: the order of the texts is the order of the instants.
        if let Some(at) = event["processed_at"].as_str() {
            if at <= last.as_str() {
                wrong.push(format!("{} at {at} does not follow {last}", id(event)));
            }
            at.clone_into(&mut last);
        }
    }
    wrong
}

/// What became of each bash call, by its command. Every call must have one result, after it.
///
/// # Errors
/// A call without a result, or with more than one, or a result without a call.
pub fn calls(log: &[Value]) -> Result<Vec<(String, Outcome)>, String> {
    let mut open = BTreeMap::new();
    let mut done = Vec::new();
    for event in log {
        if event["type"] == "agent.tool_use" {
            let command = event["input"]["command"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            open.insert(id(event), command);
        } else if event["type"] == "agent.tool_result" {
            let call = event["tool_use_id"].as_str().unwrap_or_default();
            let Some(command) = open.remove(call) else {
                return Err(format!("{} answers {call}, which is not open", id(event)));
            };
            let outcome = match event["is_error"] == true {
                false => Outcome::Done,
                true if texts(event).contains(UNKNOWN) => Outcome::Unknown,
                true => Outcome::Failed,
            };
            done.push((command, outcome));
        }
    }
    match open.pop_first() {
        Some((call, _)) => Err(format!("{call} has no result although the session rests")),
        None => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, kind: &str, second: u32) -> Value {
        json!({"id": id, "type": kind, "processed_at": format!("2026-11-21T00:00:{second:02}.000000Z")})
    }

    fn message(id: &str, token: &str, second: u32) -> Value {
        let mut event = event(id, "user.message", second);
        event["content"] = json!([{"type": "text", "text": token}]);
        event
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.sent("one");
        ledger.acknowledged(["a".to_owned()]);
        ledger.seen(&message("a", "one", 1));
        ledger
    }

    #[test]
    fn a_log_that_keeps_its_promises_passes() {
        let log = [message("a", "one", 1), event("z", "session.status_idle", 2)];
        assert_eq!(ledger().audit(&log), Vec::<String>::new());
    }

    #[test]
    fn each_broken_promise_is_found() {
        let idle = || event("z", "session.status_idle", 9);
        let broken = [
            ("missing", vec![idle()]),
            ("not there now", vec![message("a", "one", 2), idle()]),
            (
                "that nobody sent",
                vec![message("a", "one", 1), message("b", "two", 2), idle()],
            ),
            (
                "is there twice",
                vec![message("a", "one", 1), message("b", "one", 2), idle()],
            ),
            (
                "does not follow",
                vec![message("a", "one", 1), event("y", "x", 1), idle()],
            ),
            (
                "listed twice",
                vec![message("a", "one", 1), event("z", "x", 2), idle()],
            ),
            ("last event", vec![message("a", "one", 1)]),
            (
                "no result",
                vec![
                    message("a", "one", 1),
                    event("c", "agent.tool_use", 2),
                    idle(),
                ],
            ),
        ];
        for (complaint, log) in broken {
            let wrong = ledger().audit(&log);
            assert!(
                wrong.iter().any(|w| w.contains(complaint)),
                "{complaint}: {wrong:?}"
            );
        }
    }

    #[test]
    fn a_result_that_says_unknown_is_told_from_any_other_error() {
        let mut call = event("c", "agent.tool_use", 1);
        call["input"] = json!({"command": "true"});
        let result = |text: &str| {
            let content = json!([{"type": "text", "text": text}]);
            json!({"id": "r", "type": "agent.tool_result", "tool_use_id": "c", "is_error": true, "content": content})
        };
        let outcome = |text| {
            calls(&[call.clone(), result(text)])
                .expect("answered")
                .remove(0)
                .1
        };
        assert_eq!(outcome("exit code 1"), Outcome::Failed);
        assert_eq!(
            outcome("The outcome of this call is unknown: …"),
            Outcome::Unknown
        );
    }
}
