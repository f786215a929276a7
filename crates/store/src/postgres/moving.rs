//! SQL of a move, on the side of the server. While one is under way a table says how far it is, and no server starts.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use tokio_postgres::Row;

use super::Conn;
use super::fault::why;
use super::open::Server;
use super::row::get;
use super::value::{Value, values};
use super::writer::cause;
use crate::moving::{Cell, Column, MoveError, Sum, Table};
use crate::store::Options;

/// Where a database is moved to.
pub(crate) struct Target {
    conn: Conn,
}

/// What is the server's own.
const OWN: [&str; 4] = ["changes", "migrations", "moves", "replicas"];

fn broke(failed: super::fault::Failed) -> MoveError {
    MoveError::Broke(cause(failed).to_string())
}

impl Target {
    /// Brings it to this build's schema, unless a move into it has begun.
    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, MoveError> {
        let server = Server::parse(url, options, None)?;
        let pool = server.pool(1)?;
        let taken = Conn::take(&pool).await;
        let conn = taken.map_err(|trouble| server.failed(why(trouble)))?;
        let target = Self { conn };
        if !target.has_begun().await? {
            server.prepare().await?;
        }
        Ok(target)
    }

    async fn has_begun(&self) -> Result<bool, MoveError> {
        let sql = "SELECT to_regclass('moves') IS NOT NULL";
        let row = self.conn.row(sql, values![]).await.map_err(broke)?;
        row.map_or(Ok(false), |row| get(&row, 0).map_err(broke))
    }

    /// The tables there are, those before others that refer to them.
    pub(crate) async fn tables(&self) -> Result<Vec<Table>, MoveError> {
        let sql = "SELECT c.relname::text,
              array(SELECT DISTINCT r.relname::text FROM pg_constraint k
                JOIN pg_class r ON r.oid = k.confrelid
                WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid <> c.oid)
            FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
            ORDER BY c.relname";
        let rows = self.conn.rows(sql, values![]).await.map_err(broke)?;
        let found = rows.iter().map(|row| -> Result<_, super::fault::Failed> {
            Ok((get::<String>(row, 0)?, get::<Vec<String>>(row, 1)?))
        });
        let mut left = found.collect::<Result<Vec<_>, _>>().map_err(broke)?;
        left.retain(|(name, _)| !OWN.contains(&name.as_str()));
        let (mut placed, mut tables) = (BTreeSet::new(), Vec::new());
        while !left.is_empty() {
            let ready = |needs: &Vec<String>| needs.iter().all(|needed| placed.contains(needed));
            let (now, later) = left
                .into_iter()
                .partition::<Vec<_>, _>(|(_, needs)| ready(needs));
            if now.is_empty() {
                return Err(MoveError::Broke(
                    "tables refer to each other in a ring".to_owned(),
                ));
            }
            for (name, _) in now {
                tables.push(self.table(&name).await?);
                placed.insert(name);
            }
            left = later;
        }
        Ok(tables)
    }

    async fn table(&self, name: &str) -> Result<Table, MoveError> {
        let sql = "SELECT a.attname::text, a.atttypid = 'bool'::regtype, a.attidentity <> ''
            FROM pg_attribute a WHERE a.attrelid = $1::text::regclass AND a.attnum > 0
              AND NOT a.attisdropped ORDER BY a.attnum";
        let columns = self.conn.rows(sql, values![name]).await.map_err(broke)?;
        let columns = columns.iter().map(|row| {
            Ok(Column {
                name: get(row, 0)?,
                is_flag: get(row, 1)?,
                is_numbered: get(row, 2)?,
            })
        });
        let sql = "SELECT a.attname::text FROM (
              SELECT indexrelid FROM pg_index WHERE indrelid = $1::text::regclass AND indisunique
                AND indpred IS NULL ORDER BY indisprimary DESC, indexrelid LIMIT 1) i
            JOIN pg_attribute a ON a.attrelid = i.indexrelid ORDER BY a.attnum";
        let key = self.conn.rows(sql, values![name]).await.map_err(broke)?;
        let key = key.iter().map(|row| get(row, 0));
        Ok(Table {
            name: name.to_owned(),
            columns: columns.collect::<Result<_, _>>().map_err(broke)?,
            key: key.collect::<Result<_, _>>().map_err(broke)?,
        })
    }

    /// Begins, or goes on. What a server that was never used has of its own goes first.
    pub(crate) async fn begin(&self) -> Result<(), MoveError> {
        if self.has_begun().await? {
            return Ok(());
        }
        let sql = "SELECT concat_ws(', ',
            (SELECT count(*) || ' sessions' FROM sessions HAVING count(*) > 0),
            (SELECT count(*) || ' agents' FROM agents HAVING count(*) > 0),
            (SELECT count(*) || ' keys' FROM api_keys HAVING count(*) > 0),
            (SELECT count(*) || ' workspaces' FROM workspaces HAVING count(*) > 1))";
        let row = self.conn.row(sql, values![]).await.map_err(broke)?;
        let found = row.map_or(Ok(String::new()), |row| get(&row, 0).map_err(broke))?;
        if !found.is_empty() {
            return Err(MoveError::NotEmpty { found });
        }
        let begun = self.conn.batch(
            "BEGIN; CREATE TABLE moves (name TEXT PRIMARY KEY, done BIGINT NOT NULL);
             DELETE FROM workspaces; DELETE FROM meta; DELETE FROM tallies; COMMIT",
        );
        begun.await.map_err(broke)
    }

    /// Rows of the table that are there.
    pub(crate) async fn done(&self, table: &str) -> Result<u64, MoveError> {
        let sql = "SELECT done FROM moves WHERE name = $1";
        let row = self.conn.row(sql, values![table]).await.map_err(broke)?;
        row.map_or(Ok(0), |row| super::row::number(&row, 0).map_err(broke))
    }

    /// Writes rows, and that there are `done` now: both or neither.
    pub(crate) async fn put(
        &self,
        table: &Table,
        rows: Vec<Vec<Cell>>,
        done: u64,
    ) -> Result<(), MoveError> {
        const DONE: &str = "INSERT INTO moves (name, done) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET done = excluded.done";
        let names = table
            .columns
            .iter()
            .map(|column| format!("\"{}\"", column.name));
        let marks = (1..=table.columns.len()).map(|n| format!("${n}"));
        let sql = format!(
            "INSERT INTO \"{}\" ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            table.name,
            names.collect::<Vec<_>>().join(", "),
            marks.collect::<Vec<_>>().join(", ")
        );
        let rows = rows.into_iter().map(|row| {
            let cells = row.into_iter().zip(&table.columns);
            cells.map(|(cell, column)| value(cell, column)).collect()
        });
        let rows = rows.collect::<Vec<Vec<Value<'_>>>>();
        let written = async {
            self.conn.batch("BEGIN").await?;
            self.conn.prepare(&sql).await?;
            try_join_all(rows.iter().map(|row| self.conn.execute(&sql, row))).await?;
            let row = values![&table.name, done.cast_signed()];
            self.conn.execute(DONE, row).await?;
            self.conn.batch("COMMIT").await
        };
        written.await.map_err(broke)
    }

    /// What the server has of the table.
    pub(crate) async fn sum(&self, table: &Table) -> Result<Sum, MoveError> {
        let columns = table
            .columns
            .iter()
            .map(|column| format!("\"{}\"", column.name));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT {columns} FROM \"{}\"", table.name);
        let rows = self.conn.stream(&sql).await.map_err(broke)?;
        let mut rows = std::pin::pin!(rows);
        let mut sum = Sum::default();
        loop {
            let row = rows.try_next().await;
            match row.map_err(|error| broke(error.into()))? {
                Some(row) => sum.add(&cells(&row, table).map_err(broke)?),
                None => return Ok(sum),
            }
        }
    }

    /// Numbers that the server gives out follow what there is, and whatever there was.
    pub(crate) async fn go_on_from(
        &self,
        table: &str,
        column: &str,
        last: i64,
    ) -> Result<(), MoveError> {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence($1, $2),
               greatest($3, (SELECT coalesce(max(\"{column}\"), 0) FROM \"{table}\")) + 1, false)"
        );
        let done = self.conn.rows(&sql, values![table, column, last]).await;
        done.map(|_| ()).map_err(broke)
    }

    /// It is done: servers may start. Workspaces of sessions are on `host`.
    pub(crate) async fn end(&self, host: &str) -> Result<(), MoveError> {
        let ended = async {
            self.conn.batch("BEGIN").await?;
            let sql = "UPDATE bindings SET host = $1 WHERE host IS NULL";
            self.conn.execute(sql, values![host]).await?;
            self.conn.batch("DROP TABLE moves; COMMIT; ANALYZE").await
        };
        ended.await.map_err(broke)
    }
}

fn value(cell: Cell, column: &Column) -> Value<'static> {
    match cell {
        Cell::Null => Value::Null,
        Cell::Int(n) if column.is_flag => Value::Flag(n != 0),
        Cell::Int(n) => Value::Int(n),
        Cell::Text(text) => Value::Text(text.into()),
        Cell::Bytes(bytes) => Value::Bytes(bytes.into()),
    }
}

/// A row in the form that the file has it in.
fn cells(row: &Row, table: &Table) -> Result<Vec<Cell>, super::fault::Failed> {
    use tokio_postgres::types::Type;
    let columns = row.columns().iter().zip(&table.columns).enumerate();
    let cells = columns.map(|(at, (column, of))| {
        Ok(match *column.type_() {
            Type::BYTEA => get::<Option<Vec<u8>>>(row, at)?.map_or(Cell::Null, Cell::Bytes),
            Type::INT8 => get::<Option<i64>>(row, at)?.map_or(Cell::Null, Cell::Int),
            _ if of.is_flag => {
                let flag = get::<Option<bool>>(row, at)?;
                flag.map_or(Cell::Null, |flag| Cell::Int(flag.into()))
            }
            _ => get::<Option<String>>(row, at)?.map_or(Cell::Null, Cell::Text),
        })
    });
    cells.collect()
}
