//! What is asked of a model and what comes while it answers. Plain values; must never do IO.

use serde_json::Value;

use crate::transcript::Message;

/// One request to a model. The wire bytes are a pure function of this value and the endpoint, and a
/// request whose `messages` extend another's has that other's bytes as its prefix (cache marks aside).
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The agent's model id, before the endpoint's map.
    pub model: String,
    /// The system prompt; empty means none.
    pub system: String,
    /// The tools on offer, in any order: they go out sorted by name.
    pub tools: Vec<ToolSpec>,
    /// The transcript. It must begin with a user message and end with one.
    pub messages: Vec<Message>,
    /// Output limit in tokens.
    pub max_tokens: u32,
    /// How hard the model should try; `None` leaves it to the provider.
    pub effort: Option<Effort>,
    /// Whether the model should think where it can.
    pub thinking: Thinking,
}

/// Whether the model is asked to think before it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// Nothing is said about thinking; the provider's default holds.
    #[default]
    Unset,
    /// The model decides how much (`thinking: {"type":"adaptive"}`). Only dialects that have it send it.
    Adaptive,
}

/// A tool on offer.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name, unique in the request.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its input, an object schema.
    pub input_schema: Value,
}

/// How hard a model should try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Least.
    Low,
    /// Middle.
    Medium,
    /// More.
    High,
    /// Still more; not every model has it.
    Xhigh,
    /// Most.
    Max,
}

impl Effort {
    /// The contract's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::Xhigh => "xhigh",
            Effort::Max => "max",
        }
    }

    /// The level of that name; `None` for any other word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Effort> {
        [
            Effort::Low,
            Effort::Medium,
            Effort::High,
            Effort::Xhigh,
            Effort::Max,
        ]
        .into_iter()
        .find(|e| e.name() == name)
    }
}

/// What arrives while the model answers. `index` counts the blocks of the reply from 0 and equals the
/// block's place in [`crate::Reply::blocks`]. Deltas are a preview: the [`crate::Reply`] is the truth.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The provider accepted the request and began its answer.
    MessageStart,
    /// A text block began.
    TextStart {
        /// Its place.
        index: usize,
    },
    /// More text; never empty.
    Text {
        /// The block's place.
        index: usize,
        /// The piece.
        text: String,
    },
    /// A thinking block began.
    ThinkingStart {
        /// Its place.
        index: usize,
    },
    /// More thinking; never empty.
    Thinking {
        /// The block's place.
        index: usize,
        /// The piece.
        text: String,
    },
    /// A tool call began; its input follows only with the reply.
    ToolStart {
        /// Its place.
        index: usize,
        /// The call's id.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// A block ended.
    BlockEnd {
        /// Its place.
        index: usize,
    },
}
