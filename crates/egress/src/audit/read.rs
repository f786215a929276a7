//! What stands in the audit, in order. It must never change anything.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::chain::{AuditError, Entry};
use super::control::Control;
use super::record::Record;

/// Records behind place `after`, oldest first, at most `most`, each with its place. Marks of retention are left
/// out, so fewer than `most` may come although there are more behind the last: the place of the last that was
/// looked at comes with them.
///
/// # Errors
/// [`AuditError`]; there is no audit before the egress process has run once.
pub fn read(path: &Path, after: u64, most: u32) -> Result<(Vec<(u64, Record)>, u64), AuditError> {
    entries(path, after, most, |entry| match entry {
        Entry::Egress(record) => Some(*record),
        Entry::Control(_) | Entry::Retention { .. } => None,
    })
}

/// Actions behind place `after`, oldest first, at most `most`, each with its place; and the last place that was
/// looked at.
///
/// # Errors
/// [`AuditError`].
pub fn read_control(
    path: &Path,
    after: u64,
    most: u32,
) -> Result<(Vec<(u64, Control)>, u64), AuditError> {
    entries(path, after, most, |entry| match entry {
        Entry::Control(control) => Some(*control),
        Entry::Egress(_) | Entry::Retention { .. } => None,
    })
}

/// What `of` makes of the entries behind `after`.
fn entries<T>(
    path: &Path,
    after: u64,
    most: u32,
    of: fn(Entry) -> Option<T>,
) -> Result<(Vec<(u64, T)>, u64), AuditError> {
    let conn = open_to_read(path)?;
    let mut statement =
        conn.prepare("SELECT seq, body FROM records WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = statement.query((after.cast_signed(), most))?;
    let (mut found, mut last) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        last = row.get::<_, i64>(0)?.cast_unsigned();
        let entry = serde_json::from_str(row.get_ref(1)?.as_str().unwrap_or_default())?;
        found.extend(of(entry).map(|one| (last, one)));
    }
    Ok((found, last))
}

/// The database, to look at. What it is kept in beside may have to be written for that; the records never are.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, AuditError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}
