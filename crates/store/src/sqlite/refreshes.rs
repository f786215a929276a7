//! SQL of `refreshes`.

use contract::ids::{CredentialId, VaultId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};

use super::row::text;
use super::{Cx, Told, credentials, master};
use crate::error::{Conflict, Error, Thing};
use crate::refreshes::{Claim, Due, Holder, Outcome, Patience, Settled};
use crate::rules::told::Note;
use crate::vaults::CredentialRow;

struct State {
    retry_at: i64,
    failures: u32,
    refused: bool,
    /// Until when somebody else refreshes.
    lease_until: Option<i64>,
}

/// A new or changed credential is looked at at once, whatever became of the earlier attempts.
pub(super) fn begin(cx: &mut Cx<'_>, id: CredentialId) -> Told<()> {
    let sql = "INSERT INTO refreshes (credential, due_at, retry_at, failures, refused)
               VALUES (?1, 0, 0, 0, 0)
               ON CONFLICT (credential) DO UPDATE
               SET due_at = 0, retry_at = 0, failures = 0, refused = 0";
    cx.conn.prepare_cached(sql)?.execute([id.to_string()])?;
    Ok(())
}

pub(super) fn end(cx: &mut Cx<'_>, id: CredentialId) -> Told<()> {
    let sql = "DELETE FROM refreshes WHERE credential = ?1";
    cx.conn.prepare_cached(sql)?.execute([id.to_string()])?;
    Ok(())
}

pub(super) fn end_all(cx: &mut Cx<'_>, vault: VaultId) -> Told<()> {
    let sql = "DELETE FROM refreshes WHERE credential IN
                 (SELECT id FROM credentials WHERE vault = ?1)";
    cx.conn.prepare_cached(sql)?.execute([vault.to_string()])?;
    Ok(())
}

fn active(cx: &Cx<'_>, due: Due) -> Told<CredentialRow> {
    let row = credentials::get(cx.conn, due.workspace, due.vault, due.credential)?;
    if row.archived_at.is_some() {
        return Err(Error::Archived(Thing::Credential(due.credential)).into());
    }
    Ok(row)
}

pub(crate) fn claim(
    cx: &mut Cx<'_>,
    due: Due,
    holder: Holder,
    patience: Patience,
    (now, until): (Micros, Micros),
) -> Told<Claim> {
    let row = active(cx, due)?;
    let id = due.credential.to_string();
    let sql = "SELECT retry_at, failures, refused,
                 CASE WHEN holder = ?2 THEN NULL ELSE lease_until END
               FROM refreshes WHERE credential = ?1";
    let key = (&id, holder.0.to_be_bytes());
    let state = cx.conn.prepare_cached(sql)?.query_row(key, |row| {
        Ok(State {
            retry_at: row.get(0)?,
            failures: row.get(1)?,
            refused: row.get(2)?,
            lease_until: row.get(3)?,
        })
    });
    let state = state
        .optional()?
        .ok_or(Error::NotFound(Thing::Credential(due.credential)))?;
    if let Some(until) = state.lease_until.filter(|until| *until > now.0) {
        let until = Micros(until);
        return Ok(Claim::Held { until });
    }
    if patience == Patience::Kept {
        if state.refused {
            return Ok(Claim::Refused);
        }
        if state.retry_at > now.0 {
            let failures = state.failures;
            return Ok(Claim::NotYet { failures });
        }
    }
    let sql = "UPDATE refreshes SET holder = ?2, lease_until = ?3 WHERE credential = ?1";
    let lease = (&id, holder.0.to_be_bytes(), until.0);
    cx.conn.prepare_cached(sql)?.execute(lease)?;
    Ok(Claim::Ours {
        row: Box::new(row),
        failures: state.failures,
    })
}

pub(crate) fn settle(
    cx: &mut Cx<'_>,
    due: Due,
    holder: Holder,
    settled: Settled,
    now: Micros,
) -> Told<()> {
    let current = active(cx, due)?;
    let base = settled.outcome.base();
    if base.is_some_and(|base| base != current.revision) {
        let current = current.revision;
        return Err(Conflict::Revision { current }.into());
    }
    let id = due.credential.to_string();
    let (failed, refused) = match &settled.outcome {
        Outcome::Untried => (None, None),
        Outcome::Failed { .. } => (Some(true), Some(false)),
        Outcome::Refused { .. } => (Some(true), Some(true)),
        Outcome::Renewed { base, auth, sealed } => {
            master::guard(cx.conn, sealed)?;
            cx.tell(Note::Grounds);
            // Not `updated_at`: its owner changed nothing.
            let sql = "UPDATE credentials SET revision = ?2, auth = ?3, sealed = ?4,
                         key_version = ?5 WHERE id = ?1";
            let change = (&id, base + 1, auth.get(), &sealed.blob, sealed.key_version);
            cx.conn.prepare_cached(sql)?.execute(change)?;
            (Some(false), Some(false))
        }
    };
    // An attempt that lost its lease says nothing of those that came after it, unless it has the tokens.
    let renewed = matches!(settled.outcome, Outcome::Renewed { .. });
    let sql = "UPDATE refreshes SET holder = NULL, lease_until = NULL, due_at = ?3,
                 retry_at = CASE WHEN ?5 IS NULL THEN retry_at ELSE ?4 END,
                 failures = CASE ?5 WHEN 1 THEN failures + 1 WHEN 0 THEN 0 ELSE failures END,
                 refused = coalesce(?6, refused)
               WHERE credential = ?1 AND (holder = ?2 OR ?7)";
    cx.conn.prepare_cached(sql)?.execute((
        &id,
        holder.0.to_be_bytes(),
        settled.due_at.map(|at| at.0),
        settled.retry_at.max(now).0,
        failed,
        refused,
        renewed,
    ))?;
    Ok(())
}

pub(crate) fn due(conn: &Connection, now: Micros, limit: u32) -> Told<Vec<Due>> {
    let sql = "SELECT v.workspace, c.vault, r.credential FROM refreshes r
                 JOIN credentials c ON c.id = r.credential JOIN vaults v ON v.id = c.vault
               WHERE r.due_at <= ?1 AND r.retry_at <= ?1 AND coalesce(r.lease_until, 0) <= ?1
               ORDER BY r.due_at LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((now.0, limit), |row| {
        Ok(Due {
            workspace: text(row, 0)?,
            vault: text(row, 1)?,
            credential: text(row, 2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
