//! Files that the hand puts together, from what it is sent and what lies there already.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::PACKS;

/// A file that is put together from parts. A symlink of its name is replaced, not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Composed {
    /// Of the file.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it, in order.
    pub parts: Vec<Part>,
}

/// One part of a [`Composed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// Those bytes.
    Packed {
        /// In base64: a list of numbers takes a hand, which has just begun, longer to read than the files to write.
        base64: String,
    },
    /// The same to a hand before [`PACKS`].
    Bytes {
        /// Few: they come as numbers.
        bytes: Vec<u8>,
    },
    /// What another file has, as much as is there.
    File {
        /// Of the other file.
        path: String,
        /// The first byte that is taken.
        from: u64,
        /// Bytes that are taken at most.
        length: u64,
    },
}

impl Part {
    /// Those bytes, to a hand of that version.
    pub fn of(bytes: &[u8], version: u32) -> Self {
        if version < PACKS {
            return Self::Bytes {
                bytes: bytes.to_vec(),
            };
        }
        Self::Packed {
            base64: STANDARD.encode(bytes),
        }
    }
}
