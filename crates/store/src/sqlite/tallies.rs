//! SQL of `tallies`: how much of something a workspace has. Who adds a row that counts takes its place
//! here first, and who removes one gives it back; both are written at the end of the transaction. Kept answers count
//! bytes and do so themselves.

use contract::ids::WorkspaceId;
use rusqlite::{Connection, OptionalExtension as _};

use super::{Cx, Told};
use crate::caps::Caps;
use crate::error::{Error, Plenty};
use crate::rules::sums::{Sum, counted};

/// The name something is counted under.
const fn name(what: Plenty) -> &'static str {
    match what {
        Plenty::Sessions => "session",
        Plenty::Vaults => "vault",
        Plenty::Kept => "kept",
    }
}

/// Counts one more, or refuses if `workspace` has all it may have of `what`.
pub(crate) fn take(cx: &mut Cx<'_>, workspace: WorkspaceId, what: Plenty, caps: Caps) -> Told<()> {
    let stored = match cx.warm.count(workspace, what) {
        Some(stored) => stored,
        None => {
            let stored = stored(cx.conn, workspace, what)?;
            cx.warm.counted(workspace, what, stored);
            stored
        }
    };
    let limit = caps.of(what);
    let all = stored + counted(cx.talk.sums(), workspace, what);
    if u64::try_from(all).is_ok_and(|all| all >= limit) {
        return Err(Error::Full { what, limit }.into());
    }
    cx.talk.add(Sum::Counted(workspace, what, 1));
    Ok(())
}

/// Counts one less: a row of the workspace is gone.
pub(super) fn give(cx: &mut Cx<'_>, workspace: WorkspaceId, what: Plenty) {
    cx.talk.add(Sum::Counted(workspace, what, -1));
}

fn stored(conn: &Connection, workspace: WorkspaceId, what: Plenty) -> rusqlite::Result<i64> {
    let sql = "SELECT n FROM tallies WHERE workspace = ?1 AND thing = ?2";
    let key = (workspace.to_string(), name(what));
    let found = conn.prepare_cached(sql)?.query_row(key, |row| row.get(0));
    found.optional().map(Option::unwrap_or_default)
}

/// Writes what the writes of a transaction took and gave.
pub(super) fn add(
    conn: &Connection,
    workspace: WorkspaceId,
    what: Plenty,
    n: i64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO tallies VALUES (?1, ?2, ?3)
               ON CONFLICT (workspace, thing) DO UPDATE SET n = n + excluded.n";
    let row = (workspace.to_string(), name(what), n);
    conn.prepare_cached(sql)?.execute(row).map(|_| ())
}
