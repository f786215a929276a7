//! The key file and the check against the database.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use contract::secret::Secret;
use store::{Options, Store};
use vault::master::{MasterKey, MasterKeyError};
use vault::{KeySource, UnlockError, Vault};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("master.key")
    }

    fn store(&self) -> Store {
        Store::open(&self.0.path().join("t.db"), Options::default()).expect("a store")
    }
}

#[test]
fn a_made_key_is_private_and_reads_back() {
    let home = Home::new();
    MasterKey::create(&home.key()).expect("made");
    let about = std::fs::metadata(home.key()).expect("there");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(about.len(), 32);
    assert_ne!(std::fs::read(home.key()).expect("bytes"), [0; 32]);
    MasterKey::load(&home.key()).expect("read");
    let files = std::fs::read_dir(home.0.path())
        .expect("the directory")
        .count();
    assert_eq!(files, 1, "no draft is left");
}

#[test]
fn an_existing_key_is_never_replaced() {
    let home = Home::new();
    MasterKey::create(&home.key()).expect("made");
    let before = std::fs::read(home.key()).expect("bytes");
    let again = MasterKey::create(&home.key());
    assert!(matches!(again, Err(MasterKeyError::Io { .. })));
    assert_eq!(std::fs::read(home.key()).expect("bytes"), before);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_cure() {
    let home = Home::new();
    MasterKey::create(&home.key()).expect("made");
    for mode in [0o640, 0o604, 0o660, 0o644] {
        let wide = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(home.key(), wide).expect("chmod");
        let error = MasterKey::load(&home.key()).expect_err("refused");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert!(
            error.to_string().contains(&format!("{mode:03o}")),
            "{error}"
        );
    }
}

#[test]
fn a_short_long_or_linked_key_is_refused() {
    let home = Home::new();
    for len in [0, 31, 33] {
        std::fs::write(home.key(), vec![1; len]).expect("written");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(home.key(), private).expect("chmod");
        let loaded = MasterKey::load(&home.key());
        assert!(
            matches!(loaded, Err(MasterKeyError::Malformed { .. })),
            "{len}"
        );
    }
    std::fs::remove_file(home.key()).expect("removed");
    let real = home.0.path().join("real");
    MasterKey::create(&real).expect("made");
    std::os::unix::fs::symlink(&real, home.key()).expect("linked");
    assert!(matches!(
        MasterKey::load(&home.key()),
        Err(MasterKeyError::Io { .. })
    ));
}

#[test]
fn a_given_key_is_hex_or_base64_and_nothing_else() {
    let hex = "0f".repeat(32);
    let base64 = "Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8=";
    for good in [hex.as_str(), base64, &format!("{hex}\n")] {
        assert!(
            MasterKey::parse(&Secret::new(good.to_owned())).is_ok(),
            "{good}"
        );
    }
    let long = "A".repeat(4_000);
    for bad in [
        "",
        "0f",
        &hex[1..],
        &hex.replace('0', "x"),
        &base64[4..],
        &long,
        "ä".repeat(32).as_str(),
    ] {
        let parsed = MasterKey::parse(&Secret::new(bad.to_owned()));
        assert!(matches!(parsed, Err(MasterKeyError::NotAKey)), "{bad}");
    }
}

#[tokio::test]
async fn the_first_start_makes_the_key_and_later_ones_use_it() {
    let home = Home::new();
    let store = home.store();
    let first = Vault::unlock(&store, KeySource::File(home.key()))
        .await
        .expect("first");
    let again = Vault::unlock(&store, KeySource::File(home.key()))
        .await
        .expect("again");
    assert_eq!(first.hash_api_key("x"), again.hash_api_key("x"));
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_by_a_new_one() {
    let home = Home::new();
    let store = home.store();
    Vault::unlock(&store, KeySource::File(home.key()))
        .await
        .expect("first");
    std::fs::remove_file(home.key()).expect("removed");
    let locked = Vault::unlock(&store, KeySource::File(home.key())).await;
    assert!(matches!(locked, Err(UnlockError::Missing { .. })));
    assert!(!home.key().exists());
}

#[tokio::test]
async fn another_key_does_not_unlock() {
    let home = Home::new();
    let store = home.store();
    Vault::unlock(&store, KeySource::File(home.key()))
        .await
        .expect("first");
    let other = KeySource::Given {
        key: MasterKey::from_bytes([7; 32]),
        next: None,
    };
    let locked = Vault::unlock(&store, other).await;
    assert!(matches!(locked, Err(UnlockError::Wrong)));
}
