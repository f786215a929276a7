//! SQL of `sandbox_rules`.

use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};
use serde_json::value::RawValue;

use super::row::raw;
use super::{Cx, Told};
use crate::rules::told::Note;
use crate::sandbox_rules::SandboxRules;

pub(crate) fn get(conn: &Connection, sandbox: &str) -> Told<Option<SandboxRules>> {
    let sql = "SELECT body, updated_at FROM sandbox_rules WHERE sandbox = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_row([sandbox], |row| {
        Ok(SandboxRules {
            body: raw(row, 0)?,
            updated_at: Micros(row.get(1)?),
        })
    });
    Ok(found.optional()?)
}

pub(crate) fn set(
    cx: &mut Cx<'_>,
    sandbox: &str,
    body: Option<Box<RawValue>>,
    now: Micros,
) -> Told<()> {
    match body {
        Some(body) => {
            let sql = "INSERT INTO sandbox_rules (sandbox, body, updated_at) VALUES (?1, ?2, ?3)
                       ON CONFLICT (sandbox) DO UPDATE
                       SET body = excluded.body, updated_at = excluded.updated_at";
            let row = (sandbox, body.get(), now.0);
            cx.conn.prepare_cached(sql)?.execute(row)?;
        }
        None => remove(cx.conn, sandbox)?,
    }
    cx.tell(Note::Grounds);
    Ok(())
}

/// Removes those of a session that is deleted, or of whatever has that name.
pub(super) fn remove(conn: &Connection, sandbox: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM sandbox_rules WHERE sandbox = ?1";
    conn.prepare_cached(sql)?.execute([sandbox])?;
    Ok(())
}
