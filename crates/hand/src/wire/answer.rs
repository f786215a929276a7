//! Owns what a tool answers. Data only.

use serde::{Deserialize, Serialize};

/// What a tool answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What the model sees.
    pub content: Vec<Content>,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// A part of a tool's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Plain text.
    Text {
        /// The text; may be empty.
        text: String,
    },
    /// An image.
    Image {
        /// E.g. `image/png`.
        media_type: String,
        /// In base64.
        data: String,
    },
    /// A document.
    Document {
        /// `application/pdf`.
        media_type: String,
        /// In base64.
        data: String,
    },
}

impl Output {
    /// A successful answer of one text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![Content::Text { text: text.into() }],
            is_error: false,
        }
    }

    /// A failed answer of one text.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            is_error: true,
            ..Self::text(text)
        }
    }

    /// Says `note` beneath its own words.
    pub fn add(&mut self, note: &str) {
        match self.content.last_mut() {
            Some(Content::Text { text }) if !text.is_empty() => {
                text.push('\n');
                text.push_str(note);
            }
            Some(Content::Text { text }) => note.clone_into(text),
            _ => self.content.push(Content::Text {
                text: note.to_owned(),
            }),
        }
    }
}
