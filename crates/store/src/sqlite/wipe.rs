//! Writes that leave nothing readable behind: what they replace or delete is overwritten in the database, and
//! the log that still has it is emptied soon after the commit.

use rusqlite::Connection;

use super::{Cx, Told};
use crate::rules::told::Note;

/// Runs `work` with whatever it frees overwritten, whole pages included.
pub(super) fn wiping<T>(cx: &mut Cx<'_>, work: impl FnOnce(&mut Cx<'_>) -> Told<T>) -> Told<T> {
    thorough(cx.conn, "ON")?;
    let done = work(cx);
    thorough(cx.conn, USUAL)?;
    cx.tell(Note::Wiped);
    done
}

/// Freed room inside a page is overwritten always: that costs no write more. Freed pages are not.
const USUAL: &str = "FAST";

/// As a connection begins.
pub(super) fn usual(conn: &Connection) -> rusqlite::Result<()> {
    thorough(conn, USUAL)
}

/// Not a cached statement: this one takes effect while it is prepared.
fn thorough(conn: &Connection, how: &str) -> rusqlite::Result<()> {
    conn.query_row(&format!("PRAGMA secure_delete = {how}"), [], |_| Ok(()))
}
