//! Moving a database from a file to a PostgreSQL server: whole, in steps that can be taken up again, and counted and
//! summed on both sides before it counts as done. It knows no table by name: what is there is moved.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::mpsc;

use crate::error::OpenError;
use crate::postgres::moving::Target;
use crate::sqlite;
use crate::store::{Options, Store};

/// Rows that go in one transaction, and in one piece between the two sides.
pub(crate) const PIECE: usize = 500;

/// Why a database was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// One of the two cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something in the target already.
    #[error("the target is not empty: {found}; make a new database for it")]
    NotEmpty {
        /// What was found.
        found: String,
    },
    /// The two do not have the same tables or columns.
    #[error("table {table} is not the same on both sides: {why}")]
    Unlike {
        /// Which.
        table: String,
        /// What differs.
        why: String,
    },
    /// What was read back is not what was written.
    #[error(
        "table {table} has {} rows in the file and {} on the server, or other contents: was the file written \
         meanwhile? drop the database on the server and begin anew",
        file.rows,
        server.rows
    )]
    Differs {
        /// Which.
        table: String,
        /// What the file has.
        file: Sum,
        /// What the server has.
        server: Sum,
    },
    /// One side failed; the same command goes on where it stopped.
    #[error("{0}; the same command goes on where this one stopped")]
    Broke(String),
}

/// A value of any column, as both sides have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Rows of a table and a sum of their contents, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// The sum of their SHA-256, a wrapping 64 bits at a time.
    pub digest: [u64; 4],
}

impl Sum {
    pub(crate) fn add(&mut self, row: &[Cell]) {
        let mut bytes = Vec::with_capacity(256);
        for cell in row {
            let (tag, content): (u8, &[u8]) = match cell {
                Cell::Null => (0, &[]),
                Cell::Int(n) => (1, &n.to_be_bytes()),
                Cell::Text(text) => (2, text.as_bytes()),
                Cell::Bytes(bytes) => (3, bytes),
            };
            bytes.push(tag);
            bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
            bytes.extend_from_slice(content);
        }
        self.rows += 1;
        let hash = digest(&SHA256, &bytes);
        let words = hash.as_ref().chunks_exact(8);
        for (sum, word) in self.digest.iter_mut().zip(words) {
            let word = word.try_into().map_or(0, u64::from_be_bytes);
            *sum = sum.wrapping_add(word);
        }
    }
}

/// A table that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its name.
    pub table: String,
    /// What both sides have of it.
    pub sum: Sum,
}

/// A table as the server has it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// Columns by which its rows have one order.
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Numbers on a file.
    pub(crate) is_flag: bool,
    /// The server numbers it.
    pub(crate) is_numbered: bool,
}

/// Moves the database in the file `from` to the server that `url` names. Nobody else may use either. `host` is the
/// name under which the server of this machine will use it: the workspaces of its sessions are here. `told` hears of
/// each table.
///
/// # Errors
/// [`MoveError`]. Whatever was moved until then stays, and the same call goes on from there; until it is done no
/// server starts on the target.
pub async fn run(
    from: &Path,
    url: &str,
    host: &str,
    mut told: impl FnMut(&Moved),
) -> Result<Vec<Moved>, MoveError> {
    // Brought to this build's schema, as the target is.
    let path = from.to_owned();
    let opened = tokio::task::spawn_blocking(move || Store::open(&path, Options::default())).await;
    opened.map_err(broke)??.close().await;
    let target = Target::open(url, Options::default()).await?;
    let tables = target.tables().await?;
    let known = sqlite::moving::tables(from).map_err(broke)?;
    let unknown = |name: &&String| tables.iter().all(|table| table.name != **name);
    if let Some(table) = known.iter().find(unknown) {
        return Err(MoveError::Unlike {
            table: table.clone(),
            why: "the server has none of that name".to_owned(),
        });
    }
    target.begin().await?;
    let mut moved = Vec::new();
    for table in tables {
        let file = copy(from, &target, &table).await?;
        let sum = target.sum(&table).await?;
        if sum != file {
            return Err(MoveError::Differs {
                table: table.name,
                file,
                server: sum,
            });
        }
        let numbered = table.columns.iter().find(|column| column.is_numbered);
        if let Some(column) = numbered {
            let last = sqlite::moving::last_number(from, &table.name).map_err(broke)?;
            target.go_on_from(&table.name, &column.name, last).await?;
        }
        let one = Moved {
            table: table.name,
            sum,
        };
        told(&one);
        moved.push(one);
    }
    target.end(host).await?;
    Ok(moved)
}

/// Moves what is not yet there of a table; what the file has of it.
async fn copy(from: &Path, target: &Target, table: &Table) -> Result<Sum, MoveError> {
    let mut done = target.done(&table.name).await?;
    let mut skip = done;
    let (pieces, mut read) = mpsc::channel::<Vec<Vec<Cell>>>(2);
    let (path, of) = (from.to_owned(), table.clone());
    let reading = tokio::task::spawn_blocking(move || sqlite::moving::read(&path, &of, &pieces));
    let mut sum = Sum::default();
    while let Some(mut piece) = read.recv().await {
        piece.iter().for_each(|row| sum.add(row));
        // What is there already was moved by a call before.
        let known = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
        skip -= known as u64;
        piece.drain(..known);
        if !piece.is_empty() {
            done += piece.len() as u64;
            target.put(table, piece, done).await?;
        }
    }
    reading.await.map_err(broke)?.map_err(broke)?;
    Ok(sum)
}

pub(crate) fn broke(error: impl std::error::Error) -> MoveError {
    let below = error.source().map(|below| format!(": {below}"));
    MoveError::Broke(format!("{error}{}", below.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_knows_no_order_and_every_difference() {
        let rows = [
            vec![Cell::Int(1), Cell::Text("a".to_owned())],
            vec![Cell::Null, Cell::Bytes(vec![1])],
        ];
        let sum = |rows: &[Vec<Cell>]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        let [first, second] = rows.clone();
        assert_eq!(sum(&rows), sum(&[second, first.clone()]));
        assert_ne!(sum(&rows), sum(&[first.clone(), first]));
        let split = vec![Cell::Text("ab".to_owned()), Cell::Text(String::new())];
        let other = vec![Cell::Text("a".to_owned()), Cell::Text("b".to_owned())];
        assert_ne!(sum(&[split]), sum(&[other]));
    }
}
