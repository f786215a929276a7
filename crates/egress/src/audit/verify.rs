//! The proof that a chain is whole, in one pass and bounded memory. It must never repair.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::chain::{AuditError, Ends, Entry, Head, ends, hex, next};

/// A chain that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records that are there.
    pub records: u64,
    /// Its end: keep it elsewhere, and give it to the next [`verify`].
    pub head: Head,
}

/// The first thing that is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A record was removed, or put elsewhere.
    #[error("record {expected} is missing; {found} stands in its place")]
    Missing {
        /// The place that should follow.
        expected: u64,
        /// The place that does.
        found: u64,
    },
    /// A record, its place or its hash was changed.
    #[error("record {seq} is not what was written")]
    Changed {
        /// Its place.
        seq: u64,
    },
    /// Records at the end were removed.
    #[error("records {from} to {through} are missing at the end")]
    CutOff {
        /// The first missing place.
        from: u64,
        /// The last one.
        through: u64,
    },
    /// Records at the beginning were removed, and no retention did it.
    #[error("records up to {through} were removed, and no retention says so")]
    NotRetention {
        /// The last missing place.
        through: u64,
    },
    /// The chain does not hold what is known from elsewhere.
    #[error("the chain does not contain the head that was kept, at record {seq}")]
    Anchor {
        /// The place that was kept.
        seq: u64,
    },
}

/// Verifies the chain in the database at `path`, which may be in use. `kept` is a head that was noted
/// earlier: the chain must still lead through it, unless retention has removed that place.
///
/// # Errors
/// [`AuditError`] if the database cannot be read; what is wrong with the chain is a [`Finding`].
pub fn verify(path: &Path, kept: Option<Head>) -> Result<Result<Verified, Finding>, AuditError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    // One snapshot for the ends and the records.
    let tx = conn.transaction()?;
    let ends = ends(&tx)?;
    check(&tx, ends, kept)
}

fn check(
    conn: &Connection,
    ends: Ends,
    kept: Option<Head>,
) -> Result<Result<Verified, Finding>, AuditError> {
    let mut at = ends.base;
    let mut is_retention = ends.base.seq == 0;
    let mut anchored = kept.is_none_or(|kept| kept.seq < ends.base.seq || kept == ends.base);
    let mut statement = conn.prepare("SELECT seq, hash, body FROM records ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found = row.get::<_, i64>(0)?.cast_unsigned();
        let expected = at.seq + 1;
        if found != expected {
            return Ok(Err(Finding::Missing { expected, found }));
        }
        let body = row.get_ref(2)?.as_str().unwrap_or_default();
        at = next(at, body);
        if row.get_ref(1)?.as_blob().unwrap_or_default() != at.hash {
            return Ok(Err(Finding::Changed { seq: found }));
        }
        anchored |= kept == Some(at);
        is_retention |= says(body, ends.base);
    }
    let finding = if at.seq < ends.head.seq {
        let (from, through) = (at.seq + 1, ends.head.seq);
        Some(Finding::CutOff { from, through })
    } else if at != ends.head {
        Some(Finding::Changed { seq: ends.head.seq })
    } else if !is_retention {
        let through = ends.base.seq;
        Some(Finding::NotRetention { through })
    } else {
        kept.filter(|_| !anchored)
            .map(|kept| Finding::Anchor { seq: kept.seq })
    };
    Ok(match finding {
        Some(finding) => Err(finding),
        None => Ok(Verified {
            records: at.seq - ends.base.seq,
            head: at,
        }),
    })
}

/// Whether `body` is the record of the retention that ended at `base`.
fn says(body: &str, base: Head) -> bool {
    if !body.starts_with("{\"retention\"") {
        return false;
    }
    match serde_json::from_str(body) {
        Ok(Entry::Retention { through, hash }) => through == base.seq && hash == hex(&base.hash),
        Ok(Entry::Egress(_) | Entry::Control(_)) | Err(_) => false,
    }
}
