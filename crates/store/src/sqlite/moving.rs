//! SQL of a move, on the side of the file: every table, read from end to end on one snapshot.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::mpsc::Sender;

use crate::moving::{Cell, PIECE, Table};

fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// How a file keeps what the server has in `sessions`: that is read through a view of its name.
const KEEPS_SESSIONS: &str = "'session_rows', 'grounds', 'session_numbers'";

/// The tables there are, but for what is the file's own.
pub(crate) fn tables(path: &Path) -> rusqlite::Result<Vec<String>> {
    let conn = open(path)?;
    let sql = format!(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
         AND name NOT IN ('migrations', {KEEPS_SESSIONS}) ORDER BY name"
    );
    let mut statement = conn.prepare(&sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Hands over all rows of a table, in the order of its key. Blocks while nobody takes them; ends when nobody will.
pub(crate) fn read(
    path: &Path,
    table: &Table,
    pieces: &Sender<Vec<Vec<Cell>>>,
) -> rusqlite::Result<()> {
    let conn = open(path)?;
    let columns = table
        .columns
        .iter()
        .map(|column| format!("\"{}\"", column.name));
    let columns = columns.collect::<Vec<_>>().join(", ");
    // Names come from the schema of the server, which is this build's.
    let sql = format!(
        "SELECT {columns} FROM \"{}\" ORDER BY {}",
        table.name,
        table.key.join(", ")
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut piece = Vec::with_capacity(PIECE);
    while let Some(row) = rows.next()? {
        let cells = (0..table.columns.len()).map(|at| row.get_ref(at).map(cell));
        piece.push(cells.collect::<rusqlite::Result<Vec<_>>>()?);
        if piece.len() == PIECE && pieces.blocking_send(std::mem::take(&mut piece)).is_err() {
            return Ok(());
        }
    }
    // Whoever does not take it has failed, and says so.
    let _ = pieces.blocking_send(piece);
    Ok(())
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(n) => Cell::Int(n),
        // No column of ours is one: the server would refuse it.
        ValueRef::Real(n) => Cell::Text(n.to_string()),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

/// The highest number that was ever given out in a table.
pub(crate) fn last_number(path: &Path, table: &str) -> rusqlite::Result<i64> {
    let conn = open(path)?;
    if table == "sessions" {
        return conn.query_row("SELECT last FROM session_numbers", [], |row| row.get(0));
    }
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?1";
    conn.query_row(sql, [table], |row| row.get(0))
}
