//! Columns to types. A value that cannot be understood is an error of the row, never a guess.

use std::str::FromStr;
use std::sync::Arc;

use contract::ids::{EventId, ThreadId};
use contract::time::Micros;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use session::Status;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::fault::{Failed, Read};
use crate::rules::status_named;

fn bad<E: Into<crate::error::Cause>>(at: usize, error: E) -> Failed {
    Failed::Bad(format!("column {at}: {}", error.into()).into())
}

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Read<T> {
    Ok(row.try_get(at)?)
}

/// A type that reads itself from text: ids.
pub(super) fn text<T>(row: &Row, at: usize) -> Read<T>
where
    T: FromStr,
    T::Err: Into<crate::error::Cause>,
{
    get::<&str>(row, at)?.parse().map_err(|e| bad(at, e))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row, at: usize) -> Read<T> {
    serde_json::from_str(get(row, at)?).map_err(|e| bad(at, e))
}

pub(super) fn json_opt<T: DeserializeOwned>(row: &Row, at: usize) -> Read<Option<T>> {
    let text = get::<Option<&str>>(row, at)?;
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|e| bad(at, e))
}

/// JSON that somebody else reads.
pub(super) fn json_with<T>(
    row: &Row,
    at: usize,
    read: impl FnOnce(&str) -> Result<T, serde_json::Error>,
) -> Read<T> {
    read(get(row, at)?).map_err(|e| bad(at, e))
}

pub(super) fn raw(row: &Row, at: usize) -> Read<Box<RawValue>> {
    RawValue::from_string(get(row, at)?).map_err(|e| bad(at, e))
}

pub(super) fn raw_opt(row: &Row, at: usize) -> Read<Option<Box<RawValue>>> {
    let text = get::<Option<String>>(row, at)?;
    text.map(RawValue::from_string)
        .transpose()
        .map_err(|e| bad(at, e))
}

pub(super) fn shared(row: &Row, at: usize) -> Read<Arc<str>> {
    Ok(Arc::from(get::<&str>(row, at)?))
}

pub(super) fn micros(row: &Row, at: usize) -> Read<Micros> {
    get(row, at).map(Micros)
}

pub(super) fn micros_opt(row: &Row, at: usize) -> Read<Option<Micros>> {
    Ok(get::<Option<i64>>(row, at)?.map(Micros))
}

pub(super) fn number(row: &Row, at: usize) -> Read<u64> {
    u64::try_from(get::<i64>(row, at)?).map_err(|e| bad(at, e))
}

/// A version, a revision, a count of few.
pub(super) fn small(row: &Row, at: usize) -> Read<u32> {
    u32::try_from(get::<i64>(row, at)?).map_err(|e| bad(at, e))
}

pub(super) fn bytes<const N: usize>(row: &Row, at: usize) -> Read<[u8; N]> {
    <[u8; N]>::try_from(get::<&[u8]>(row, at)?).map_err(|e| bad(at, e))
}

pub(super) fn event_id(row: &Row, at: usize) -> Read<EventId> {
    let bits = u128::from_be_bytes(bytes(row, at)?);
    Ok(EventId::from_bits(bits))
}

pub(super) fn thread_id(row: &Row, at: usize) -> Read<ThreadId> {
    let bits = u128::from_be_bytes(bytes(row, at)?);
    Ok(ThreadId::from_bits(bits))
}

pub(super) fn status(row: &Row, at: usize) -> Read<Status> {
    let name = get::<&str>(row, at)?;
    status_named(name).map_err(|why| bad(at, why))
}

/// A value that has no meaning here.
pub(super) fn unreadable(at: usize, what: &str) -> Failed {
    bad(at, what.to_owned())
}

/// All rows as `read` understands them.
pub(super) fn each<T>(rows: &[Row], read: impl Fn(&Row) -> Read<T>) -> Read<Vec<T>> {
    rows.iter().map(read).collect()
}
