//! SQL of `tallies`: how much of something a workspace has. Who adds a row that counts takes its place
//! here first, and who removes one gives it back; both are written at the end of the transaction, unless the cap is near.
//! Kept answers count bytes and do so themselves.

use contract::ids::WorkspaceId;

use super::fault::Read;
use super::row::get;
use super::value::values;
use super::{Conn, Cx, Told};
use crate::caps::Caps;
use crate::error::{Error, Plenty};
use crate::limits;
use crate::rules::sums::{Sum, counted};

/// The name something is counted under.
const fn name(what: Plenty) -> &'static str {
    match what {
        Plenty::Sessions => "session",
        Plenty::Vaults => "vault",
        Plenty::Kept => "kept",
    }
}

/// Counts one more, or refuses if `workspace` has all it may have of `what`. Far from the cap nobody waits for what other
/// servers are about to add; near it each place is taken in the row itself, which holds up whoever wants another.
pub(crate) async fn take(
    cx: &mut Cx,
    workspace: WorkspaceId,
    what: Plenty,
    caps: Caps,
) -> Told<()> {
    let limit = caps.of(what);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let ours = counted(cx.talk.sums(), workspace, what);
    let sql = "SELECT n FROM tallies WHERE workspace = $1 AND thing = $2";
    let key = values![workspace.to_string(), name(what)];
    let stored = cx.conn.row(sql, key).await?;
    let stored = stored.map(|row| get::<i64>(&row, 0)).transpose()?;
    if stored.unwrap_or(0) < most.saturating_sub(ours + limits::NEAR_A_CAP) {
        cx.talk.add(Sum::Counted(workspace, what, 1));
        return Ok(());
    }
    let sql = "INSERT INTO tallies SELECT $1, $2, 1 WHERE $4::bigint < $3::bigint
                 ON CONFLICT (workspace, thing) DO UPDATE SET n = tallies.n + 1
                 WHERE tallies.n + $4::bigint < $3::bigint";
    let row = values![workspace.to_string(), name(what), most, ours];
    match cx.conn.execute(sql, row).await? {
        0 => Err(Error::Full { what, limit }.into()),
        _ => Ok(()),
    }
}

/// Counts one less: a row of the workspace is gone.
pub(super) fn give(cx: &mut Cx, workspace: WorkspaceId, what: Plenty) {
    cx.talk.add(Sum::Counted(workspace, what, -1));
}

/// Writes what the writes of a transaction took and gave.
pub(super) async fn add(conn: &Conn, workspace: WorkspaceId, what: Plenty, n: i64) -> Read<()> {
    let row = values![workspace.to_string(), name(what), n];
    conn.execute(ADD, row).await.map(|_| ())
}

/// Statement of [`add`].
pub(super) const ADD: &str = "INSERT INTO tallies VALUES ($1, $2, $3)
    ON CONFLICT (workspace, thing) DO UPDATE SET n = tallies.n + excluded.n";
