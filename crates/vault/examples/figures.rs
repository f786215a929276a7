//! Figures of docs/benchmarks.md: how long it takes to find and open one credential of a vault that holds 10,000,
//! and to unlock a database that holds 100,000 secrets. `cargo run --release -p vault --example figures`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use serde_json::value::RawValue;
use store::vaults::{CredentialKind, NewCredential, Slot};
use store::{Options, Store, Synchronous};
use tokio::task::JoinSet;
use vault::secret::CredentialSecret;
use vault::{KeySource, Vault};

const WS: WorkspaceId = WorkspaceId::Default;
/// The large vault.
const MANY: u128 = 10_000;
/// Further ones, each of [`EACH`].
const OTHERS: u128 = 900;
const EACH: u128 = 100;

fn url(n: u128) -> Slot {
    Slot::McpServerUrl(format!("https://host-{n}.example/mcp"))
}

async fn fill(store: Store, vault: Arc<Vault>, v: u128, count: u128) {
    let home = VaultId::from_bits(v + 1);
    let made = store.create_vault(WS, home, "v".to_owned(), [].into(), Micros(1));
    made.await.unwrap();
    for n in 0..count {
        let id = CredentialId::from_bits(v * MANY + n + 1);
        let secret = CredentialSecret::token(Secret::new(format!("secret {n}")));
        let new = NewCredential {
            id,
            kind: CredentialKind::StaticBearer,
            slot: Some(url(n)),
            auth: RawValue::from_string("{}".to_owned()).unwrap(),
            display_name: None,
            metadata: [].into(),
            sealed: vault.seal_credential(WS, id, &secret),
        };
        store
            .create_credential(WS, home, new, Micros(2))
            .await
            .unwrap();
    }
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        synchronous: Synchronous::Off,
        caps: store::caps::Caps {
            vault_credentials: u32::MAX,
            ..Default::default()
        },
        ..Options::default()
    };
    let path = dir.path().join("t.db");
    let key = || KeySource::File(dir.path().join("master.key"));
    let store = Store::open(&path, options).unwrap();
    let vault = Arc::new(Vault::unlock(&store, key()).await.unwrap());
    let mut writers = JoinSet::new();
    for v in 0..=OTHERS {
        let count = if v == 0 { MANY } else { EACH };
        writers.spawn(fill(store.clone(), vault.clone(), v, count));
    }
    writers.join_all().await;
    store.close().await;

    let begun = Instant::now();
    let store = Store::open(&path, options).unwrap();
    let vault = Vault::unlock(&store, key()).await.unwrap();
    println!(
        "open and unlock 100,000 secrets: {:?}, {} opened",
        begun.elapsed(),
        vault.opened()
    );

    let mut times = Vec::new();
    for n in 0..2_000 {
        let begun = Instant::now();
        let vaults = vec![VaultId::from_bits(1)];
        let row = store
            .credential_at(WS, vaults, url(n * 4 % MANY))
            .await
            .unwrap()
            .unwrap();
        let sealed = row.sealed.unwrap();
        let opened = vault.open_credential(WS, row.id, &sealed).unwrap();
        assert!(opened.token.expose().starts_with("secret"));
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |part: usize| times[times.len() * part / 100];
    let most = times.last().copied().unwrap_or(Duration::ZERO);
    println!(
        "one of 10,000: p50 {:?}, p99 {:?}, most {most:?}",
        at(50),
        at(99)
    );

    let begun = Instant::now();
    let done = vault.rotate(&store).await.unwrap();
    println!("rotate {} secrets: {:?}", done.wrapped, begun.elapsed());
}
