//! Content blocks of events (api.md §3.9). Which block may stand where is checked in `client_event`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One block of content in an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Plain text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        #[schemars(schema_with = "crate::schema::image_source::<Source>")]
        source: Source,
    },
    /// A document.
    Document {
        /// Where its bytes are.
        source: Source,
        /// What the document is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
        /// Its title.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
    /// A search result that the model may cite.
    SearchResult {
        /// Where it was found.
        source: String,
        /// Its title.
        title: String,
        /// Whether it may be cited.
        citations: Citations,
        /// Its text.
        content: Vec<TextBlock>,
    },
    /// Content withheld by the platform.
    Redacted {},
}

/// The content of a search result: text only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename = "text")]
#[schemars(transform = tagged)]
pub struct TextBlock {
    /// The text.
    pub text: String,
}

// The derive does not know the tag of a struct.
fn tagged(schema: &mut schemars::Schema) {
    *schema = crate::schema::variant("text", schema.clone());
}

/// Whether a search result may be cited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Citations {
    /// True if the model may cite it.
    pub enabled: bool,
}

/// Where the bytes of an image or a document are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// In the event itself.
    Base64 {
        /// The bytes, base64.
        data: String,
        /// Their media type.
        media_type: String,
    },
    /// A text document in the event itself.
    Text {
        /// The text.
        data: String,
        /// `text/plain`.
        media_type: String,
    },
    /// Behind a URL that the provider fetches.
    Url {
        /// The URL.
        url: String,
    },
    /// In the Files API.
    File {
        /// The file.
        file_id: String,
    },
}

impl Block {
    /// A text block.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// Bytes of its contents, without names and quotes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Text { text } => text.len(),
            Self::Image { source } => source.bytes(),
            Self::Document {
                source,
                context,
                title,
            } => source.bytes() + of(context) + of(title),
            Self::SearchResult {
                source,
                title,
                content,
                ..
            } => {
                let texts = content.iter().map(|block| block.text.len()).sum::<usize>();
                source.len() + title.len() + texts
            }
            Self::Redacted {} => 0,
        }
    }
}

impl Source {
    fn bytes(&self) -> usize {
        match self {
            Self::Base64 { data, .. } | Self::Text { data, .. } => data.len(),
            Self::Url { url } => url.len(),
            Self::File { file_id } => file_id.len(),
        }
    }
}
