//! Condensing a transcript that has outgrown its model: the request for a summary, the record of it, and
//! how the model is shown the record afterwards. What the user said last is kept word for word; it must
//! never be the model's to reword.

use std::fmt::Write as _;

use model::{Block, Message, ResultBlock, UserBlock};
use serde::{Deserialize, Serialize};

use crate::limits::CUT_TO;
use crate::native::aim::Aim;

/// The version of the texts below; it goes up with every change of them.
pub const VERSION: u32 = 1;

/// What the model is asked for.
pub const PROMPT: &str = "\
This conversation has become too long to go on with. Write down everything that you will need to carry on \
without it; you will see what you write here and the user's last messages, and nothing else of it.\n\
Write between <summary> and </summary>: what the user wants and under which conditions, what was done and \
with which result, what was decided and why, what was learned about files, commands, data and people, with \
exact names, paths, numbers and identifiers.\n\
Then write between <open> and </open>: what is not finished, what was promised, which questions are \
unanswered, and what the next step is.\n\
Do not call any tool, and do not address the user.\n";

/// A summary as it is recorded. A storage format: fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SummaryRecord {
    /// The [`VERSION`] it was made and is shown under.
    pub(crate) version: u32,
    /// The model's summary.
    pub(crate) summary: String,
    /// What is open, in the model's words.
    pub(crate) open: String,
    /// The user's last messages, word for word, oldest first.
    pub(crate) said: Vec<String>,
    /// What the application has said in system messages: it holds for all later turns.
    pub(crate) orders: Vec<String>,
    /// What the user has said since the model's last word, pictures and all: it is not answered yet.
    #[serde(default)]
    pub(crate) pending: Vec<UserBlock>,
    /// The outcome that is open, word for word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aim: Option<Aim>,
}

/// Summary and open ends in the model's answer. An answer without marks is all summary.
pub(crate) fn read(answer: &str) -> (String, String) {
    let between = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>")).unwrap_or((rest, ""));
        Some(text.trim().to_owned())
    };
    let open = between("open").unwrap_or_default();
    (
        between("summary").unwrap_or_else(|| answer.trim().to_owned()),
        open,
    )
}

/// What the model is shown in place of the conversation that was condensed: the same bytes for the same
/// record.
#[must_use]
pub(crate) fn shown(record: &SummaryRecord) -> String {
    let mut text = format!(
        "This conversation was condensed to fit; this message stands in place of its beginning and was not \
         written by the user.\n\nWhat happened so far:\n{}\n",
        record.summary
    );
    if !record.open.is_empty() {
        let _ = write!(text, "\nWhat is open:\n{}\n", record.open);
    }
    if !record.said.is_empty() {
        text.push_str("\nWhat the user said last, word for word, oldest first:\n");
        for said in &record.said {
            let _ = write!(text, "\n[user]\n{said}\n");
        }
    }
    if let Some(aim) = &record.aim {
        let _ = write!(text, "\nWhat is to be reached:\n{}\n", aim.shown());
    }
    text.push_str(if record.pending.is_empty() {
        "\nGo on with what is open. Do not repeat what was done.\n"
    } else {
        "\nWhat follows was said by the user after all this, and is not answered yet.\n"
    });
    text
}

/// A piece of a conversation written out as text.
struct Part {
    speaker: &'static str,
    text: String,
    /// Cut first: the output of tools.
    is_result: bool,
}

/// The conversation as one text of at most `limit` bytes, for a model whose window it no longer fits. The
/// oldest results of tools are cut first, then whatever is oldest.
pub(crate) fn written(messages: &[Message], limit: usize) -> String {
    let mut parts = messages.iter().flat_map(parts).collect::<Vec<_>>();
    let mut size = parts.iter().map(length).sum::<usize>();
    for results in [true, false] {
        for part in &mut parts {
            if size <= limit {
                break;
            }
            if part.is_result == results || !results {
                let before = length(part);
                part.text = cut(&part.text, CUT_TO);
                size -= before - length(part);
            }
        }
    }
    let mut text = String::with_capacity(size);
    for part in &parts {
        let _ = write!(text, "[{}]\n{}\n\n", part.speaker, part.text);
    }
    // Thousands of small parts may still be too much: then the end counts.
    let start = text.ceil_char_boundary(text.len().saturating_sub(limit));
    text.split_off(start)
}

fn length(part: &Part) -> usize {
    part.speaker.len() + part.text.len() + 5
}

/// The beginning of a text and how much is missing; the text itself if that is shorter.
fn cut(text: &str, limit: usize) -> String {
    let end = text.floor_char_boundary(limit);
    let (kept, lost) = text.split_at(end);
    let short = format!("{kept} [{} bytes were cut]", lost.len());
    if short.len() < text.len() {
        short
    } else {
        text.to_owned()
    }
}

fn parts(message: &Message) -> Vec<Part> {
    let part = |speaker, text| Part {
        speaker,
        text,
        is_result: false,
    };
    match message {
        Message::User(blocks) => blocks.iter().map(said).collect(),
        Message::System(texts) => texts
            .iter()
            .map(|text| part("system", text.clone()))
            .collect(),
        Message::Assistant(blocks) => {
            let mut text = String::new();
            for block in blocks {
                match block {
                    Block::Text { text: more } => text.push_str(more),
                    Block::ToolUse { name, input, .. } => {
                        let _ = write!(text, "\n(calls {name} with {input})");
                    }
                    Block::Thinking { .. }
                    | Block::Reasoning { .. }
                    | Block::RedactedThinking { .. }
                    | Block::Opaque { .. } => {}
                }
            }
            vec![part("assistant", text)]
        }
    }
}

fn said(block: &UserBlock) -> Part {
    let (speaker, text) = match block {
        UserBlock::Text { text } => ("user", text.clone()),
        UserBlock::Image { .. } => ("user", "(an image)".to_owned()),
        UserBlock::Document { title, .. } => {
            let title = title.as_deref().unwrap_or("without a title");
            ("user", format!("(a document, {title})"))
        }
        UserBlock::ToolResult { content, .. } => {
            let texts = content.iter().map(|block| match block {
                ResultBlock::Text { text } => text.clone(),
                ResultBlock::Image { .. } => "(an image)".to_owned(),
                ResultBlock::Document { .. } => "(a document)".to_owned(),
                ResultBlock::SearchResult { title, .. } => format!("(a search result, {title})"),
            });
            ("result", texts.collect::<Vec<_>>().join("\n"))
        }
    };
    Part {
        speaker,
        text,
        is_result: speaker == "result",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::User(vec![UserBlock::Text {
            text: text.to_owned(),
        }])
    }

    fn result(text: &str) -> Message {
        Message::User(vec![UserBlock::ToolResult {
            tool_use_id: "t".to_owned(),
            content: vec![ResultBlock::Text {
                text: text.to_owned(),
            }],
            is_error: false,
        }])
    }

    #[test]
    fn the_oldest_results_are_cut_before_anything_the_user_said() {
        let long = "x".repeat(5_000);
        let messages = [
            user(&format!("mind this {long}")),
            result(&long),
            result(&long),
        ];
        let whole = written(&messages, 1 << 20);
        assert_eq!(whole.matches(&long).count(), 3);
        let once = written(&messages, 12_000);
        assert!(once.contains("bytes were cut"), "{once}");
        assert_eq!(once.matches(&long).count(), 2, "the newer result is whole");
        assert!(once.starts_with("[user]\nmind this"));
        let twice = written(&messages, 6_000);
        assert_eq!(
            twice.matches(&long).count(),
            1,
            "the user's words are whole"
        );
        for limit in [0, 10, 500, 1_000] {
            assert!(written(&messages, limit).len() <= limit);
        }
    }

    #[test]
    fn a_record_is_shown_as_the_golden_text() {
        let record = SummaryRecord {
            version: VERSION,
            summary: "A file was written.".to_owned(),
            open: "It is not tested.".to_owned(),
            said: vec!["write it".to_owned(), "test it".to_owned()],
            orders: Vec::new(),
            pending: Vec::new(),
            aim: None,
        };
        assert_eq!(VERSION, 1, "a new version brings a new golden file");
        assert_eq!(shown(&record), include_str!("../../tests/it/shown.v1.txt"));
    }

    #[test]
    fn an_answer_without_marks_is_all_summary() {
        assert_eq!(
            read("ah <summary>\nA\n</summary> <open>B</open>"),
            ("A".to_owned(), "B".to_owned())
        );
        assert_eq!(read(" plain "), ("plain".to_owned(), String::new()));
        assert_eq!(
            read("<summary>cut of"),
            ("cut of".to_owned(), String::new())
        );
    }
}
