//! Metadata bags: at most 16 pairs, changed key by key. It does not know what any key means.

use std::collections::BTreeMap;

use crate::limits::{METADATA_KEY, METADATA_PAIRS, METADATA_VALUE};
use crate::parse::Invalid;
use crate::patch::Patch;

/// A metadata bag.
pub type Metadata = BTreeMap<String, String>;
/// A change of a bag: a text sets, null deletes, an absent key stays.
pub type MetadataPatch = Patch<BTreeMap<String, Option<String>>>;

/// Checks a whole bag; the path of a refusal starts with `metadata`.
///
/// # Errors
/// More than 16 pairs, an empty or over-long key, an over-long value.
pub fn check(bag: &Metadata) -> Result<(), Invalid> {
    if bag.len() > METADATA_PAIRS {
        return Err(Invalid::at(
            "metadata",
            format!(
                "has {} pairs; at most {METADATA_PAIRS} are allowed",
                bag.len()
            ),
        ));
    }
    for (key, value) in bag {
        let length = key.chars().count();
        if length == 0 || length > METADATA_KEY {
            return Err(Invalid::at(
                "metadata",
                format!("a key has {length} characters; 1 to {METADATA_KEY} are allowed"),
            ));
        }
        let length = value.chars().count();
        if length > METADATA_VALUE {
            return Err(Invalid::at(
                format!("metadata.{key}"),
                format!("has {length} characters; at most {METADATA_VALUE} are allowed"),
            ));
        }
    }
    Ok(())
}

/// What an empty text in a patch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// It is stored.
    Keeps,
    /// It deletes the key: environments only (api.md §1.5).
    Deletes,
}

/// Applies a patch; `metadata: null` changes nothing. The limits hold for the result.
///
/// # Errors
/// As [`check`].
pub fn patched(bag: &Metadata, patch: MetadataPatch, empty: Empty) -> Result<Metadata, Invalid> {
    let mut bag = bag.clone();
    if let Patch::Value(changes) = patch {
        for (key, change) in changes {
            match change {
                Some(value) if !(value.is_empty() && empty == Empty::Deletes) => {
                    bag.insert(key, value);
                }
                _ => {
                    bag.remove(&key);
                }
            }
        }
    }
    check(&bag)?;
    Ok(bag)
}
