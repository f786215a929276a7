//! Removal of old records. It must never remove what it has not written down: the removal is a record of the
//! chain itself, in the same transaction.

use std::path::Path;

use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::chain::{AuditError, Ends, Entry, Head, append, body, ends, hex, open, set_end};
use crate::limits;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Nothing that is older than this instant.
    pub since: Micros,
    /// At most so many records.
    pub records: u64,
    /// At most so many bytes, as far as a file tells: what is beyond is removed, and a tenth more.
    pub bytes: u64,
}

/// Removes what is beyond `retention` from the database at `path`, which may be in use, and says how many
/// records that were. Each transaction removes a bounded number: whoever writes waits for one of them at most.
///
/// # Errors
/// [`AuditError`]; what was removed before is written down.
pub fn trim(path: &Path, retention: Retention) -> Result<u64, AuditError> {
    let mut conn = open(path)?;
    let mut removed = 0;
    loop {
        let step = remove_some(&mut conn, retention)?;
        removed += step;
        if step < limits::AUDIT_TRIM {
            return Ok(removed);
        }
    }
}

fn remove_some(conn: &mut Connection, retention: Retention) -> Result<u64, AuditError> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ends = ends(&tx)?;
    let window = ends.base.seq.saturating_add(limits::AUDIT_TRIM);
    let by_age = old(&tx, window, retention.since)?;
    let by_count = ends.head.seq.saturating_sub(retention.records);
    let by_size = beyond(&tx, ends, retention.bytes)?;
    let through = by_age
        .max(by_count)
        .max(by_size)
        .min(window)
        .min(ends.head.seq);
    if through <= ends.base.seq {
        return Ok(0);
    }
    let hash: Vec<u8> = tx.query_row(
        "SELECT hash FROM records WHERE seq = ?1",
        [through.cast_signed()],
        |row| row.get(0),
    )?;
    let base = Head {
        seq: through,
        hash: hash.try_into().map_err(|_| AuditError::Ends)?,
    };
    let entry = Entry::Retention {
        through,
        hash: hex(&base.hash),
    };
    append(&tx, ends.head, &[body(&entry)?])?;
    tx.execute(
        "DELETE FROM records WHERE seq <= ?1",
        params![through.cast_signed()],
    )?;
    set_end(&tx, "base", base)?;
    tx.commit()?;
    Ok(through - ends.base.seq)
}

/// The last record up to `window` that is too old, with all before it, whatever their clock said. A mark of an
/// earlier removal has no age: it goes with what stands behind it.
fn old(tx: &Transaction<'_>, window: u64, since: Micros) -> Result<u64, AuditError> {
    let since = since.to_string();
    let window = window.cast_signed();
    let young: Option<i64> = tx
        .query_row(
            "SELECT seq FROM records WHERE seq <= ?1 AND at >= ?2 ORDER BY seq LIMIT 1",
            params![window, since],
            |row| row.get(0),
        )
        .optional()?;
    let before = young.unwrap_or(window.saturating_add(1));
    let last: Option<i64> = tx.query_row(
        "SELECT max(seq) FROM records WHERE seq < ?1 AND at IS NOT NULL",
        [before],
        |row| row.get(0),
    )?;
    Ok(last.unwrap_or(0).cast_unsigned())
}

/// The last record that has to go so that the rest takes less than `most` bytes, if all were equally long.
fn beyond(tx: &Transaction<'_>, ends: Ends, most: u64) -> Result<u64, AuditError> {
    let number = |name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
    let used = pages.saturating_mul(number("page_size")?).cast_unsigned();
    let count = ends.head.seq.saturating_sub(ends.base.seq);
    if used <= most || count == 0 {
        return Ok(0);
    }
    let each = (used / count).max(1);
    let too_many = used.saturating_sub(most / 10 * 9).div_ceil(each);
    // The last one stays, whatever its size: an empty chain would say nothing.
    Ok(ends.base.seq + too_many.min(count - 1))
}
