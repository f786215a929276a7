//! Columns to types and back. A value that cannot be understood is an error of the row, never a guess.

use std::str::FromStr;
use std::sync::Arc;

use contract::ids::{EventId, ThreadId};
use contract::time::Micros;
use rusqlite::Row;
use rusqlite::types::Type;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

fn bad<E: Into<Box<dyn std::error::Error + Send + Sync>>>(at: usize, e: E) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, e.into())
}

/// A value that has no meaning here.
pub(super) fn unreadable(at: usize, what: String) -> rusqlite::Error {
    bad(at, what)
}

/// A type that reads itself from text: ids.
pub(super) fn text<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    row.get_ref(at)?.as_str()?.parse().map_err(|e| bad(at, e))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(at)?.as_str()?).map_err(|e| bad(at, e))
}

pub(super) fn json_opt<T: DeserializeOwned>(
    row: &Row<'_>,
    at: usize,
) -> rusqlite::Result<Option<T>> {
    let text = row.get::<_, Option<String>>(at)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|e| bad(at, e))
}

/// JSON that somebody else reads.
pub(super) fn json_with<T>(
    row: &Row<'_>,
    at: usize,
    read: impl FnOnce(&str) -> Result<T, serde_json::Error>,
) -> rusqlite::Result<T> {
    read(row.get_ref(at)?.as_str()?).map_err(|e| bad(at, e))
}

pub(super) fn raw(row: &Row<'_>, at: usize) -> rusqlite::Result<Box<RawValue>> {
    RawValue::from_string(row.get(at)?).map_err(|e| bad(at, e))
}

pub(super) fn raw_opt(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Box<RawValue>>> {
    let text = row.get::<_, Option<String>>(at)?;
    text.map(RawValue::from_string)
        .transpose()
        .map_err(|e| bad(at, e))
}

pub(super) fn shared(row: &Row<'_>, at: usize) -> rusqlite::Result<Arc<str>> {
    Ok(Arc::from(row.get_ref(at)?.as_str()?))
}

pub(super) fn micros(row: &Row<'_>, at: usize) -> rusqlite::Result<Micros> {
    row.get(at).map(Micros)
}

pub(super) fn micros_opt(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Micros>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Micros))
}

pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let n = row.get::<_, i64>(at)?;
    u64::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, n))
}

fn bits(row: &Row<'_>, at: usize) -> rusqlite::Result<u128> {
    row.get::<_, [u8; 16]>(at).map(u128::from_be_bytes)
}

pub(super) fn event_id(row: &Row<'_>, at: usize) -> rusqlite::Result<EventId> {
    bits(row, at).map(EventId::from_bits)
}

pub(super) fn thread_id(row: &Row<'_>, at: usize) -> rusqlite::Result<ThreadId> {
    bits(row, at).map(ThreadId::from_bits)
}
