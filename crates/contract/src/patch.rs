//! Three-state fields of update requests: absent keeps, null clears, a value replaces (api.md §1.5).

use serde::{Deserialize, Deserializer};

/// What an update says about one field. Use with `#[serde(default)]`, so that a missing key is `Absent`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// The key was not sent.
    #[default]
    Absent,
    /// The key was sent as JSON null.
    Null,
    /// The key was sent with a value.
    Value(T),
}

impl<T> Patch<T> {
    /// The field after the update: what stood there, nothing, or the new value.
    pub fn apply(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Absent => current,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    /// True if the key was not sent.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match Option::<T>::deserialize(d)? {
            None => Self::Null,
            Some(value) => Self::Value(value),
        })
    }
}

/// For an optional field that may be left out but not be null: with
/// `#[serde(default, deserialize_with = "present")]`, null is refused as any other wrong type.
///
/// # Errors
/// The value does not have the type.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// For a field that must be there and may be null: with `#[serde(deserialize_with = "nullable")]`, a missing
/// key is refused.
///
/// # Errors
/// The value does not have the type.
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(d)
}
