//! Where a claude stands: what a conversation in its dialect says, without what it adds for itself, so that its own
//! account can be held against the session's log. It decides nothing.

use std::collections::BTreeSet;

use serde_json::Value;

/// What was said, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Standing(Vec<Exchange>);

/// What the model was told, and what it said to that.
#[derive(Debug, Default, PartialEq)]
struct Exchange {
    /// The user's words, and what is told beside them.
    told: Vec<String>,
    /// The calls whose results it was told.
    results: BTreeSet<String>,
    /// Its words, and its calls by their ids.
    said: Vec<String>,
}

impl Standing {
    /// Of these messages.
    pub(crate) fn of<'a>(messages: impl Iterator<Item = &'a Value>) -> Self {
        let mut exchanges = vec![Exchange::default()];
        for message in messages {
            let (is_model, is_user) = (message["role"] == "assistant", message["role"] == "user");
            if is_user && exchanges.last().is_some_and(|last| !last.said.is_empty()) {
                exchanges.push(Exchange::default());
            }
            let Some(last) = exchanges.last_mut().filter(|_| is_model || is_user) else {
                continue;
            };
            let content = &message["content"];
            if let Some(text) = content.as_str() {
                last.add(is_model, text);
            }
            for block in content.as_array().into_iter().flatten() {
                last.take(is_model, block);
            }
        }
        Self(exchanges)
    }

    /// Whether `theirs` says the same. What is told there beside the user's words, such as reminders of its own, is no
    /// difference.
    pub(crate) fn agrees(&self, theirs: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&theirs.0);
        self.0.len() == theirs.0.len()
            && pairs.all(|(ours, theirs)| {
                ours.said == theirs.said
                    && ours.results == theirs.results
                    && ours.told.iter().all(|text| theirs.told.contains(text))
            })
    }
}

impl Exchange {
    fn add(&mut self, is_model: bool, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            let to = if is_model {
                &mut self.said
            } else {
                &mut self.told
            };
            to.push(text.to_owned());
        }
    }

    fn take(&mut self, is_model: bool, block: &Value) {
        let text = |key: &str| block[key].as_str().unwrap_or_default();
        match text("type") {
            "text" => self.add(is_model, text("text")),
            "tool_use" if is_model => self.said.push(text("id").to_owned()),
            "tool_result" if !is_model => {
                self.results.insert(text("tool_use_id").to_owned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(messages: &[Value]) -> Standing {
        Standing::of(messages.iter())
    }

    fn call(id: &str) -> Value {
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "Bash", "input": {}}]})
    }

    fn result(id: &str) -> Value {
        json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "x"}]})
    }

    #[test]
    fn what_it_adds_for_itself_is_no_difference_and_a_word_more_or_less_is() {
        let said =
            |text: &str| json!({"role": "assistant", "content": [{"type": "text", "text": text}]});
        let user = |text: &str| json!({"role": "user", "content": text});
        let ours = [
            user("hi"),
            said("hello"),
            user("go"),
            call("a"),
            result("a"),
        ];
        let mut theirs = ours.to_vec();
        theirs[0] = json!({"role": "user", "content": [{"type": "text", "text": "<system-reminder>x"},
            {"type": "text", "text": "hi"}]});
        theirs.insert(1, json!({"role": "system", "content": "about"}));
        assert!(of(&ours).agrees(&of(&theirs)));
        for (what, change) in [
            ("a word of the model", (2, said("forged"))),
            ("a word of the user", (0, user("ho"))),
            ("a call", (4, call("b"))),
            ("a result", (5, result("b"))),
        ] {
            let mut forged = theirs.clone();
            forged[change.0] = change.1;
            assert!(!of(&ours).agrees(&of(&forged)), "{what}");
        }
        theirs.pop();
        assert!(!of(&ours).agrees(&of(&theirs)), "a result is missing");
    }
}
