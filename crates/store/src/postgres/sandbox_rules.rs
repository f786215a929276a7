//! SQL of `sandbox_rules`.

use contract::time::Micros;
use serde_json::value::RawValue;

use super::fault::Read;
use super::row::{get as column, raw};
use super::value::values;
use super::{Conn, Cx, Told};
use crate::rules::told::Note;
use crate::sandbox_rules::SandboxRules;

pub(crate) async fn get(conn: &Conn, sandbox: &str) -> Told<Option<SandboxRules>> {
    let sql = "SELECT body, updated_at FROM sandbox_rules WHERE sandbox = $1";
    let Some(row) = conn.row(sql, values![sandbox]).await? else {
        return Ok(None);
    };
    Ok(Some(SandboxRules {
        body: raw(&row, 0)?,
        updated_at: Micros(column(&row, 1)?),
    }))
}

pub(crate) async fn set(
    cx: &mut Cx,
    sandbox: &str,
    body: Option<Box<RawValue>>,
    now: Micros,
) -> Told<()> {
    match body {
        Some(body) => {
            let sql = "INSERT INTO sandbox_rules (sandbox, body, updated_at) VALUES ($1, $2, $3)
                       ON CONFLICT (sandbox) DO UPDATE
                       SET body = excluded.body, updated_at = excluded.updated_at";
            let row = values![sandbox, body.get(), now.0];
            cx.conn.execute(sql, row).await?;
        }
        None => remove(&cx.conn, sandbox).await?,
    }
    cx.tell(Note::Grounds);
    Ok(())
}

/// Removes those of a session that is deleted, or of whatever has that name.
pub(super) async fn remove(conn: &Conn, sandbox: &str) -> Read<()> {
    let sql = "DELETE FROM sandbox_rules WHERE sandbox = $1";
    conn.execute(sql, values![sandbox]).await?;
    Ok(())
}
