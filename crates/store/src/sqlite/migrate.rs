//! Numbered migrations, forward only. Each is applied once, in its own transaction, and its checksum is
//! kept: a shipped file is never changed.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::Connection;

use super::copy;
use crate::clock;
use crate::error::OpenError;

/// The migrations this build knows, in order; the first is number 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/V1__first.sql"),
    include_str!("../../migrations/sqlite/V2__plane.sql"),
    include_str!("../../migrations/sqlite/V3__edge.sql"),
    include_str!("../../migrations/sqlite/V4__outcomes.sql"),
    include_str!("../../migrations/sqlite/V5__tallies.sql"),
    include_str!("../../migrations/sqlite/V6__threads.sql"),
    include_str!("../../migrations/sqlite/V7__refreshes.sql"),
    include_str!("../../migrations/sqlite/V8__replicas.sql"),
    include_str!("../../migrations/sqlite/V9__fleet.sql"),
    include_str!("../../migrations/sqlite/V10__sandbox_rules.sql"),
    include_str!("../../migrations/sqlite/V11__several.sql"),
    include_str!("../../migrations/sqlite/V12__grounds.sql"),
];

pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<(), OpenError> {
    apply(conn, path, MIGRATIONS)
}

fn apply(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let failed = |source: rusqlite::Error| OpenError::Database {
        path: path.to_owned(),
        source: source.into(),
    };
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
           version    INTEGER PRIMARY KEY,
           checksum   BLOB NOT NULL,
           applied_at INTEGER NOT NULL
         ) STRICT",
    )
    .map_err(failed)?;
    let applied = applied(conn).map_err(failed)?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: *found,
            known,
        });
    }
    if let Some((held, _)) = applied.last().filter(|(held, _)| *held < known) {
        save(path, *held)?;
    }
    for (version, sql) in (1u32..).zip(migrations) {
        let checksum = digest(&SHA256, sql.as_bytes());
        match applied.iter().find(|(v, _)| *v == version) {
            Some((_, found)) if found == checksum.as_ref() => {}
            Some(_) => {
                return Err(OpenError::Altered {
                    path: path.to_owned(),
                    version,
                });
            }
            None => one(conn, version, sql, checksum.as_ref()).map_err(|source| {
                OpenError::Migration {
                    path: path.to_owned(),
                    version,
                    source: source.into(),
                }
            })?,
        }
    }
    Ok(())
}

/// Keeps the database as it was before the next migration, beside it. A copy that is there already is
/// of an attempt that was cut short: the database has not changed since.
fn save(path: &Path, held: u32) -> Result<(), OpenError> {
    let to = path.with_extension(format!("before-v{}.db", held + 1));
    if to.exists() {
        return Ok(());
    }
    copy::copy(path, &to).map_err(|source| OpenError::Backup {
        path: to,
        source: source.into(),
    })
}

fn applied(conn: &Connection) -> rusqlite::Result<Vec<(u32, Vec<u8>)>> {
    let mut statement =
        conn.prepare("SELECT version, checksum FROM migrations ORDER BY version")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn one(conn: &mut Connection, version: u32, sql: &str, checksum: &[u8]) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute_batch(sql)?;
    tx.execute(
        "INSERT INTO migrations (version, checksum, applied_at) VALUES (?1, ?2, ?3)",
        (version, checksum, clock::now().0),
    )?;
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "CREATE TABLE a (x INTEGER) STRICT;";
    const B: &str = "CREATE TABLE b (x INTEGER) STRICT;";

    fn open(dir: &tempfile::TempDir) -> (Connection, std::path::PathBuf) {
        let path = dir.path().join("x.db");
        (Connection::open(&path).expect("a database"), path)
    }

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn migrations_are_applied_once_and_in_order() {
        let dir = dir();
        let (mut conn, path) = open(&dir);
        apply(&mut conn, &path, &[A]).expect("first");
        apply(&mut conn, &path, &[A, B]).expect("second");
        apply(&mut conn, &path, &[A, B]).expect("again");
        let versions = applied(&conn).expect("rows");
        assert_eq!(versions.iter().map(|(v, _)| *v).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_database_is_kept_as_it_was_before_a_migration_and_only_then() {
        let dir = dir();
        let (mut conn, path) = open(&dir);
        apply(&mut conn, &path, &[A]).expect("first");
        conn.execute_batch("INSERT INTO a (x) VALUES (7)")
            .expect("a row");
        let kept = dir.path().join("x.before-v2.db");
        assert!(!kept.exists(), "nothing to keep before the first");
        apply(&mut conn, &path, &[A, B]).expect("second");
        let mut before = Connection::open(&kept).expect("the copy");
        let x = before.query_row("SELECT x FROM a", [], |row| row.get::<_, i64>(0));
        assert_eq!(x.expect("the row"), 7);
        assert!(before.prepare("SELECT x FROM b").is_err());
        apply(&mut before, &kept, &[A]).expect("the older build opens it");
    }

    #[test]
    fn sessions_of_an_older_database_are_what_they_were_and_their_numbers_go_on() {
        let dir = dir();
        let (mut conn, path) = open(&dir);
        apply(&mut conn, &path, &MIGRATIONS[..11]).expect("the older build's");
        conn.execute_batch(
            "INSERT INTO environments VALUES ('env_1', 'w', 1, 'e', 1, 1, NULL, '{}');
             INSERT INTO sessions VALUES (1, 's1', 'w', 'a', 2, 'env_1', 5, 't', '{}', '[]', '{\"a\":1}', '{\"e\":1}');
             INSERT INTO sessions VALUES (2, 's2', 'w', 'a', 3, 'env_1', 6, NULL, '{}', '[]', '{}', '{}');
             INSERT INTO sessions VALUES (7, 's7', 'w', 'a', 3, 'env_1', 6, NULL, '{}', '[]', '{}', '{}');
             DELETE FROM sessions WHERE num = 7;",
        )
        .expect("rows");
        let all = "SELECT json_group_array(json_array(num, id, workspace, agent, agent_version, environment,
            created_at, title, metadata, vaults, agent_body, environment_body)) FROM sessions";
        let read = |conn: &Connection| conn.query_row(all, [], |row| row.get::<_, String>(0));
        let before = read(&conn).expect("rows");
        apply(&mut conn, &path, MIGRATIONS).expect("this build's");
        assert_eq!(read(&conn).expect("rows"), before);
        let last = conn.query_row("SELECT last FROM session_numbers", [], |row| row.get(0));
        assert_eq!(
            last,
            Ok(7),
            "that of a session that is gone is not given again"
        );
        let shared = conn.query_row("SELECT sum(n) FROM grounds", [], |row| row.get(0));
        assert_eq!(shared, Ok(2));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let dir = dir();
        let (mut conn, path) = open(&dir);
        apply(&mut conn, &path, &[A, B]).expect("both");
        let refused = apply(&mut conn, &path, &[A]);
        assert!(matches!(
            refused,
            Err(OpenError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ));
    }

    #[test]
    fn an_altered_migration_is_refused() {
        let dir = dir();
        let (mut conn, path) = open(&dir);
        apply(&mut conn, &path, &[A]).expect("first");
        let refused = apply(&mut conn, &path, &[B]);
        assert!(matches!(
            refused,
            Err(OpenError::Altered { version: 1, .. })
        ));
    }

    #[test]
    fn a_failing_migration_leaves_nothing_behind() {
        let dir = dir();
        let (mut conn, path) = open(&dir);
        let broken = "CREATE TABLE c (x INTEGER) STRICT; CREATE TABLE c (x INTEGER) STRICT;";
        let failed = apply(&mut conn, &path, &[A, broken]);
        assert!(matches!(
            failed,
            Err(OpenError::Migration { version: 2, .. })
        ));
        assert!(conn.prepare("SELECT x FROM c").is_err());
        assert!(conn.prepare("SELECT x FROM a").is_ok());
    }
}
