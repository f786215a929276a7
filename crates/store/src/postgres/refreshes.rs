//! SQL of `refreshes`.

use contract::ids::{CredentialId, VaultId};
use contract::time::Micros;

use super::row::{each, get, small, text};
use super::value::values;
use super::{Conn, Cx, Told, credentials, master};
use crate::error::{Conflict, Error, Thing};
use crate::refreshes::{Claim, Due, Holder, Outcome, Patience, Settled};
use crate::rules::told::Note;
use crate::vaults::CredentialRow;

/// A new or changed credential is looked at at once, whatever became of the earlier attempts.
pub(super) async fn begin(cx: &mut Cx, id: CredentialId) -> Told<()> {
    let sql = "INSERT INTO refreshes (credential, due_at, retry_at, failures, refused)
               VALUES ($1, 0, 0, 0, false)
               ON CONFLICT (credential) DO UPDATE
               SET due_at = 0, retry_at = 0, failures = 0, refused = false";
    cx.conn.execute(sql, values![id.to_string()]).await?;
    Ok(())
}

pub(super) async fn end(cx: &mut Cx, id: CredentialId) -> Told<()> {
    let sql = "DELETE FROM refreshes WHERE credential = $1";
    cx.conn.execute(sql, values![id.to_string()]).await?;
    Ok(())
}

pub(super) async fn end_all(cx: &mut Cx, vault: VaultId) -> Told<()> {
    let sql = "DELETE FROM refreshes WHERE credential IN
                 (SELECT id FROM credentials WHERE vault = $1)";
    cx.conn.execute(sql, values![vault.to_string()]).await?;
    Ok(())
}

async fn active(conn: &Conn, due: Due) -> Told<CredentialRow> {
    let row = credentials::get(conn, due.workspace, due.vault, due.credential).await?;
    if row.archived_at.is_some() {
        return Err(Error::Archived(Thing::Credential(due.credential)).into());
    }
    Ok(row)
}

pub(crate) async fn claim(
    cx: &mut Cx,
    due: Due,
    holder: Holder,
    patience: Patience,
    (now, until): (Micros, Micros),
) -> Told<Claim> {
    // Both locks come before the credential is read: who settles, and its owner, hold them until they have committed, and
    // a token that was read before is spent.
    super::vaults::lock(&cx.conn, due.vault).await?;
    let id = due.credential.to_string();
    // Of two replicas that ask at once one gets the lease, and the other sees it.
    let sql = "SELECT retry_at, failures, refused,
                 CASE WHEN holder = $2 THEN NULL ELSE lease_until END
               FROM refreshes WHERE credential = $1 FOR UPDATE";
    let key = values![&id, holder.0.to_be_bytes()];
    let state = cx.conn.row(sql, key).await?;
    let row = active(&cx.conn, due).await?;
    let state = state.ok_or(Error::NotFound(Thing::Credential(due.credential)))?;
    let lease = get::<Option<i64>>(&state, 3)?;
    if let Some(until) = lease.filter(|until| *until > now.0) {
        let until = Micros(until);
        return Ok(Claim::Held { until });
    }
    if patience == Patience::Kept {
        if get(&state, 2)? {
            return Ok(Claim::Refused);
        }
        if get::<i64>(&state, 0)? > now.0 {
            let failures = small(&state, 1)?;
            return Ok(Claim::NotYet { failures });
        }
    }
    let sql = "UPDATE refreshes SET holder = $2, lease_until = $3 WHERE credential = $1";
    let lease = values![&id, holder.0.to_be_bytes(), until.0];
    cx.conn.execute(sql, lease).await?;
    Ok(Claim::Ours {
        row: Box::new(row),
        failures: small(&state, 1)?,
    })
}

pub(crate) async fn settle(
    cx: &mut Cx,
    due: Due,
    holder: Holder,
    settled: Settled,
    now: Micros,
) -> Told<()> {
    super::vaults::lock(&cx.conn, due.vault).await?;
    let current = active(&cx.conn, due).await?;
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
            master::guard(&cx.conn, sealed).await?;
            cx.tell(Note::Grounds);
            // Not `updated_at`: its owner changed nothing.
            let sql = "UPDATE credentials SET revision = $2, auth = $3, sealed = $4,
                         key_version = $5 WHERE id = $1";
            let change = values![&id, base + 1, auth.get(), &sealed.blob, sealed.key_version];
            cx.conn.execute(sql, change).await?;
            (Some(false), Some(false))
        }
    };
    // An attempt that lost its lease says nothing of those that came after it, unless it has the tokens.
    let renewed = matches!(settled.outcome, Outcome::Renewed { .. });
    let sql = "UPDATE refreshes SET holder = NULL, lease_until = NULL, due_at = $3,
                 retry_at = CASE WHEN $5::boolean IS NULL THEN retry_at ELSE $4 END,
                 failures = CASE $5 WHEN true THEN failures + 1 WHEN false THEN 0 ELSE failures END,
                 refused = coalesce($6, refused)
               WHERE credential = $1 AND (holder = $2 OR $7)";
    let row = values![
        &id,
        holder.0.to_be_bytes(),
        settled.due_at.map(|at| at.0),
        settled.retry_at.max(now).0,
        failed,
        refused,
        renewed,
    ];
    cx.conn.execute(sql, row).await?;
    Ok(())
}

pub(crate) async fn due(conn: &Conn, now: Micros, limit: u32) -> Told<Vec<Due>> {
    let sql = "SELECT v.workspace, c.vault, r.credential FROM refreshes r
                 JOIN credentials c ON c.id = r.credential JOIN vaults v ON v.id = c.vault
               WHERE r.due_at <= $1 AND r.retry_at <= $1 AND coalesce(r.lease_until, 0) <= $1
               ORDER BY r.due_at LIMIT $2";
    let rows = conn.rows(sql, values![now.0, limit]).await?;
    let found = each(&rows, |row| {
        Ok(Due {
            workspace: text(row, 0)?,
            vault: text(row, 1)?,
            credential: text(row, 2)?,
        })
    });
    Ok(found?)
}
