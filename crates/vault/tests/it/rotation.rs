//! Rotation of the master key: every secret opens before, during and after; API keys stay; a rotation that is
//! cut short anywhere loses nothing and goes on.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;

use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use serde_json::value::RawValue;
use store::vaults::{CredentialKind, NewCredential, Sealed};
use store::{Options, Store, Synchronous};
use vault::master::MasterKey;
use vault::rotate::RotateError;
use vault::secret::CredentialSecret;
use vault::{KeySource, OpenError, UnlockError, Vault};

const WS: WorkspaceId = WorkspaceId::Default;
const VAULT: VaultId = VaultId::from_bits(1);

struct Home {
    dir: tempfile::TempDir,
    store: Store,
}

impl Home {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options {
            synchronous: Synchronous::Off,
            caps: store::caps::Caps {
                vault_credentials: 100_000,
                ..Default::default()
            },
            ..Options::default()
        };
        let store = Store::open(&dir.path().join("t.db"), options).expect("a store");
        let made = store.create_vault(WS, VAULT, "v".to_owned(), [].into(), Micros(1));
        made.await.expect("a vault");
        Self { dir, store }
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("master.key")
    }

    async fn unlock(&self) -> Result<Vault, UnlockError> {
        Vault::unlock(&self.store, KeySource::File(self.key())).await
    }

    async fn add(&self, vault: &Vault, n: u128) {
        let id = CredentialId::from_bits(n);
        let secret = CredentialSecret::token(Secret::new(format!("secret {n}")));
        let sealed = vault.seal_credential(WS, id, &secret);
        self.put(id, sealed).await.expect("made");
    }

    async fn put(&self, id: CredentialId, sealed: Sealed) -> Result<(), store::Error> {
        let new = NewCredential {
            id,
            kind: CredentialKind::StaticBearer,
            slot: None,
            auth: RawValue::from_string("{}".to_owned()).expect("JSON"),
            display_name: None,
            metadata: [].into(),
            sealed,
        };
        let made = self.store.create_credential(WS, VAULT, new, Micros(2));
        made.await.map(|_| ())
    }

    async fn opens(&self, vault: &Vault, n: u128) -> Result<String, OpenError> {
        let id = CredentialId::from_bits(n);
        let row = self.store.credential(WS, VAULT, id).await.expect("there");
        let sealed = row.sealed.expect("sealed");
        let opened = vault.open_credential(WS, id, &sealed)?;
        Ok(opened.token.expose().to_owned())
    }

    async fn all_open(&self, vault: &Vault, count: u128) {
        for n in 1..=count {
            assert_eq!(self.opens(vault, n).await, Ok(format!("secret {n}")));
        }
    }

    fn files(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.dir.path()).expect("the directory");
        let names = names.map(|f| {
            f.expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        });
        let mut names = names.filter(|n| n.contains("key")).collect::<Vec<_>>();
        names.sort();
        names
    }
}

#[tokio::test]
async fn after_a_rotation_everything_opens_under_the_new_key_and_nothing_under_the_old() {
    let home = Home::new().await;
    let vault = home.unlock().await.expect("unlocked");
    for n in 1..=450 {
        home.add(&vault, n).await;
    }
    let (hash, old) = (
        vault.hash_api_key("x"),
        std::fs::read(home.key()).expect("the key"),
    );
    let done = vault.rotate(&home.store).await.expect("rotated");
    assert_eq!((done.version, done.wrapped), (2, 450));
    assert_eq!(home.files(), ["master.key"]);
    assert_ne!(std::fs::read(home.key()).expect("the key"), old);
    assert_eq!(vault.opened(), 0, "no secret was opened for it");
    home.all_open(&vault, 450).await;
    home.add(&vault, 451).await;
    let later = home.unlock().await.expect("unlocked");
    home.all_open(&later, 451).await;
    assert_eq!((later.hash_api_key("x"), later.key_version()), (hash, 2));
    let again = later.rotate(&home.store).await.expect("rotated");
    assert_eq!((again.version, again.wrapped), (3, 451));
    std::fs::write(home.key(), old).expect("written");
    let locked = home.unlock().await;
    assert!(matches!(locked, Err(UnlockError::Wrong)));
}

/// As two servers on one database do that share the key's file.
#[tokio::test]
async fn another_server_takes_up_a_rotation_and_its_end() {
    let (home, one, two) = half_rotated().await;
    // Both keys open, and the new one seals.
    two.follow(&home.store)
        .await
        .expect("the next key is there");
    assert!(two.is_rotating() && two.key_version() == 2);
    home.add(&two, 2).await;
    home.all_open(&two, 2).await;
    one.rotate(&home.store).await.expect("rotated");
    home.all_open(&two, 2).await;
    two.follow(&home.store).await.expect("it ended");
    assert!(!two.is_rotating());
    // One that heard nothing until all was over.
    for vault in [&one, &two] {
        vault.rotate(&home.store).await.expect("rotated");
        let (other, n) = if std::ptr::eq(vault, &one) {
            (&two, 3)
        } else {
            (&one, 4)
        };
        other
            .follow(&home.store)
            .await
            .expect("the key has its name by now");
        assert_eq!(
            (other.key_version(), other.is_rotating()),
            (vault.key_version(), false)
        );
        home.add(other, n).await;
        home.all_open(vault, n).await;
    }
}

#[tokio::test]
async fn a_server_that_was_not_given_the_next_key_says_so_and_can_store_nothing_under_the_old() {
    let home = Home::new().await;
    let key = || MasterKey::from_bytes([1; 32]);
    let next = Some(MasterKey::from_bytes([2; 32]));
    let source = |next| KeySource::Given { key: key(), next };
    let old = Vault::unlock(&home.store, source(None))
        .await
        .expect("unlocked");
    let new = Vault::unlock(&home.store, source(next))
        .await
        .expect("unlocked");
    home.add(&old, 1).await;
    new.rotate(&home.store).await.expect("rotated");
    assert!(matches!(
        old.follow(&home.store).await,
        Err(RotateError::NoNext)
    ));
    assert!(home.opens(&old, 1).await.is_err());
    let id = CredentialId::from_bits(2);
    let sealed = old.seal_credential(
        WS,
        id,
        &CredentialSecret::token(Secret::new("x".to_owned())),
    );
    let refused = home
        .put(id, sealed)
        .await
        .expect_err("sealed under the old key");
    let said = std::error::Error::source(&refused).map(ToString::to_string);
    assert!(
        said.is_some_and(|said| said.contains("restart it with that")),
        "{refused}"
    );
}

#[tokio::test]
async fn start_up_opens_no_secret() {
    let home = Home::new().await;
    let vault = home.unlock().await.expect("unlocked");
    for n in 1..=300 {
        home.add(&vault, n).await;
    }
    assert_eq!(home.unlock().await.expect("unlocked").opened(), 0);
}

/// Two that share a database and a credential, and a rotation that the first has begun and not ended.
async fn half_rotated() -> (Home, Vault, Vault) {
    loop {
        let home = Home::new().await;
        let (one, two) = (home.unlock().await.expect("unlocked"), home.unlock().await);
        let two = two.expect("unlocked");
        home.add(&one, 1).await;
        two.follow(&home.store).await.expect("nothing to follow");
        assert_eq!(two.key_version(), 1);
        // Where the database answers before it is asked whether it has, a rotation ends at once.
        if begun(&one, &home.store).await {
            return (home, one, two);
        }
    }
}

/// Rotates until the new key seals, and no further: as if the process had been killed there. False where it ended.
async fn begun(vault: &Vault, store: &Store) -> bool {
    let mut work = pin!(vault.rotate(store));
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(ended) => {
            ended.expect("rotated");
            Poll::Ready(false)
        }
        Poll::Pending if vault.is_rotating() => Poll::Ready(true),
        Poll::Pending => Poll::Pending,
    })
    .await
}
