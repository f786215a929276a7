//! `longhand move`: the database of this data directory goes to a PostgreSQL server. What goes with it and what does
//! not, it says.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::cli::Move;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::database;

/// Moves, and prints one line of JSON a table.
///
/// # Errors
/// A server runs on the data directory; an end of the move is not what it should be; it broke.
pub async fn run(what: &Move, config: &Config, data_dir: &DataDir) -> anyhow::Result<()> {
    let from = match what.from.as_deref() {
        None => data_dir.join("longhand.db"),
        Some(url) => match url.strip_prefix("sqlite://") {
            Some(path) => PathBuf::from(path),
            None => bail!("--from is not sqlite:///path/to/longhand.db"),
        },
    };
    if !from.is_file() {
        bail!("there is no database at {}", from.display());
    }
    let _lock = data_dir.lock().context("stop the server first")?;
    let host = database::replica(&config.server, data_dir)?.name;
    let moved = store::moving::run(&from, &what.to, host.as_str(), |one| {
        let digest = one.sum.digest.map(|word| format!("{word:016x}")).concat();
        let line = serde_json::json!({"table": one.table, "rows": one.sum.rows, "digest": digest});
        println!("{line}");
    });
    let moved = moved.await?;
    let rows = moved.iter().map(|one| one.sum.rows).sum::<u64>();
    eprintln!(
        "moved: {} tables, {rows} rows, the same on both sides",
        moved.len()
    );
    eprintln!("not moved, and needed by every server on the new database:");
    let key = data_dir.join("master.key");
    if key.is_file() {
        eprintln!(
            "  the master key, in {}: give it to them as LONGHAND_MASTER_KEY or by vault.key_command",
            key.display()
        );
    } else {
        eprintln!("  the master key, from where this server has it");
    }
    eprintln!(
        "  {}, if there are any: on storage that all share",
        data_dir.join("blobs").display()
    );
    eprintln!(
        "workspaces of sandboxes stay on this host; the server that is to have them is named {:?} (server.replica)",
        host.as_str()
    );
    Ok(())
}
