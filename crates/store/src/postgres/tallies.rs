//! SQL of `tallies`: how much of something a workspace has. Who adds a row that counts takes its place
//! here first, and who removes one gives it back; kept answers count bytes and do so themselves.

use contract::ids::WorkspaceId;

use super::fault::Read;
use super::value::values;
use super::{Conn, Cx, Told};
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
pub(crate) async fn take(
    cx: &mut Cx,
    workspace: WorkspaceId,
    what: Plenty,
    caps: Caps,
) -> Told<()> {
    let limit = caps.of(what);
    // Whatever is wrong with it, a workspace that may have none is not counted.
    let sql = "INSERT INTO tallies SELECT $1, $2, 1 WHERE $3::bigint > 0
                 ON CONFLICT (workspace, thing) DO UPDATE SET n = tallies.n + 1
                 WHERE tallies.n < $3::bigint";
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let row = values![workspace.to_string(), name(what), most];
    match cx.conn.execute(sql, row).await? {
        0 => Err(Error::Full { what, limit }.into()),
        _ => Ok(()),
    }
}

/// Counts one less: a row of the workspace that is stored under this name is gone.
pub(super) async fn give(conn: &Conn, workspace: &str, what: Plenty) -> Read<()> {
    let sql = "UPDATE tallies SET n = n - 1 WHERE workspace = $1 AND thing = $2";
    conn.execute(sql, values![workspace, name(what)]).await?;
    Ok(())
}
