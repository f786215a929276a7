//! Content blocks as a client sends them (api.md §3.9), and which may stand where. Their bytes are
//! passed on unread.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::content::{Block, Citations, Source, TextBlock};
use crate::limits::{BLOCKS, URL};
use crate::parse::{Invalid, tagged};

/// Which blocks an event may hold (api.md §3.9).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Message,
    Result,
    System,
}

/// A block of content in a request.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the types are the contract's, api.md §3.9
pub enum BlockParams {
    Text(TextParams),
    Image(ImageParams),
    Document(DocumentParams),
    SearchResult(SearchResultParams),
    Redacted,
}

tagged!(BlockParams {
    "text" => Text(TextParams),
    "image" => Image(ImageParams),
    "document" => Document(DocumentParams),
    "search_result" => SearchResult(SearchResultParams),
    "redacted" => Redacted,
});

/// A text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct TextParams {
    pub text: String,
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ImageParams {
    #[schemars(schema_with = "crate::schema::image_source::<SourceParams>")]
    pub source: SourceParams,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DocumentParams {
    pub source: SourceParams,
    #[serde(default)]
    pub context: Option<String>,
    #[serde(default)]
    pub title: Option<String>,
}

/// A search result that the model may cite.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SearchResultParams {
    pub source: String,
    pub title: String,
    pub citations: CitationsParams,
    pub content: Vec<SearchText>,
}

/// Whether a search result may be cited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct CitationsParams {
    pub enabled: bool,
}

/// A text in a search result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchText {
    /// The only form.
    Text(TextParams),
}

tagged!(SearchText { "text" => Text(TextParams) });

/// Where bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SourceParams {
    Base64(DataParams),
    Text(DataParams),
    Url(UrlParams),
    File(FileParams),
}

tagged!(SourceParams {
    "base64" => Base64(DataParams),
    "text" => Text(DataParams),
    "url" => Url(UrlParams),
    "file" => File(FileParams),
});

/// Bytes in the event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DataParams {
    pub data: String,
    pub media_type: String,
}

/// Bytes behind a URL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct UrlParams {
    pub url: String,
}

/// Bytes in the Files API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct FileParams {
    pub file_id: String,
}

/// Checks the `content` of an event.
pub(super) fn check_blocks(
    blocks: &[BlockParams],
    place: Place,
    least: usize,
) -> Result<(), Invalid> {
    if blocks.len() < least {
        return Err(Invalid::at("content", "must hold at least one block"));
    }
    check::count("content", blocks.len(), BLOCKS)?;
    for (index, block) in blocks.iter().enumerate() {
        check_block(block, place).map_err(|bad| bad.under_index(index).under("content"))?;
    }
    Ok(())
}

fn check_block(block: &BlockParams, place: Place) -> Result<(), Invalid> {
    let wrong = |allowed: &str| {
        Err(Invalid::at(
            "type",
            format!("not allowed here; allowed: {allowed}"),
        ))
    };
    match (block, place) {
        (BlockParams::Redacted, _) => Err(Invalid::at(
            "type",
            "`redacted` is written by the platform and cannot be sent",
        )),
        (BlockParams::SearchResult(_), Place::Message) => wrong("`text`, `image`, `document`"),
        (
            BlockParams::Image(_) | BlockParams::Document(_) | BlockParams::SearchResult(_),
            Place::System,
        ) => wrong("`text`"),
        // Model providers refuse an empty text in a message; a tool may well say nothing.
        (BlockParams::Text(text), Place::Message | Place::System) if text.text.is_empty() => {
            Err(Invalid::at("text", "must not be empty"))
        }
        (BlockParams::Text(_), _) => Ok(()),
        (BlockParams::Image(image), _) => {
            check_source(&image.source, true).map_err(|bad| bad.under("source"))
        }
        (BlockParams::Document(document), _) => {
            check_source(&document.source, false).map_err(|bad| bad.under("source"))
        }
        (BlockParams::SearchResult(result), Place::Result) => {
            check::length("source", &result.source, 1, URL)?;
            check::length("title", &result.title, 1, URL)?;
            if result.content.is_empty() {
                return Err(Invalid::at("content", "must hold at least one block"));
            }
            check::count("content", result.content.len(), BLOCKS)
        }
    }
}

fn check_source(source: &SourceParams, image: bool) -> Result<(), Invalid> {
    match source {
        SourceParams::Base64(data) => {
            let types: &[&str] = match image {
                true => &["image/png", "image/jpeg", "image/gif", "image/webp"],
                false => &["application/pdf"],
            };
            if !types.contains(&data.media_type.as_str()) {
                return Err(Invalid::at(
                    "media_type",
                    format!("unknown value; allowed: `{}`", types.join("`, `")),
                ));
            }
            if !is_base64(&data.data) {
                return Err(Invalid::at("data", "must be non-empty base64"));
            }
            Ok(())
        }
        SourceParams::Text(_) if image => Err(Invalid::at(
            "type",
            "unknown value; allowed: `base64`, `url`, `file`",
        )),
        SourceParams::Text(data) => {
            if data.media_type != "text/plain" {
                return Err(Invalid::at("media_type", "must be `text/plain`"));
            }
            check::length("data", &data.data, 1, usize::MAX)
        }
        SourceParams::Url(url) => check::url("url", &url.url),
        SourceParams::File(file) => check::length("file_id", &file.file_id, 1, URL),
    }
}

/// Padded base64 of the standard alphabet, at least one byte.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

impl From<BlockParams> for Block {
    fn from(params: BlockParams) -> Self {
        match params {
            BlockParams::Text(text) => Self::Text { text: text.text },
            BlockParams::Image(image) => Self::Image {
                source: image.source.into(),
            },
            BlockParams::Document(document) => Self::Document {
                source: document.source.into(),
                context: document.context,
                title: document.title,
            },
            BlockParams::SearchResult(result) => Self::SearchResult {
                source: result.source,
                title: result.title,
                citations: Citations {
                    enabled: result.citations.enabled,
                },
                content: result
                    .content
                    .into_iter()
                    .map(|SearchText::Text(text)| TextBlock { text: text.text })
                    .collect(),
            },
            BlockParams::Redacted => Self::Redacted {},
        }
    }
}

impl From<SourceParams> for Source {
    fn from(params: SourceParams) -> Self {
        match params {
            SourceParams::Base64(data) => Self::Base64 {
                data: data.data,
                media_type: data.media_type,
            },
            SourceParams::Text(data) => Self::Text {
                data: data.data,
                media_type: data.media_type,
            },
            SourceParams::Url(url) => Self::Url { url: url.url },
            SourceParams::File(file) => Self::File {
                file_id: file.file_id,
            },
        }
    }
}
