//! SQL of `session_numbers`: what names sessions inside the database. A number is given once and never again, also when
//! its session is gone: what belonged to it is removed later, by its number.

use rusqlite::Connection;

use super::Cx;
use crate::rules::sums::{Sum, last};

/// The next number.
pub(super) fn next(cx: &mut Cx<'_>) -> rusqlite::Result<i64> {
    let given = match cx.warm.last_number() {
        Some(given) => given,
        None => {
            let sql = "SELECT last FROM session_numbers";
            let mut statement = cx.conn.prepare_cached(sql)?;
            let stored: i64 = statement.query_row([], |row| row.get(0))?;
            // Those of the transaction under way are written at its end.
            stored.max(last(cx.talk.sums()).unwrap_or(0))
        }
    };
    let next = given + 1;
    cx.warm.numbered(next);
    cx.talk.add(Sum::Numbered(next));
    Ok(next)
}

/// Writes the last that was given.
pub(super) fn keep(conn: &Connection, last: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE session_numbers SET last = ?1";
    conn.prepare_cached(sql)?.execute([last]).map(|_| ())
}
