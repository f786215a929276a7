//! SQL of `tallies`, read side; triggers keep them (V3), but for kept answers, which count themselves.

use contract::ids::WorkspaceId;
use rusqlite::{Connection, OptionalExtension};

use super::Told;
use super::row::number;
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

/// Refuses if `workspace` has all it may have of `what`.
pub(crate) fn room(
    conn: &Connection,
    workspace: WorkspaceId,
    what: Plenty,
    caps: Caps,
) -> Told<()> {
    let sql = "SELECT n FROM tallies WHERE workspace = ?1 AND thing = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let key = (workspace.to_string(), name(what));
    let has = statement.query_row(key, |row| number(row, 0)).optional()?;
    let limit = caps.of(what);
    if has.unwrap_or(0) < limit {
        return Ok(());
    }
    Err(Error::Full { what, limit }.into())
}
