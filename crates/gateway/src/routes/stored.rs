//! Between our types and the JSON that the store keeps without looking at it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::Failure;

/// As it is stored.
pub(super) fn write<T: Serialize>(value: &T) -> Result<Box<RawValue>, Failure> {
    to_raw_value(value).map_err(Failure::Encode)
}

/// As it was stored.
pub(super) fn read<T: DeserializeOwned>(what: &'static str, raw: &RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|error| Failure::Stored(what, error))
}
