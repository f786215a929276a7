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
    #[serde(default)]
    pub(crate) arguments: Option<String>,
}

/// What a request is for, when it is not one for the next word of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aside {
    /// It asks for a summary of the conversation.
    Summary,
    /// It asks whether a call may run.
    Judge,
    /// It asks whether work meets a rubric.
    Grade,
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
    pub(crate) arguments: Option<String>,
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
    pub(crate) too_long: bool,
    pub(crate) on: Option<Aside>,
    pub(crate) window: Option<u64>,
}

impl Step {
    /// Whether it leaves no assistant message of its own behind: what a paused answer says becomes part of
    /// the one that follows it.
    pub(crate) fn fails(&self) -> bool {
        self.error.is_some()
            || self.error_event.is_some()
            || self.cut
            || self.garbage
            || self.hang
            || self.too_long
            || self.stop.as_deref() == Some("pause_turn")
    }

    /// Whether it answers no word of the conversation.
    pub(crate) fn is_beside(&self) -> bool {
        self.on.is_some() || self.window.is_some()
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
            arguments: self.arguments.clone(),
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
    /// Assistant messages since the script was given, those before a summary included.
    pub(crate) answered: usize,
    /// Index of the message that holds it.
    pub(crate) given_at: usize,
    /// The failing steps that a summary says have happened.
    pub(crate) past: Vec<usize>,
}

/// The latest script of a conversation; `None` when no user message holds one.
///
/// # Errors
/// A text that begins like a script and is none, in words for the author of the test.
pub(crate) fn find(turns: &[Turn]) -> Result<Option<Script>, String> {
    for (given_at, turn) in turns.iter().enumerate().rev().filter(|(_, t)| !t.assistant) {
        let Some((text, done, past)) = turn.texts.iter().rev().find_map(|t| given(t)) else {
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
        let answered = said_by_model(turns, given_at + 1) + done;
        return Ok(Some(Script {
            steps,
            answered,
            given_at,
            past,
        }));
    }
    Ok(None)
}

/// The model's messages from that one on. Words of the model at the very end are a paused answer, which goes on.
fn said_by_model(turns: &[Turn], from: usize) -> usize {
    let paused = turns.last().is_some_and(|last| last.assistant);
    let said = turns.iter().skip(from).filter(|turn| turn.assistant);
    said.count().saturating_sub(usize::from(paused))
}

impl Script {
    /// These steps for a conversation that brings none of its own.
    pub(crate) fn common(steps: Vec<Step>, turns: &[Turn]) -> Self {
        Self {
            steps,
            answered: said_by_model(turns, 0),
            given_at: 0,
            past: Vec::new(),
        }
    }
}

/// What follows the mark of a script in a text, how many of its steps are done and which failing ones have
/// happened: none, except where a summary says so, or where the conversation itself stands in the text.
fn given(text: &str) -> Option<(&str, usize, Vec<usize>)> {
    let Some((_, mark)) = text.split_once("SCRIPT-STEP:") else {
        let (_, script) = text.split_once("SCRIPT:")?;
        return Some((script, replies(script), Vec::new()));
    };
    let digits = mark.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let done: usize = digits.get(..end.unwrap_or(digits.len()))?.parse().ok()?;
    let past = mark
        .split_once("past:")
        .and_then(|(_, list)| list.split_once(')'));
    let past = past.map_or("", |(list, _)| list).split(',');
    let past = past.filter_map(|n| n.trim().parse().ok()).collect();
    // A summary quotes several messages: the last script is the one in force.
    let (_, script) = text.rsplit_once("SCRIPT:")?;
    Some((script, done + replies(script), past))
}

/// The model's words in a conversation that comes as one text.
fn replies(text: &str) -> usize {
    text.lines().filter(|line| *line == "[assistant]").count()
}

/// What a request is for, by how it is worded: one that ends in a text about a `<summary>` wants one, one
/// that is a JSON object with `user_messages` and `call` wants a judgement, one that begins with a JSON
/// object with `outcome`, `rubric` and `transcript` wants a verdict.
pub(crate) fn aside(turns: &[Turn]) -> Option<Aside> {
    let last = turns.iter().rev().find_map(|t| t.texts.last())?;
    if graded(turns).is_some() {
        Some(Aside::Grade)
    } else if judged(turns).is_some() {
        Some(Aside::Judge)
    } else if last.contains("<summary>") && last.contains("</summary>") {
        Some(Aside::Summary)
    } else {
        None
    }
}

/// What the user wants, as a request for a verdict quotes it at its beginning.
pub(crate) fn graded(turns: &[Turn]) -> Option<Vec<Turn>> {
    #[derive(Deserialize)]
    struct Asked {
        outcome: String,
        #[serde(rename = "rubric")]
        _rubric: serde::de::IgnoredAny,
        #[serde(rename = "transcript")]
        _transcript: serde::de::IgnoredAny,
    }
    let asked: Asked = serde_json::from_str(turns.first()?.texts.last()?).ok()?;
    let said = Turn {
        texts: vec![asked.outcome],
        ..Turn::default()
    };
    Some(vec![said])
}

/// What the user said, as a request for a judgement quotes it.
pub(crate) fn judged(turns: &[Turn]) -> Option<Vec<Turn>> {
    #[derive(Deserialize)]
    struct Asked {
        user_messages: Vec<String>,
        #[serde(rename = "call")]
        _call: serde::de::IgnoredAny,
    }
    let [turn] = turns else { return None };
    let asked: Asked = serde_json::from_str(turn.texts.last()?).ok()?;
    let said = asked.user_messages.into_iter().map(|text| Turn {
        texts: vec![text],
        ..Turn::default()
    });
    Some(said.collect())
}

/// The answer to an aside that no step of the script has.
pub(crate) fn default_aside(aside: Aside, answered: usize, past: &[usize]) -> Step {
    let past = past
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    Step::saying(match aside {
        Aside::Judge => "unclear".to_owned(),
        Aside::Grade => r#"{"verdict": "satisfied", "explanation": "It is done."}"#.to_owned(),
        Aside::Summary => format!(
            "<summary>The conversation so far, in short. SCRIPT-STEP: {answered} (past: {past})</summary>\n<open>Nothing is open.</open>"
        ),
    })
}

/// The answer when nobody gave a script.
pub(crate) fn default_step(turns: &[Turn]) -> Step {
    let last = turns
        .iter()
        .rev()
        .find(|t| !t.assistant && (!t.texts.is_empty() || !t.results.is_empty()));
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
        .iter()
        .rev()
        .find(|t| !t.texts.is_empty() || !t.results.is_empty())
        .map(|t| t.results.join("\n"))
        .unwrap_or_default()
}
