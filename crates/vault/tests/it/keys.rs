//! API keys: minted, seeded, recognised, revoked.

use contract::ids::WorkspaceId;
use contract::secret::Secret;
use contract::time::Micros;
use store::keys::KeyRole;
use store::{Options, Store};
use vault::Vault;
use vault::keys::SeedError;
use vault::master::MasterKey;

fn fixture() -> (tempfile::TempDir, Store, Vault) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(&dir.path().join("t.db"), Options::default()).expect("a store");
    (dir, store, Vault::with(&MasterKey::from_bytes([1; 32])))
}

#[test]
fn a_minted_key_has_its_form_and_is_never_the_same() {
    let v = Vault::with(&MasterKey::from_bytes([1; 32]));
    let (one, two) = (v.mint_api_key(), v.mint_api_key());
    let text = one.secret.expose();
    let random = text.strip_prefix("lh_").expect("the prefix");
    assert_eq!(random.len(), 40);
    assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()));
    assert!(text.starts_with(&one.prefix) && text.ends_with(&one.last4));
    assert_eq!((one.prefix.len(), one.last4.len()), (7, 4));
    assert_ne!(text, two.secret.expose());
    assert_eq!(v.hash_api_key(text), one.hash);
}

#[test]
fn the_hash_depends_on_the_pepper() {
    let other = Vault::with(&MasterKey::from_bytes([2; 32]));
    let v = Vault::with(&MasterKey::from_bytes([1; 32]));
    assert_ne!(v.hash_api_key("x"), other.hash_api_key("x"));
}

#[tokio::test]
async fn a_key_opens_its_workspace_until_it_is_revoked() {
    let (_dir, store, v) = fixture();
    let (row, secret) = v
        .create_api_key(
            &store,
            WorkspaceId::Default,
            "mine".to_owned(),
            KeyRole::Operator,
            Micros(1),
        )
        .await
        .expect("made");
    // Twice: the second is answered from memory.
    for _ in 0..2 {
        let found = v
            .authenticate(&store, secret.expose())
            .await
            .expect("asked");
        assert_eq!(found.as_ref(), Some(&row));
    }
    assert_eq!(
        v.authenticate(&store, "lh_other").await.expect("asked"),
        None
    );
    store
        .revoke_api_key(row.id, Micros(2))
        .await
        .expect("revoked");
    assert_eq!(
        v.authenticate(&store, secret.expose())
            .await
            .expect("asked"),
        None
    );
}

#[tokio::test]
async fn seeding_a_key_twice_makes_one() {
    let (_dir, store, v) = fixture();
    let key = Secret::new("sixteen-letters!".to_owned());
    let one = v
        .seed_api_key(&store, &key, Micros(1))
        .await
        .expect("seeded");
    let two = v
        .seed_api_key(&store, &key, Micros(2))
        .await
        .expect("again");
    assert_eq!(one, two);
    let listed = store.api_keys(None).await.expect("listed");
    assert_eq!(listed, std::slice::from_ref(&one));
    assert!(
        one.prefix.len() + one.last4.len() <= 4,
        "a short key keeps its middle"
    );
    store
        .revoke_api_key(one.id, Micros(3))
        .await
        .expect("revoked");
    let revived = v.seed_api_key(&store, &key, Micros(4)).await;
    assert!(matches!(revived, Err(SeedError::Revoked)));
}

#[tokio::test]
async fn a_seeded_key_must_be_long_and_fit_a_header() {
    let (_dir, store, v) = fixture();
    let short = v
        .seed_api_key(&store, &Secret::new("x".repeat(15)), Micros(1))
        .await;
    assert!(matches!(short, Err(SeedError::TooShort { len: 15 })));
    for bad in ["sixteen letters!", "sixteen-letters\n", "sixteen-letterß!"] {
        let refused = v
            .seed_api_key(&store, &Secret::new(bad.to_owned()), Micros(1))
            .await;
        assert!(matches!(refused, Err(SeedError::NotAHeader)), "{bad}");
    }
}
