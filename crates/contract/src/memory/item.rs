//! Memories (api.md §17.2): requests, the object, the two conflicts, and the rules for paths and contents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorKind};
use crate::ids::{MemoryId, MemoryStoreId, MemoryVersionId};
use crate::limits::{MEMORY_BYTES, MEMORY_PATH, MEMORY_SEGMENTS};
use crate::parse::{Invalid, tagged};
use crate::patch::{nullable, present};
use crate::schema::constants;
use crate::time::Micros;

constants! {
    MemoryTag = Memory;
    MemoryPrefixTag = MemoryPrefix;
    PathConflictTag = MemoryPathConflictError;
    PreconditionFailedTag = MemoryPreconditionFailedError;
}

/// Body of `POST /v1/memory_stores/{id}/memories`. [`CreateMemory::check`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMemory {
    /// Null is the same as empty.
    #[serde(deserialize_with = "nullable")]
    #[schemars(schema_with = "crate::schema::nullable::<String>", required)]
    pub content: Option<String>,
    /// Where it is; free in its store.
    pub path: String,
}

/// Body of `POST /v1/memory_stores/{id}/memories/{memory_id}`. [`UpdateMemory::check`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMemory {
    /// Absent and null keep it.
    #[serde(default)]
    pub content: Option<String>,
    /// Absent and null keep it; another one renames the memory.
    #[serde(default)]
    pub path: Option<String>,
    /// What the memory has to be for the update to happen.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Precondition")]
    pub precondition: Option<Precondition>,
}

/// What a memory has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Its content has this digest.
    ContentSha256(Sha256),
}

tagged!(Precondition { "content_sha256" => ContentSha256(Sha256) });

/// The digest of a content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sha256 {
    /// 64 digits in lower case; absent: whatever it is.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub content_sha256: Option<String>,
}

/// How much of a memory an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// All but the content.
    Basic,
    /// The content too.
    Full,
}

/// A memory as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §17.2
pub struct Memory {
    pub id: MemoryId,
    #[serde(rename = "type")]
    pub kind: MemoryTag,
    pub memory_store_id: MemoryStoreId,
    /// The version that it is now.
    pub memory_version_id: MemoryVersionId,
    pub path: String,
    /// Null in the basic view.
    pub content: Option<String>,
    pub content_sha256: String,
    pub content_size_bytes: u64,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// A folder in a list that goes one level deep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemoryPrefix {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: MemoryPrefixTag,
    /// With a slash at its end.
    pub path: String,
}

/// An item of a list of memories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum MemoryItem {
    /// A memory.
    Memory(Box<Memory>),
    /// A folder.
    Prefix(MemoryPrefix),
}

/// 409: another memory has the path. It is an error's object: what stands under `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct MemoryPathConflict {
    #[serde(rename = "type")]
    pub kind: PathConflictTag,
    pub message: String,
    pub conflicting_memory_id: MemoryId,
    pub conflicting_path: String,
}

/// 409: the memory is not what the request takes it for. It is an error's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct MemoryPreconditionFailed {
    #[serde(rename = "type")]
    pub kind: PreconditionFailedTag,
    pub message: String,
}

impl MemoryPathConflict {
    /// The memory that has the path.
    #[must_use]
    pub fn with(id: MemoryId, path: &str) -> Self {
        Self {
            kind: PathConflictTag::default(),
            message: "Another memory has this path; update that one, or choose another path."
                .to_owned(),
            conflicting_memory_id: id,
            conflicting_path: path.to_owned(),
        }
    }
}

impl Default for MemoryPreconditionFailed {
    fn default() -> Self {
        Self {
            kind: PreconditionFailedTag::default(),
            message: "The memory's content has changed; read it again and repeat the request."
                .to_owned(),
        }
    }
}

impl From<MemoryPathConflict> for ApiError {
    fn from(conflict: MemoryPathConflict) -> Self {
        let id = conflict.conflicting_memory_id.to_string();
        Self::new(ErrorKind::MemoryPathConflict, conflict.message)
            .beside("conflicting_memory_id", id)
            .beside("conflicting_path", conflict.conflicting_path)
    }
}

impl From<MemoryPreconditionFailed> for ApiError {
    fn from(failed: MemoryPreconditionFailed) -> Self {
        Self::new(ErrorKind::MemoryPreconditionFailed, failed.message)
    }
}

impl CreateMemory {
    /// Checks every rule that does not need the store.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn check(&self) -> Result<(), Invalid> {
        check_path(&self.path)?;
        check_content(self.content.as_deref().unwrap_or_default())
    }
}

impl UpdateMemory {
    /// Checks every rule that does not need the memory.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn check(&self) -> Result<(), Invalid> {
        self.path.as_deref().map_or(Ok(()), check_path)?;
        self.content.as_deref().map_or(Ok(()), check_content)?;
        match &self.precondition {
            Some(Precondition::ContentSha256(Sha256 {
                content_sha256: Some(digest),
            })) if !is_sha256(digest) => Err(Invalid::at(
                "precondition.content_sha256",
                "must be 64 hexadecimal digits in lower case",
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a text is a digest as memories show it.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(digit)
}

/// A content is at most 102,400 bytes.
///
/// # Errors
/// It is more.
pub fn check_content(content: &str) -> Result<(), Invalid> {
    let length = content.len();
    if length > MEMORY_BYTES {
        let problem = format!("has {length} bytes; at most {MEMORY_BYTES} are allowed");
        return Err(Invalid::at("content", problem));
    }
    Ok(())
}

/// The rules for the path of a memory: `/projects/notes.md`.
///
/// # Errors
/// The first rule that is broken.
pub fn check_path(path: &str) -> Result<(), Invalid> {
    check_segments("path", path, path.strip_prefix('/'))
}

/// The rules for the `path_prefix` of a list: a folder with its slash, `/` for all.
///
/// # Errors
/// The first rule that is broken.
pub fn check_prefix(prefix: &str) -> Result<(), Invalid> {
    if prefix == "/" {
        return Ok(());
    }
    let Some(folder) = prefix.strip_suffix('/') else {
        return Err(Invalid::at("path_prefix", "must end with `/`"));
    };
    check_segments("path_prefix", folder, folder.strip_prefix('/'))
}

fn check_segments(field: &str, path: &str, segments: Option<&str>) -> Result<(), Invalid> {
    let bad = |problem: String| Err(Invalid::at(field, problem));
    let Some(segments) = segments else {
        return bad("must start with `/`".to_owned());
    };
    if path.len() > MEMORY_PATH {
        let length = path.len();
        return bad(format!(
            "has {length} bytes; at most {MEMORY_PATH} are allowed"
        ));
    }
    let mut count = 0;
    for segment in segments.split('/') {
        count += 1;
        if matches!(segment, "" | "." | "..") {
            return bad("must not have a segment that is empty, `.` or `..`".to_owned());
        }
    }
    if count > MEMORY_SEGMENTS {
        return bad(format!(
            "has {count} segments; at most {MEMORY_SEGMENTS} are allowed"
        ));
    }
    if path.chars().any(|c| c.is_control() || is_format(c)) {
        return bad("must not contain control or format characters".to_owned());
    }
    if !unicode_normalization::is_nfc(path) {
        return bad("must be in Unicode's normal form C".to_owned());
    }
    Ok(())
}

/// Unicode 16, category Cf, and the two separators of lines and paragraphs: what nobody sees in a path.
fn is_format(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x180e
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x2064 | 0x2066..=0x206f | 0xfeff
        | 0xfff9..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3
        | 0x1d173..=0x1d17a | 0xe0001 | 0xe0020..=0xe007f)
}
