//! What the store remembers is forgotten before a change is answered.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Waker};

use contract::ids::{ApiKeyId, CredentialId, VaultId};
use store::keys::{ApiKeyRow, KeyHash, KeyRole};
use store::vaults::{CredentialKind, NewCredential, Sealed};
use store::{Error, Thing};

use crate::support::*;

fn key() -> ApiKeyRow {
    ApiKeyRow {
        id: ApiKeyId::from_bits(1),
        workspace: WS,
        hash: KeyHash([1; 32]),
        prefix: "lh_abcd".to_owned(),
        last4: "wxyz".to_owned(),
        name: "k".to_owned(),
        role: KeyRole::Workspace,
        created_at: at(1),
        revoked_at: None,
    }
}

#[tokio::test]
async fn a_key_is_locked_out_even_if_whoever_revoked_it_did_not_wait() {
    let f = super::fixture().await;
    f.store.create_api_key(key()).await.expect("made");
    let known = f.store.authenticate(key().hash).await.expect("asked");
    assert!(known.is_some());
    {
        let mut revoking = pin!(f.store.revoke_api_key(key().id, at(2)));
        // It is queued, and its caller goes away, whether it is done by then or not.
        let _ = revoking
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
    // Writes are done in order: when this one is answered, so is the one before it.
    f.store.meta_set("k", vec![1]).await.expect("set");
    let known = f.store.authenticate(key().hash).await.expect("asked");
    assert!(known.is_none());
}

#[tokio::test]
async fn every_change_of_what_a_session_is_made_from_is_seen_at_once() {
    let f = super::fixture().await;
    let store = &f.store;
    let (agent, environment) = definitions(store).await;
    let (vault, credential) = (VaultId::from_bits(1), CredentialId::from_bits(1));
    let made = store.create_vault(WS, vault, "v".to_owned(), [].into(), at(1));
    made.await.expect("a vault");
    let resolve = async || {
        let resolved = store.resolve_for_session(WS, agent, None, environment, vec![vault]);
        let first = format!("{:?}", resolved.await);
        let resolved = store.resolve_for_session(WS, agent, None, environment, vec![vault]);
        assert_eq!(format!("{:?}", resolved.await), first);
        first
    };
    let mut seen = BTreeSet::from([resolve().await]);
    let mut changed = async |what: &str| assert!(seen.insert(resolve().await), "{what}");

    let done = store.update_agent(WS, agent, 1, raw(r#"{"name":"b"}"#), at(2));
    done.await.expect("changed");
    changed("an agent's version").await;
    let name = "f".to_owned();
    let done = store.update_environment(WS, environment, 1, name, raw("{}"), at(3));
    done.await.expect("changed");
    changed("an environment").await;
    let done = store.update_vault(WS, vault, 1, "w".to_owned(), [].into(), at(4));
    done.await.expect("changed");
    changed("a vault").await;
    let new = NewCredential {
        id: credential,
        kind: CredentialKind::StaticBearer,
        slot: None,
        auth: raw("{}"),
        display_name: None,
        metadata: [].into(),
        sealed: Sealed {
            blob: vec![1],
            key_version: 1,
        },
    };
    let done = store.create_credential(WS, vault, new.clone(), at(5));
    done.await.expect("made");
    changed("a new credential").await;
    let done = store.archive_credential(WS, vault, credential, at(6));
    done.await.expect("archived");
    let second = NewCredential {
        id: CredentialId::from_bits(2),
        ..new
    };
    let done = store.create_credential(WS, vault, second, at(7));
    done.await.expect("made");
    changed("another credential in its place").await;
    store
        .archive_vault(WS, vault, at(8))
        .await
        .expect("archived");
    changed("a vault that is archived").await;
    store.delete_vault(WS, vault).await.expect("deleted");
    changed("a vault that is gone").await;

    let resolved = store.resolve_for_session(WS, agent, None, environment, Vec::new());
    resolved.await.expect("usable without a vault");
    store
        .archive_agent(WS, agent, at(9))
        .await
        .expect("archived");
    let refused = store.resolve_for_session(WS, agent, None, environment, Vec::new());
    assert!(matches!(refused.await, Err(Error::Archived(Thing::Agent))));
}

#[tokio::test]
async fn no_session_is_made_from_what_was_archived_or_removed_since_the_last_one() {
    let f = super::fixture().await;
    let store = &f.store;
    let (agent, environment) = definitions(store).await;
    let vault = VaultId::from_bits(1);
    let made = store.create_vault(WS, vault, "v".to_owned(), [].into(), at(1));
    made.await.expect("a vault");
    let mut made = 0;
    let mut create = async |vaults: &[VaultId]| {
        made += 1;
        let mut new = new_session(made, agent, environment, Vec::new());
        new.vault_ids = vaults.to_vec();
        store.create_session(new, at(2), made).await.map(|_| ())
    };
    for vaults in [&[vault][..], &[vault], &[], &[]] {
        create(vaults).await.expect("made");
    }
    let archived = store.archive_vault(WS, vault, at(3)).await;
    archived.expect("archived");
    let refused = create(&[vault]).await;
    assert!(matches!(refused, Err(Error::Archived(Thing::Vault(_)))));
    create(&[]).await.expect("made without it");
    // Both are asked for at once, and done in this order.
    let (archived, refused) = tokio::join!(
        store.archive_environment(WS, environment, at(4)),
        create(&[])
    );
    archived.expect("archived");
    assert!(matches!(
        refused,
        Err(Error::Archived(Thing::Environment(_)))
    ));
    store
        .archive_agent(WS, agent, at(5))
        .await
        .expect("archived");
    let refused = create(&[]).await;
    assert!(matches!(refused, Err(Error::Archived(Thing::Agent))));
}
