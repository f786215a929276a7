//! Numbered migrations, forward only, under the numbers and names they have on SQLite. Each is applied once,
//! in its own transaction, and its checksum is kept: a shipped file is never changed. One replica at a time
//! migrates; an older one may still be running, so a file only adds what the statements of older builds do not see.
//! What they still use is removed by a later release.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::fault::told;
use crate::clock;
use crate::error::OpenError;
use crate::limits;

/// The migrations this build knows, in order; the first is number 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/V1__first.sql"),
    include_str!("../../migrations/postgres/V2__plane.sql"),
    include_str!("../../migrations/postgres/V3__edge.sql"),
    include_str!("../../migrations/postgres/V4__outcomes.sql"),
    include_str!("../../migrations/postgres/V5__tallies.sql"),
    include_str!("../../migrations/postgres/V6__threads.sql"),
    include_str!("../../migrations/postgres/V7__refreshes.sql"),
    include_str!("../../migrations/postgres/V8__replicas.sql"),
    include_str!("../../migrations/postgres/V9__fleet.sql"),
    include_str!("../../migrations/postgres/V10__sandbox_rules.sql"),
    include_str!("../../migrations/postgres/V11__several.sql"),
    include_str!("../../migrations/postgres/V12__grounds.sql"),
];

/// What all replicas lock to migrate: "longhand" in ASCII.
const LOCK: i64 = 0x6c6f_6e67_6861_6e64;

/// Brings the database to this build's schema. The lock ends with the connection at the latest.
pub(super) async fn migrate(client: &mut Client, database: &Path) -> Result<(), OpenError> {
    let failed = |source: tokio_postgres::Error| OpenError::Database {
        path: database.to_owned(),
        source: told(source),
    };
    let lock = client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]);
    lock.await.map_err(failed)?;
    let done = apply(client, database).await;
    let unlock = client.execute("SELECT pg_advisory_unlock($1)", &[&LOCK]);
    unlock.await.map_err(failed)?;
    done
}

async fn apply(client: &mut Client, database: &Path) -> Result<(), OpenError> {
    let failed = |source: tokio_postgres::Error| OpenError::Database {
        path: database.to_owned(),
        source: told(source),
    };
    let made = client.batch_execute(
        "CREATE TABLE IF NOT EXISTS migrations (
           version    BIGINT PRIMARY KEY,
           checksum   BYTEA NOT NULL,
           applied_at BIGINT NOT NULL
         )",
    );
    made.await.map_err(failed)?;
    let sql = "SELECT version, checksum FROM migrations ORDER BY version";
    let applied = client.query(sql, &[]).await.map_err(failed)?;
    let applied = applied.iter().map(|row| {
        let version = u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX);
        (version, row.get::<_, Vec<u8>>(1))
    });
    let applied = applied.collect::<Vec<_>>();
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(OpenError::Newer {
            path: database.to_owned(),
            found: *found,
            known,
        });
    }
    for (version, sql) in (1u32..).zip(MIGRATIONS) {
        let checksum = digest(&SHA256, sql.as_bytes());
        match applied.iter().find(|(v, _)| *v == version) {
            Some((_, found)) if found == checksum.as_ref() => {}
            Some(_) => {
                return Err(OpenError::Altered {
                    path: database.to_owned(),
                    version,
                });
            }
            None => {
                let done = one_in_the_end(client, version, sql, checksum.as_ref()).await;
                done.map_err(|source| OpenError::Migration {
                    path: database.to_owned(),
                    version,
                    source: told(source),
                })?;
            }
        }
    }
    Ok(())
}

/// Applies a migration. An older server that works beside it may hold the tables that it changes, in another order: then
/// it gives way as a whole, and begins anew.
async fn one_in_the_end(
    client: &mut Client,
    version: u32,
    sql: &str,
    checksum: &[u8],
) -> Result<(), tokio_postgres::Error> {
    let mut left = limits::DEADLOCKS;
    loop {
        let done = one(client, version, sql, checksum).await;
        let gives_way = done
            .as_ref()
            .err()
            .and_then(|error| error.code())
            .is_some_and(|code| {
                [
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::LOCK_NOT_AVAILABLE,
                ]
                .contains(code)
            });
        if !gives_way || left == 0 {
            return done;
        }
        left -= 1;
        tracing::info!(
            version,
            "a migration waits for servers that use the database"
        );
        tokio::time::sleep(limits::GIVE_WAY).await;
    }
}

async fn one(
    client: &mut Client,
    version: u32,
    sql: &str,
    checksum: &[u8],
) -> Result<(), tokio_postgres::Error> {
    let tx = client.transaction().await?;
    tx.batch_execute(sql).await?;
    let note = "INSERT INTO migrations (version, checksum, applied_at) VALUES ($1, $2, $3)";
    tx.execute(note, &[&i64::from(version), &checksum, &clock::now().0])
        .await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first that may be applied while a server of an older build works on the database.
    const FIRST_BESIDE_OTHERS: usize = 9;

    /// Expand now, contract in a later release. A file that has to break this rule on purpose, because no build that is
    /// still supported uses what it takes away, is named here with the release that was the last to use it.
    #[test]
    fn what_an_older_server_uses_is_not_taken_from_it() {
        let takes = [
            "DROP TABLE",
            "DROP COLUMN",
            "DROP VIEW",
            "RENAME",
            "ALTER COLUMN",
            "SET NOT NULL",
            "ADD CONSTRAINT",
        ];
        for (version, sql) in (1..).zip(MIGRATIONS).skip(FIRST_BESIDE_OTHERS - 1) {
            let said = sql.lines().filter(|line| !line.starts_with("--"));
            let said = said.collect::<Vec<_>>().join(" ").to_uppercase();
            for words in takes {
                assert!(!said.contains(words), "V{version}: {words}");
            }
            // What older builds insert does not name it.
            for added in said.split("ADD COLUMN").skip(1) {
                let added = added.split([',', ';']).next().unwrap_or_default();
                let whole = !added.contains("NOT NULL") || added.contains("DEFAULT");
                assert!(whole, "V{version}: ADD COLUMN{added}");
            }
        }
    }
}
