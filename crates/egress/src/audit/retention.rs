//! Removal of old records. It must never remove what it has not written down: the removal is a record of the
//! chain itself, in the same transaction.

use std::path::Path;

use contract::time::Micros;
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::chain::{AuditError, Entry, Head, append, body, ends, hex, open, set_end};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Nothing that is older than this instant.
    pub since: Micros,
    /// At most so many records.
    pub records: u64,
}

/// Removes what is beyond `retention` from the database at `path`, which may be in use, and says how many
/// records that were.
///
/// # Errors
/// [`AuditError`]; nothing is removed then.
pub fn trim(path: &Path, retention: Retention) -> Result<u64, AuditError> {
    let mut conn = open(path)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ends = ends(&tx)?;
    // The first record that is young enough; all before it go, whatever their clock said.
    let young: Option<i64> = tx
        .query_row(
            "SELECT seq FROM records WHERE at >= ?1 ORDER BY seq LIMIT 1",
            [retention.since.to_string()],
            |row| row.get(0),
        )
        .optional()?;
    let by_age = young.map_or(ends.head.seq, |seq| seq.cast_unsigned().saturating_sub(1));
    let by_count = ends.head.seq.saturating_sub(retention.records);
    let through = by_age.max(by_count);
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
