//! SQL of `tallies`: how much of something a workspace has. Who adds a row that counts takes its place
//! here first, and who removes one gives it back; kept answers count bytes and do so themselves.

use contract::ids::WorkspaceId;
use rusqlite::Connection;

use super::{Cx, Told};
use crate::caps::Caps;
use crate::error::{Error, Plenty};

/// The name something is counted under.
const fn name(what: Plenty) -> &'static str {
    match what {
        Plenty::Sessions => "session",
        Plenty::Vaults => "vault",
        Plenty::Kept => "kept",
    }
}

/// Counts one more, or refuses if `workspace` has all it may have of `what`.
pub(crate) fn take(cx: &Cx<'_>, workspace: WorkspaceId, what: Plenty, caps: Caps) -> Told<()> {
    let limit = caps.of(what);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let workspace = workspace.to_string();
    let row = (&workspace, name(what), most);
    // Nearly always there is a count already, and this costs half of what the other does.
    let sql = "UPDATE tallies SET n = n + 1 WHERE workspace = ?1 AND thing = ?2 AND n < ?3";
    if cx.conn.prepare_cached(sql)?.execute(row)? > 0 {
        return Ok(());
    }
    // Whatever is wrong with it, a workspace that may have none is not counted.
    let sql = "INSERT INTO tallies SELECT ?1, ?2, 1 WHERE ?3 > 0
                 ON CONFLICT (workspace, thing) DO NOTHING";
    match cx.conn.prepare_cached(sql)?.execute(row)? {
        0 => Err(Error::Full { what, limit }.into()),
        _ => Ok(()),
    }
}

/// Counts one less: a row of the workspace that is stored under this name is gone.
pub(super) fn give(conn: &Connection, workspace: &str, what: Plenty) -> rusqlite::Result<()> {
    let sql = "UPDATE tallies SET n = n - 1 WHERE workspace = ?1 AND thing = ?2";
    conn.prepare_cached(sql)?.execute((workspace, name(what)))?;
    Ok(())
}
