//! Files (api.md §13): the form of an upload and the object. Bytes never come here, and no name is trusted
//! with a path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{FileId, SessionId};
use crate::limits::{FILE_EXPIRY, FILE_NAME};
use crate::parse::Invalid;
use crate::query::Pairs;
use crate::schema::constants;
use crate::time::Micros;

constants! { FileTag = File; }

/// A file as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §13
pub struct File {
    pub id: FileId,
    #[serde(rename = "type")]
    pub kind: FileTag,
    pub filename: String,
    pub mime_type: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Whether its content may be fetched: only what a session made.
    pub downloadable: bool,
    /// Absent: to whom it belongs is the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<FileScope>,
    pub created_at: Micros,
    /// Null: never.
    pub expires_at: Option<Micros>,
}

/// What a file belongs to, and is deleted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FileScope {
    /// A session.
    Session {
        /// Which.
        id: SessionId,
    },
}

/// The text parts of `POST /v1/files`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadFile {
    /// Seconds until it expires; `None`: never.
    pub expires_in_seconds: Option<u32>,
}

impl UploadFile {
    /// The part that holds the file.
    pub const FILE: &str = "file";

    /// Reads the text parts: name and content.
    ///
    /// # Errors
    /// An unknown part, one that stands twice, a number out of its bounds; the path is the part's name.
    pub fn parse(parts: Vec<(String, String)>) -> Result<Self, Invalid> {
        let mut parts = Pairs::form(parts);
        let expires_in_seconds = parts.number("expires_in_seconds", FILE_EXPIRY)?;
        parts.finish()?;
        Ok(Self { expires_in_seconds })
    }
}

/// The name of an uploaded file: the last component of what the client says, or `unnamed` and the extension
/// of its media type.
///
/// # Errors
/// A name of more than 255 characters, or one that some file system would not take; the path is `file`.
pub fn name(sent: Option<&str>, mime_type: &str) -> Result<String, Invalid> {
    let last = sent.and_then(|sent| sent.rsplit(['/', '\\']).next());
    let Some(name) = last.filter(|last| !matches!(*last, "" | "." | "..")) else {
        return Ok(format!("unnamed{}", extension(mime_type)));
    };
    let length = name.chars().count();
    if length > FILE_NAME {
        let problem = format!("its name has {length} characters; at most {FILE_NAME} are allowed");
        return Err(Invalid::at(UploadFile::FILE, problem));
    }
    let bad = |c: char| c.is_control() || matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*');
    if name.chars().any(bad) {
        let problem = "its name must not contain control characters or any of < > : \" | ? *";
        return Err(Invalid::at(UploadFile::FILE, problem));
    }
    Ok(name.to_owned())
}

/// With its dot; empty for a type that is not well known.
fn extension(mime_type: &str) -> &'static str {
    match mime_type.split(';').next().unwrap_or_default().trim() {
        "text/plain" => ".txt",
        "text/csv" => ".csv",
        "text/html" => ".html",
        "text/markdown" => ".md",
        "application/json" => ".json",
        "application/pdf" => ".pdf",
        "application/zip" => ".zip",
        "image/png" => ".png",
        "image/jpeg" => ".jpg",
        "image/gif" => ".gif",
        "image/webp" => ".webp",
        _ => "",
    }
}
