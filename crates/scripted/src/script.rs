//! Finds and reads the script in a conversation. Pure; it must never know a dialect.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One message of a conversation, as far as scripting cares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    /// Whether the model said it.
    pub(crate) assistant: bool,
    /// Its texts, tool results apart.
    pub(crate) texts: Vec<String>,
    /// The texts of its tool results.
    pub(crate) results: Vec<String>,
}

/// One call of a step.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) input: Map<String, Value>,
}

/// One step of a script, as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Step {
    pub(crate) text: Option<String>,
    pub(crate) thinking: Option<String>,
    pub(crate) chunks: Option<usize>,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) tool: Option<String>,
    pub(crate) input: Map<String, Value>,
    pub(crate) tools: Vec<Call>,
    pub(crate) echo_results: bool,
    pub(crate) stop: Option<String>,
    pub(crate) wait: Option<String>,
    pub(crate) wait_mid: Option<String>,
    pub(crate) error: Option<u16>,
    pub(crate) retry_after: Option<u64>,
    pub(crate) error_event: Option<String>,
    pub(crate) cut: bool,
    pub(crate) garbage: bool,
    pub(crate) hang: bool,
    pub(crate) times: Option<u32>,
}

impl Step {
    /// Whether it leaves no assistant message behind.
    pub(crate) fn fails(&self) -> bool {
        self.error.is_some() || self.error_event.is_some() || self.cut || self.garbage || self.hang
    }

    /// Whether it only waits.
    pub(crate) fn only_waits(&self) -> bool {
        let bare = Step {
            wait: self.wait.clone(),
            ..Step::default()
        };
        self.wait.is_some() && *self == bare
    }

    /// Its calls, whichever way they are written.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let one = self.tool.iter().map(|name| Call {
            name: name.clone(),
            input: self.input.clone(),
        });
        one.chain(self.tools.iter().cloned()).collect()
    }

    /// A step that says `text`.
    pub(crate) fn saying(text: impl Into<String>) -> Step {
        Step {
            text: Some(text.into()),
            ..Step::default()
        }
    }
}

/// A script and where the conversation stands in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    /// Assistant messages since the script was given.
    pub(crate) answered: usize,
    /// Index of the message that holds it.
    pub(crate) given_at: usize,
}

/// The latest script of a conversation; `None` when no user message holds one.
///
/// # Errors
/// A text that begins like a script and is none, in words for the author of the test.
pub(crate) fn find(turns: &[Turn]) -> Result<Option<Script>, String> {
    for (given_at, turn) in turns.iter().enumerate().rev().filter(|(_, t)| !t.assistant) {
        let Some(text) = turn
            .texts
            .iter()
            .rev()
            .find_map(|t| t.split_once("SCRIPT:").map(|(_, s)| s))
        else {
            continue;
        };
        let mut read = serde_json::Deserializer::from_str(text).into_iter::<Vec<Step>>();
        let steps = match read.next() {
            Some(Ok(steps)) => steps,
            Some(Err(e)) => {
                return Err(format!(
                    "the text after SCRIPT: is not an array of steps: {e}"
                ));
            }
            None => return Err("nothing follows SCRIPT:".to_owned()),
        };
        let answered = turns
            .iter()
            .skip(given_at + 1)
            .filter(|t| t.assistant)
            .count();
        return Ok(Some(Script {
            steps,
            answered,
            given_at,
        }));
    }
    Ok(None)
}

/// The answer when nobody gave a script.
pub(crate) fn default_step(turns: &[Turn]) -> Step {
    let last = turns.iter().rev().find(|t| !t.assistant);
    let said = last.map(|t| t.texts.join("\n")).unwrap_or_default();
    if said.is_empty() {
        Step::saying("Done.")
    } else {
        Step::saying(format!("You said: {said}"))
    }
}

/// The results that `echo_results` quotes.
pub(crate) fn results(turns: &[Turn]) -> String {
    turns
        .last()
        .map(|t| t.results.join("\n"))
        .unwrap_or_default()
}
