//! What the dialects' readers share: how an answer is put together from pieces. No IO.

use serde_json::Value;

use crate::limits::REPLY_BLOCKS;
use crate::request::Delta;
use crate::transcript::{Block, Reply, Usage};
use crate::{Dialect, Sink};

/// Whether the answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More must come.
    More,
    /// The provider said that this was all.
    Done,
}

/// What an answer's reader can object to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Not of the dialect.
    Garbage(String),
    /// A bound was broken.
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The provider reported an error inside the stream.
    Provider {
        /// Its `code` and its `type`, either of them possibly empty.
        kinds: [String; 2],
        /// Its words.
        message: String,
    },
}

/// A block that is not complete yet.
#[derive(Debug)]
pub(crate) enum Building {
    Text(String),
    Thinking {
        text: String,
        signature: String,
    },
    Redacted(String),
    Reasoning(Value),
    Tool {
        id: String,
        name: String,
        json: String,
        initial: Value,
    },
    Opaque {
        raw: Value,
        json: String,
    },
}

/// The blocks of an answer while they come.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    list: Vec<Building>,
}

impl Blocks {
    /// Begins a block and tells the sink.
    pub(crate) fn start(&mut self, block: Building, sink: Sink<'_>) -> Result<usize, Trouble> {
        let index = self.list.len();
        if index >= REPLY_BLOCKS {
            return Err(Trouble::TooLarge {
                what: "blocks",
                limit: REPLY_BLOCKS,
            });
        }
        match &block {
            Building::Text(_) => sink(Delta::TextStart { index }),
            Building::Thinking { .. } | Building::Reasoning(_) => {
                sink(Delta::ThinkingStart { index });
            }
            Building::Tool { id, name, .. } => {
                sink(Delta::ToolStart {
                    index,
                    id: id.clone(),
                    name: name.clone(),
                });
            }
            Building::Redacted(_) | Building::Opaque { .. } => {}
        }
        self.list.push(block);
        Ok(index)
    }

    /// The block at `index`.
    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Building> {
        self.list.get_mut(index)
    }

    /// Appends to a text block; empty pieces are dropped.
    pub(crate) fn text(&mut self, index: usize, piece: &str, sink: Sink<'_>) {
        if let (Some(Building::Text(text)), false) = (self.list.get_mut(index), piece.is_empty()) {
            text.push_str(piece);
            sink(Delta::Text {
                index,
                text: piece.to_owned(),
            });
        }
    }

    /// Appends to a thinking block; empty pieces are dropped.
    pub(crate) fn thinking(&mut self, index: usize, piece: &str, sink: Sink<'_>) {
        if let (Some(Building::Thinking { text, .. }), false) =
            (self.list.get_mut(index), piece.is_empty())
        {
            text.push_str(piece);
            sink(Delta::Thinking {
                index,
                text: piece.to_owned(),
            });
        }
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> u64 {
        self.list.len() as u64
    }

    /// Whether any block is a tool call.
    pub(crate) fn has_calls(&self) -> bool {
        self.list.iter().any(|b| matches!(b, Building::Tool { .. }))
    }

    /// The finished blocks. Tool inputs that do not parse are kept as JSON strings: such a call is answered
    /// with an error result, and nothing the model said is lost. `cut` says that the model was stopped: a
    /// last call without arguments had no time for them and does not mean an empty object.
    pub(crate) fn finish(mut self, dialect: Dialect, cut: bool) -> Vec<Block> {
        if let (true, Some(Building::Tool { json, initial, .. })) = (cut, self.list.last_mut())
            && json.trim().is_empty()
            && initial.as_object().is_none_or(serde_json::Map::is_empty)
        {
            *initial = Value::String(std::mem::take(json));
        }
        self.list
            .into_iter()
            .map(|block| match block {
                Building::Text(text) => Block::Text { text },
                Building::Thinking { text, signature } => Block::Thinking {
                    text,
                    signature: Some(signature).filter(|s| !s.is_empty()),
                },
                Building::Redacted(data) => Block::RedactedThinking { data },
                Building::Reasoning(raw) => Block::Reasoning { dialect, raw },
                Building::Tool {
                    id,
                    name,
                    json,
                    initial,
                } => Block::ToolUse {
                    id,
                    name,
                    input: tool_input(json, initial),
                },
                Building::Opaque { mut raw, json } => {
                    if let (Some(map), false) = (raw.as_object_mut(), json.trim().is_empty()) {
                        map.insert("input".to_owned(), tool_input(json, Value::Null));
                    }
                    Block::Opaque { dialect, raw }
                }
            })
            .collect()
    }
}

fn tool_input(json: String, initial: Value) -> Value {
    if json.trim().is_empty() {
        let empty = || Value::Object(serde_json::Map::new());
        return if initial.is_null() { empty() } else { initial };
    }
    serde_json::from_str(&json).unwrap_or(Value::String(json))
}

/// A reader of one dialect's stream.
pub(crate) trait Reader: Send {
    /// Takes one event.
    fn event(&mut self, event: &crate::sse::Event, sink: Sink<'_>) -> Result<Flow, Trouble>;
    /// Usage as far as it is known.
    fn usage(&self) -> Usage;
    /// The whole answer; `model` is the id that was asked for. `None` when the end was never seen.
    fn finish(self: Box<Self>, model: &str) -> Option<Reply>;
}

/// An id for a call whose provider gave none: unique in the transcript because the answer's id is.
pub(crate) fn made_id(answer: &str, number: u64) -> String {
    let answer: String = answer
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    format!("call_{answer}_{number}")
}

/// Text of a field, empty when absent or not a string.
pub(crate) fn str_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
