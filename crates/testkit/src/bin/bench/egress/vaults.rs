//! What vaults cost that hold much: finding and opening one credential among 10,000, and starting the real server over
//! 100,000 secrets. Each beside a floor of the same run: the same row read by its primary key and opened, and the same
//! server over none.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use rusqlite::{Connection, OpenFlags};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::caps::Caps;
use store::vaults::{CredentialKind, NewCredential, Sealed, Slot};
use store::{Options, Store, Synchronous};
use testkit::process::Launch;
use testkit::setting;
use tokio::task::JoinSet;
use vault::secret::CredentialSecret;
use vault::{KeySource, Vault};

use super::ROUNDS;
use crate::Wrong;
use crate::numbers::{median, millis, percentile, rounded};

const WORKSPACE: WorkspaceId = WorkspaceId::Default;
/// Credentials of the vault that is asked, and of each further one, of which there are as many as make [`SECRETS`].
const MANY: usize = 10_000;
const EACH: usize = 100;
const SECRETS: usize = 100_000;
/// How often one is looked for.
const LOOKS: usize = 2_000;
/// No number has a divisor in common with [`MANY`]: what is looked for lies all over the vault.
const STEP: usize = 4_007;
/// What is wanted: one of 10,000 in less than a millisecond.
const TARGET_US: f64 = 1_000.0;

/// Fills a database, looks in it, and starts the server on it.
pub(super) async fn run() -> Result<Value, Wrong> {
    let launch = || Launch::new("target/release/longhand");
    let (full, empty) = (launch()?, launch()?);
    // Both have been started once: migrations and a master key are no part of this.
    for launch in [&full, &empty] {
        started(launch).await?;
    }
    let figures = resolve(full.data_dir()).await?;
    let (mut ours, mut floor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS) {
        let (with, without) = (started(&full).await?, started(&empty).await?);
        ours.push(with);
        floor.push(without);
        ratios.push(with.as_secs_f64() / without.as_secs_f64());
    }
    Ok(json!({
        "resolve": figures,
        "start": {
            "secrets": SECRETS, "opened": unlocked(full.data_dir()).await?,
            "figure_ms": millis(percentile(&ours, 50)), "floor_ms": millis(percentile(&floor, 50)),
            "floor": "no secrets", "ratio": rounded(median(ratios)),
        },
    }))
}

/// How long that server takes until it listens. It is stopped again.
async fn started(launch: &Launch) -> Result<Duration, Wrong> {
    let begun = Instant::now();
    let server = launch.start().await;
    let took = begun.elapsed();
    server.terminate();
    server.ended().await;
    Ok(took)
}

/// How many secrets are opened when the database is unlocked, as the server does it.
async fn unlocked(dir: &Path) -> Result<u64, Wrong> {
    let (store, vault) = opened(dir).await?;
    let opened = vault.opened();
    store.close().await;
    Ok(opened)
}

/// The database of a server that does not run, and what opens its secrets.
async fn opened(dir: &Path) -> Result<(Store, Arc<Vault>), Wrong> {
    let options = Options {
        // Only filling it writes.
        synchronous: Synchronous::Off,
        caps: Caps {
            vault_credentials: u32::MAX,
            ..Caps::default()
        },
        ..Options::default()
    };
    let store = Store::open(&dir.join("longhand.db"), options)?;
    let vault = Vault::unlock(&store, KeySource::File(dir.join("master.key"))).await?;
    Ok((store, Arc::new(vault)))
}

/// Makes the secrets, and looks one of 10,000 up by what a client asks for: ours, and by turns the floor.
async fn resolve(dir: &Path) -> Result<Value, Wrong> {
    let (store, vault) = opened(dir).await?;
    let mut writers = JoinSet::new();
    let others = (SECRETS - MANY) / EACH;
    for (number, count) in std::iter::once(MANY)
        .chain(std::iter::repeat_n(EACH, others))
        .enumerate()
    {
        writers.spawn(fill(store.clone(), Arc::clone(&vault), number, count));
    }
    while let Some(filled) = writers.join_next().await {
        filled??;
    }
    let by_key =
        Connection::open_with_flags(dir.join("longhand.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (mut ours, mut floor) = (Vec::with_capacity(LOOKS), Vec::with_capacity(LOOKS));
    for look in 0..LOOKS {
        let number = look * STEP % MANY;
        let begun = Instant::now();
        let found = store
            .credential_at(WORKSPACE, vec![home(0)], slot(number))
            .await?;
        let found = found.ok_or("a credential is not found")?;
        let sealed = found.sealed.ok_or("a credential has no secret")?;
        open(&vault, found.id, &sealed, number)?;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        let id = id(0, number);
        let sealed = row(&by_key, id)?;
        open(&vault, id, &sealed, number)?;
        floor.push(begun.elapsed());
    }
    store.close().await;
    let micros =
        |times: &[Duration], percent| rounded(percentile(times, percent).as_secs_f64() * 1e6);
    let (figure, least) = (micros(&ours, 50), micros(&floor, 50));
    Ok(json!({
        "credentials": MANY, "secrets": SECRETS,
        "figure_us": figure, "p99_us": micros(&ours, 99),
        "floor_us": least, "floor_p99_us": micros(&floor, 99), "floor": "the row by its primary key, opened",
        "ratio": rounded(figure / least.max(1e-9)), "target_us": TARGET_US,
    }))
}

/// The least that can be done for it on this file.
fn row(conn: &Connection, id: CredentialId) -> Result<Sealed, Wrong> {
    let sql = "SELECT sealed, key_version FROM credentials WHERE id = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row([id.to_string()], |row| {
        Ok(Sealed {
            blob: row.get(0)?,
            key_version: row.get(1)?,
        })
    })?)
}

fn open(vault: &Vault, id: CredentialId, sealed: &Sealed, number: usize) -> Result<(), Wrong> {
    let opened = vault.open_credential(WORKSPACE, id, sealed)?;
    match opened.token.expose() == secret(number) {
        true => Ok(()),
        false => Err("another secret than was asked for".into()),
    }
}

/// A vault of so many credentials.
async fn fill(store: Store, vault: Arc<Vault>, number: usize, count: usize) -> Result<(), Wrong> {
    let home = home(number);
    let name = format!("vault {number}");
    store
        .create_vault(WORKSPACE, home, name, [].into(), Micros(1))
        .await?;
    for one in 0..count {
        let id = id(number, one);
        let secret = CredentialSecret::token(Secret::new(secret(one)));
        let new = NewCredential {
            id,
            kind: CredentialKind::StaticBearer,
            slot: Some(slot(one)),
            auth: RawValue::from_string("{}".to_owned())?,
            display_name: None,
            metadata: [].into(),
            sealed: vault.seal_credential(WORKSPACE, id, &secret),
        };
        store
            .create_credential(WORKSPACE, home, new, Micros(2))
            .await?;
    }
    Ok(())
}

fn home(number: usize) -> VaultId {
    VaultId::from_bits(number as u128 + 1)
}

fn id(vault: usize, number: usize) -> CredentialId {
    CredentialId::from_bits((vault * MANY + number) as u128 + 1)
}

fn slot(number: usize) -> Slot {
    Slot::McpServerUrl(format!("https://host-{number}.example/mcp"))
}

fn secret(number: usize) -> String {
    format!("secret {number}")
}
