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

/// Polls `work` so many times and drops it: as if the process had been killed there. True if it ended before.
async fn cut_short(work: impl Future, polls: usize) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if work.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        Poll::Pending
    })
    .await
}

#[tokio::test]
async fn a_rotation_that_is_cut_short_anywhere_goes_on() {
    let mut ended = false;
    for polls in 0..60 {
        let home = Home::new().await;
        let vault = home.unlock().await.expect("unlocked");
        for n in 1..=450 {
            home.add(&vault, n).await;
        }
        let hash = vault.hash_api_key("x");
        ended = cut_short(vault.rotate(&home.store), polls).await;
        // Both in the process that goes on without its caller, and in the one that comes after it.
        home.all_open(&vault, 450).await;
        home.add(&vault, 451).await;
        if polls % 2 == 0 {
            drop(vault);
            let vault = home.unlock().await.expect("unlocked");
            go_on(&home, vault, &hash).await;
        } else {
            go_on(&home, vault, &hash).await;
        }
        if ended {
            break;
        }
    }
    assert!(ended, "the last one was not cut short");
}

async fn go_on(home: &Home, vault: Vault, hash: &store::keys::KeyHash) {
    home.all_open(&vault, 451).await;
    let begun = vault.is_rotating();
    let done = vault.rotate(&home.store).await.expect("rotated");
    assert!(done.version == 2 || !begun);
    home.all_open(&vault, 451).await;
    assert_eq!(home.files(), ["master.key"]);
    let vault = home.unlock().await.expect("unlocked");
    assert!(!vault.is_rotating());
    home.all_open(&vault, 451).await;
    assert_eq!(&vault.hash_api_key("x"), hash);
}

#[tokio::test]
async fn a_key_whose_rotation_ended_in_the_database_only_is_found_by_its_other_name() {
    let home = Home::new().await;
    let vault = home.unlock().await.expect("unlocked");
    home.add(&vault, 1).await;
    let old = std::fs::read(home.key()).expect("the key");
    vault.rotate(&home.store).await.expect("rotated");
    let next = home.dir.path().join("master.key.next");
    std::fs::rename(home.key(), &next).expect("as it was a moment before");
    put_key(&home.key(), &old);
    let vault = home.unlock().await.expect("unlocked");
    assert_eq!(home.files(), ["master.key"]);
    home.all_open(&vault, 1).await;
    let done = vault.rotate(&home.store).await.expect("rotated");
    assert_eq!(done.version, 3);
    home.all_open(&home.unlock().await.expect("unlocked"), 1)
        .await;
}

fn put_key(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.expect("made").write_all(bytes).expect("written");
}

#[tokio::test]
async fn a_begun_rotation_without_its_key_refuses_to_start_and_says_what_is_missing() {
    let home = Home::new().await;
    let vault = home.unlock().await.expect("unlocked");
    home.add(&vault, 1).await;
    let begun = home.store.begin_rotation(b"of a key that is lost".to_vec());
    begun.await.expect("begun");
    let locked = home.unlock().await.expect_err("refused").to_string();
    assert!(locked.contains("master.key.next"), "{locked}");
}

#[tokio::test]
async fn given_keys_rotate_to_the_next_one_that_is_given() {
    let home = Home::new().await;
    let key = |byte| MasterKey::from_bytes([byte; 32]);
    let unlock = |key, next| Vault::unlock(&home.store, KeySource::Given { key, next });
    let vault = unlock(key(1), None).await.expect("unlocked");
    home.add(&vault, 1).await;
    let none = vault.rotate(&home.store).await;
    assert!(matches!(none, Err(RotateError::NoNext)));
    let same = unlock(key(1), Some(key(1))).await.expect("unlocked");
    let same = same.rotate(&home.store).await;
    assert!(matches!(same, Err(RotateError::Same)));
    let vault = unlock(key(1), Some(key(2))).await.expect("unlocked");
    vault.rotate(&home.store).await.expect("rotated");
    home.all_open(&vault, 1).await;
    for (key, next) in [(key(2), None), (key(1), Some(key(2)))] {
        home.all_open(&unlock(key, next).await.expect("unlocked"), 1)
            .await;
    }
    let old = unlock(key(1), None).await;
    assert!(matches!(old, Err(UnlockError::Wrong)));
}

#[tokio::test]
async fn a_secret_that_does_not_open_keeps_the_old_key_until_it_is_gone() {
    let home = Home::new().await;
    let vault = home.unlock().await.expect("unlocked");
    home.add(&vault, 1).await;
    let damaged = CredentialId::from_bits(2);
    let sealed = Sealed {
        blob: vec![1; 100],
        key_version: 1,
    };
    home.put(damaged, sealed).await.expect("made");
    let error = vault.rotate(&home.store).await.expect_err("refused");
    assert!(error.to_string().contains(&damaged.to_string()), "{error}");
    assert!(vault.is_rotating());
    home.all_open(&vault, 1).await;
    let gone = home.store.delete_credential(WS, VAULT, damaged).await;
    gone.expect("deleted");
    let done = vault.rotate(&home.store).await.expect("rotated");
    assert_eq!(
        (done.version, done.wrapped),
        (2, 0),
        "the other was wrapped before"
    );
    home.all_open(&home.unlock().await.expect("unlocked"), 1)
        .await;
}
