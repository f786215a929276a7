//! Owns the words for what changes among a sandbox's files. Data only.

use serde::{Deserialize, Serialize};

/// What changed since it was said last, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// In no order.
    pub changes: Vec<Change>,
    /// Whether there was more than is said: whoever needs to know looks for itself.
    pub more: bool,
}

/// What became of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path; what is no Unicode in it is replaced.
    pub path: String,
    /// What became of it.
    pub change: Changed,
    /// Whether it is a directory.
    pub directory: bool,
}

/// What can become of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// It is there now, and was not.
    Created,
    /// It was written to, or is another file now.
    Written,
    /// It is not there any more.
    Removed,
}
