//! SQL of `grounds`: what sessions are made from, once for all that are made from the same. How many there are is counted at
//! the end of a transaction ([`crate::rules::sums`]); one that nobody is made from any more goes.

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::{Connection, OptionalExtension as _};

use super::warm::Laid;
use super::{Cx, Told, agents, environments, vaults};
use crate::rules::sums::{Sum, grounded};
use crate::sessions::NewSession;

/// What `new` is made from, counted once more. Refused if agent, environment or vaults are gone or archived.
pub(super) fn join(cx: &mut Cx<'_>, new: &NewSession) -> Told<i64> {
    let ground = new.ground();
    let num = match cx.warm.ground(&ground) {
        Some(laid) if laid.is_of(new) => laid.num,
        known => {
            if known.is_none() {
                check(cx.conn, new)?;
            }
            let num = lay(cx.conn, new)?;
            cx.warm.laid(ground, Laid::of(new, num));
            num
        }
    };
    cx.talk.add(Sum::Grounded(num, 1));
    Ok(num)
}

/// A session that was made from it is gone.
pub(super) fn leave(cx: &mut Cx<'_>, num: i64) {
    cx.talk.add(Sum::Grounded(num, -1));
}

fn check(conn: &Connection, new: &NewSession) -> Told<()> {
    agents::check(conn, new.workspace, new.agent_id, new.agent_version)?;
    environments::check(conn, new.workspace, new.environment_id)?;
    for vault in &new.vault_ids {
        vaults::active(conn, new.workspace, *vault)?;
    }
    Ok(())
}

/// The row, which is made if there is none.
fn lay(conn: &Connection, new: &NewSession) -> Told<i64> {
    let environment = new.environment_id.to_string();
    let vaults = serde_json::to_string(&new.vault_ids)?;
    let version = new.agent_version.to_string();
    let (agent, body) = (new.agent.get(), new.environment.get());
    let mut key = Context::new(&SHA256);
    for part in [version.as_str(), &environment, &vaults, agent, body] {
        key.update(&(part.len() as u64).to_be_bytes());
        key.update(part.as_bytes());
    }
    let key = key.finish();
    let sql = "SELECT num FROM grounds WHERE key = ?1";
    let found = conn
        .prepare_cached(sql)?
        .query_row([key.as_ref()], |row| row.get(0));
    if let Some(num) = found.optional()? {
        return Ok(num);
    }
    let sql = "INSERT INTO grounds
                 (n, key, agent_version, environment, vaults, agent_body, environment_body)
               VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6)";
    let row = (
        key.as_ref(),
        new.agent_version,
        environment,
        vaults,
        agent,
        body,
    );
    conn.prepare_cached(sql)?.execute(row)?;
    Ok(conn.last_insert_rowid())
}

/// Removes what stands for an environment, if no session is made from it; false if one is. What the transaction under way
/// added and took away counts.
pub(super) fn clear(cx: &Cx<'_>, environment: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT num, n FROM grounds WHERE environment = ?1";
    let mut statement = cx.conn.prepare_cached(sql)?;
    let mut rows = statement.query([environment])?;
    while let Some(row) = rows.next()? {
        let (num, n): (i64, i64) = (row.get(0)?, row.get(1)?);
        if n + grounded(cx.talk.sums(), num) != 0 {
            return Ok(false);
        }
    }
    let sql = "DELETE FROM grounds WHERE environment = ?1";
    cx.conn.prepare_cached(sql)?.execute([environment])?;
    Ok(true)
}

/// Writes how many came and went; true if none is left, and so the row is gone.
pub(super) fn count(conn: &Connection, num: i64, n: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE grounds SET n = n + ?2 WHERE num = ?1 RETURNING n";
    let mut statement = conn.prepare_cached(sql)?;
    let left = statement.query_row((num, n), |row| row.get::<_, i64>(0));
    match left.optional()? {
        Some(0) => {
            let sql = "DELETE FROM grounds WHERE num = ?1";
            conn.prepare_cached(sql)?.execute([num])?;
            Ok(true)
        }
        Some(_) => Ok(false),
        // It went with its environment.
        None => Ok(true),
    }
}
