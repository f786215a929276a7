//! The two events that only streams have (api.md §9.10): they announce an event that is still being
//! written. They are never stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::content::TextBlock;
use crate::ids::EventId;

/// A piece of an event that is still being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Preview {
    /// An event begins.
    #[serde(rename = "event_start")]
    Start {
        /// Which.
        event: Previewed,
    },
    /// An event that began goes on.
    #[serde(rename = "event_delta")]
    Delta {
        /// Which.
        event_id: EventId,
        /// What is added.
        delta: Delta,
    },
}

/// The event that begins, under the id that it will be stored with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Previewed {
    /// Its text follows in pieces.
    #[serde(rename = "agent.message")]
    Message {
        /// The event's id.
        id: EventId,
    },
    /// Nothing follows.
    #[serde(rename = "agent.thinking")]
    Thinking {
        /// The event's id.
        id: EventId,
    },
}

/// What is added to an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Delta {
    /// Text at the end of one block of its content.
    ContentDelta {
        /// The text.
        content: TextBlock,
        /// Which block; the next one opens it, none is skipped. Absent: the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<u32>,
    },
}
