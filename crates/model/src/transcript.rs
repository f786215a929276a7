//! The neutral transcript: what is said to a model and what it said. It is stored privately and replayed
//! exactly, so its serde shape is a storage format and must never change meaning.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Dialect;

/// One entry of a transcript. Consecutive [`Message::User`]s are legal here; a dialect merges them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", content = "content", rename_all = "snake_case")]
pub enum Message {
    /// What users, tools and the platform said.
    User(Vec<UserBlock>),
    /// What the application says to the model beside its user: texts. Never first.
    System(Vec<String>),
    /// What the model said, in its order.
    Assistant(Vec<Block>),
}

/// One block that is said to the model. Empty texts are legal here and are left out on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum UserBlock {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: Source,
    },
    /// A document: PDF or plain text.
    Document {
        /// Where its bytes are.
        source: Source,
        /// A name for the model, e.g. the file's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// What the document is, in the sender's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// The outcome of a tool call; it answers the [`Block::ToolUse`] of the same id.
    ToolResult {
        /// Id of the call.
        tool_use_id: String,
        /// What the tool said. May be empty.
        content: Vec<ResultBlock>,
        /// Whether the tool failed.
        #[serde(default)]
        is_error: bool,
    },
}

/// One block of a tool's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResultBlock {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: Source,
    },
    /// A document.
    Document {
        /// Where its bytes are.
        source: Source,
        /// A name for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        /// What the document is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
    },
    /// One hit of a search, citable.
    SearchResult {
        /// Where it was found, e.g. a URL.
        source: String,
        /// Its title.
        title: String,
        /// Its texts.
        content: Vec<String>,
        /// Whether the model may cite it.
        #[serde(default)]
        citations: bool,
    },
}

/// Where the bytes of an image or a document are. Stored files are resolved before they come here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// Inline, standard base64.
    Base64 {
        /// e.g. `image/png`.
        media_type: String,
        /// The bytes.
        data: String,
    },
    /// Inline plain text (documents only).
    Text {
        /// The text.
        data: String,
    },
    /// Fetched by the provider, never by us.
    Url {
        /// An https URL.
        url: String,
    },
}

/// One block that the model said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Words for the user.
    Text {
        /// The text; may be empty in a stored reply, then it is not replayed.
        text: String,
    },
    /// The model's thinking, replayed verbatim with its signature to the dialect that signed it.
    Thinking {
        /// The thinking, possibly empty when the provider keeps it.
        text: String,
        /// The provider's proof. `None` when the dialect has none; then it is never replayed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// Thinking that the provider encrypted; replayed verbatim.
    RedactedThinking {
        /// The provider's ciphertext.
        data: String,
    },
    /// Thinking that goes back to the dialect it came in, in that dialect's own shape, and to no other.
    Reasoning {
        /// The dialect it came in.
        dialect: Dialect,
        /// OpenAI Responses: the item, with its id and what the provider encrypted. OpenAI Chat: the fields
        /// of the assistant message that carried it.
        raw: Value,
    },
    /// A wish to run a tool.
    ToolUse {
        /// The call's id, unique in the reply; made by us when the provider gave none.
        id: String,
        /// The tool's name as it was offered.
        name: String,
        /// Its arguments. Normally an object; what could not be parsed is kept as a JSON string.
        input: Value,
    },
    /// A provider's own block that we do not know; replayed verbatim to the same dialect, else left out.
    Opaque {
        /// The dialect it came in.
        dialect: Dialect,
        /// The block as it came.
        raw: Value,
    },
}

/// Tokens of one model request, as the provider counted them. Kinds do not overlap: `input` excludes
/// what was read from or written to the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens neither read from nor written to the cache.
    pub input: u64,
    /// Output tokens, thinking included.
    pub output: u64,
    /// Input tokens read from the cache.
    pub cache_read: u64,
    /// Input tokens written to the 5-minute cache.
    pub cache_creation_5m: u64,
    /// Input tokens written to the 1-hour cache.
    pub cache_creation_1h: u64,
}

impl Usage {
    /// Everything that was sent: input, cache reads and cache writes. Saturates.
    #[must_use]
    pub fn total_input(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_creation_5m)
            .saturating_add(self.cache_creation_1h)
    }

    /// Kind by kind sum. Saturates: counts come from outside.
    #[must_use]
    pub fn plus(&self, other: &Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_creation_5m: self
                .cache_creation_5m
                .saturating_add(other.cache_creation_5m),
            cache_creation_1h: self
                .cache_creation_1h
                .saturating_add(other.cache_creation_1h),
        }
    }
}

/// Why the model stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Stop {
    /// It said all it wanted to.
    EndTurn,
    /// It waits for the outcome of its tool calls. Also set when a reply holds calls and the provider
    /// named an ordinary end.
    ToolUse,
    /// The output limit was reached; a tool call at the end may be incomplete (its input a JSON string).
    MaxTokens,
    /// The provider ran out of context window.
    ContextWindow,
    /// A stop sequence was met.
    StopSequence,
    /// The provider or the model refused.
    Refusal {
        /// The provider's category, when it names one.
        category: Option<String>,
        /// The provider's words, when it has any.
        explanation: Option<String>,
    },
    /// The provider paused a long turn; send the transcript back to go on.
    Pause,
    /// A reason that we do not know.
    Other {
        /// As the provider spelt it.
        reason: String,
    },
}

impl Stop {
    /// Whether the model was stopped before it had said what it wanted, perhaps in the middle of a call.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Stop::EndTurn | Stop::ToolUse | Stop::StopSequence => false,
            Stop::MaxTokens
            | Stop::ContextWindow
            | Stop::Refusal { .. }
            | Stop::Pause
            | Stop::Other { .. } => true,
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What the model said, in order. May be empty.
    pub blocks: Vec<Block>,
    /// Why it stopped.
    pub stop: Stop,
    /// What it cost.
    pub usage: Usage,
    /// The model's id as the provider named it; the id that was asked for when it named none.
    pub model: String,
}
