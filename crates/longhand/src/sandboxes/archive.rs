//! `sandbox export`, `import`: whole workspaces to and from files here. It looks into no archive.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{copy, path};
use crate::client::Client;

/// How often somebody who watches is told how far it is.
const TOLD: Duration = Duration::from_millis(500);

/// `longhand sandbox export`
pub(super) async fn export(
    client: &Client,
    id: &str,
    snapshot: bool,
    to: Option<PathBuf>,
) -> anyhow::Result<()> {
    let from = match snapshot {
        true => format!("/v1/x/snapshots/{}/export", sandbox::SnapshotId::new(id)?),
        false => path(id, "/export")?,
    };
    if to.is_none() && io::stdout().is_terminal() {
        bail!("an archive is nothing to look at: give `--output FILE`, or send it into a pipe");
    }
    let mut bytes = client.download(&from).await?;
    let mut progress = Progress::new("written");
    match to {
        Some(to) => {
            let received = copy::receive(bytes, &to, 0o600, |some| progress.more(some)).await;
            received.with_context(|| to.display().to_string())?;
        }
        None => {
            while let Some(piece) = bytes.next().await? {
                io::stdout().write_all(&piece)?;
                progress.more(piece.len());
            }
            io::stdout().flush()?;
        }
    }
    progress.end();
    Ok(())
}

/// `longhand sandbox import`
pub(super) async fn import(
    client: &Client,
    id: &str,
    from: Option<PathBuf>,
) -> anyhow::Result<Value> {
    let into = path(id, "/import")?;
    let file: Box<dyn Read + Send> = match from.filter(|from| from != Path::new("-")) {
        Some(from) => Box::new(File::open(&from).with_context(|| from.display().to_string())?),
        None if io::stdin().is_terminal() => {
            bail!("give the archive's FILE, or send it into a pipe");
        }
        None => Box::new(io::stdin()),
    };
    let mut progress = Progress::new("sent");
    let answer = copy::send(client, &into, file, move |some| progress.more(some)).await?;
    serde_json::from_slice(&answer).context("the answer is not JSON")
}

/// Tells somebody at a terminal how far it is.
struct Progress {
    what: &'static str,
    bytes: usize,
    next: Option<Instant>,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        let watched = io::stderr().is_terminal();
        Self {
            what,
            bytes: 0,
            next: watched.then(|| Instant::now() + TOLD),
        }
    }

    fn more(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.next.is_some_and(|next| Instant::now() > next) {
            self.next = Some(Instant::now() + TOLD);
            eprint!("\r{} MiB {}", self.bytes >> 20, self.what);
        }
    }

    fn end(&self) {
        if self.next.is_some() {
            eprintln!("\r{} MiB {}", self.bytes >> 20, self.what);
        }
    }
}
