//! SQL of `meta`.

use rusqlite::{Connection, OptionalExtension};

use super::{Cx, Told};

pub(crate) fn get(conn: &Connection, key: &str) -> Told<Option<Vec<u8>>> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

pub(crate) fn init(cx: &mut Cx<'_>, key: &str, value: &[u8]) -> Told<Vec<u8>> {
    cx.conn
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
        )?
        .execute((key, value))?;
    Ok(get(cx.conn, key)?.unwrap_or_default())
}

pub(super) fn remove(cx: &mut Cx<'_>, key: &str) -> Told<()> {
    let sql = "DELETE FROM meta WHERE key = ?1";
    cx.conn.prepare_cached(sql)?.execute([key])?;
    Ok(())
}

pub(crate) fn set(cx: &mut Cx<'_>, key: &str, value: &[u8]) -> Told<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    cx.conn.prepare_cached(sql)?.execute((key, value))?;
    Ok(())
}
