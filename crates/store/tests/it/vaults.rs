//! Vaults and credentials at rest.

use contract::ids::{CredentialId, MintedWorkspaceId, VaultId, WorkspaceId};
use store::page::List;
use store::vaults::{CredentialChange, CredentialKind, CredentialRow, NewCredential, Sealed, Slot};
use store::{Conflict, Error, Store, Thing};

use crate::support::*;

fn vault_id() -> VaultId {
    VaultId::from_bits(1)
}

async fn vault(store: &Store) -> VaultId {
    let made = store.create_vault(WS, vault_id(), "v".to_owned(), pairs(&[("a", "b")]), at(1));
    made.await.expect("a vault").id
}

fn new(n: u128, slot: Option<Slot>) -> NewCredential {
    NewCredential {
        id: CredentialId::from_bits(n),
        kind: CredentialKind::StaticBearer,
        slot,
        auth: raw(r#"{"type":"static_bearer"}"#),
        display_name: None,
        metadata: pairs(&[]),
        sealed: Sealed {
            blob: vec![1, 2, 3],
            key_version: 1,
        },
    }
}

async fn add(store: &Store, n: u128, slot: Option<Slot>) -> Result<CredentialRow, Error> {
    store
        .create_credential(WS, vault_id(), new(n, slot), at(2))
        .await
}

fn url(at: &str) -> Option<Slot> {
    Some(Slot::McpServerUrl(at.to_owned()))
}

#[tokio::test]
async fn a_slot_has_one_active_credential_and_archiving_frees_it() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    let first = add(&f.store, 1, url("https://a")).await.expect("made");
    let twice = add(&f.store, 2, url("https://a")).await;
    assert!(matches!(
        twice,
        Err(Error::Conflict(Conflict::McpServerUrl))
    ));
    let name = || Some(Slot::SecretName("https://a".to_owned()));
    add(&f.store, 3, name())
        .await
        .expect("another kind of slot");
    let twice = add(&f.store, 4, name()).await;
    assert!(matches!(twice, Err(Error::Conflict(Conflict::SecretName))));
    let archived = f
        .store
        .archive_credential(WS, vault, first.id, at(3))
        .await
        .expect("archived");
    assert_eq!((archived.archived_at, archived.sealed), (Some(at(3)), None));
    add(&f.store, 5, url("https://a"))
        .await
        .expect("free again");
    add(&f.store, 6, None).await.expect("no slot");
    add(&f.store, 7, None).await.expect("no slot, no conflict");
}

#[tokio::test]
async fn a_vault_holds_at_most_twenty_active_credentials() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    for n in 1..=20 {
        add(&f.store, n, None).await.expect("room");
    }
    let refused = add(&f.store, 21, None).await;
    assert!(matches!(
        refused,
        Err(Error::TooManyCredentials { limit: 20 })
    ));
    f.store
        .archive_credential(WS, vault, CredentialId::from_bits(1), at(3))
        .await
        .expect("archived");
    add(&f.store, 21, None).await.expect("room again");
}

#[tokio::test]
async fn archiving_a_vault_archives_what_is_in_it_and_keeps_no_secret() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    let credential = add(&f.store, 1, url("https://a")).await.expect("made");
    let archived = f
        .store
        .archive_vault(WS, vault, at(3))
        .await
        .expect("archived");
    assert_eq!(archived.archived_at, Some(at(3)));
    let again = f
        .store
        .archive_vault(WS, vault, at(4))
        .await
        .expect("again");
    assert_eq!(again, archived);
    let row = f
        .store
        .credential(WS, vault, credential.id)
        .await
        .expect("still readable");
    assert_eq!((row.archived_at, row.sealed), (Some(at(3)), None));
    let late = add(&f.store, 2, None).await;
    assert!(matches!(late, Err(Error::Archived(Thing::Vault(v))) if v == vault));
    let view = f.store.vault_views(WS, vec![vault]).await.expect("a view");
    assert!(view[0].credentials.is_empty());
    let (agent, environment) = definitions(&f.store).await;
    let resolved = f
        .store
        .resolve_for_session(WS, agent, None, environment, vec![vault])
        .await;
    assert!(matches!(resolved, Err(Error::Archived(Thing::Vault(v))) if v == vault));
}

#[tokio::test]
async fn deleting_a_vault_leaves_nothing_of_it() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    let credential = add(&f.store, 1, None).await.expect("made");
    f.store.delete_vault(WS, vault).await.expect("deleted");
    let gone = f.store.credential(WS, vault, credential.id).await;
    assert!(matches!(gone, Err(Error::NotFound(Thing::Vault(_)))));
    let again = f.store.delete_vault(WS, vault).await;
    assert!(matches!(again, Err(Error::NotFound(Thing::Vault(_)))));
    // The row is gone, not only hidden: its id is free.
    f.store
        .create_vault(WS, vault, "v".to_owned(), pairs(&[]), at(9))
        .await
        .expect("made");
    add(&f.store, 1, None).await.expect("made");
}

#[tokio::test]
async fn a_credential_changes_by_revisions_and_keeps_its_secret_unless_told() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    let row = add(&f.store, 1, None).await.expect("made");
    let change = |base: u32, sealed: Option<Sealed>| CredentialChange {
        base,
        auth: raw("{}"),
        display_name: Some("n".to_owned()),
        metadata: pairs(&[("k", "v")]),
        sealed,
    };
    let kept = f
        .store
        .update_credential(WS, vault, row.id, change(1, None), at(3))
        .await;
    let kept = kept.expect("changed");
    assert_eq!(
        (kept.revision, kept.sealed.as_ref()),
        (2, row.sealed.as_ref())
    );
    let other = Sealed {
        blob: vec![9],
        key_version: 2,
    };
    let new = f
        .store
        .update_credential(WS, vault, row.id, change(2, Some(other.clone())), at(4));
    assert_eq!(new.await.expect("changed").sealed, Some(other));
    let stale = f
        .store
        .update_credential(WS, vault, row.id, change(2, None), at(5))
        .await;
    assert!(matches!(
        stale,
        Err(Error::Conflict(Conflict::Revision { current: 3 }))
    ));
    f.store
        .archive_credential(WS, vault, row.id, at(6))
        .await
        .expect("archived");
    let late = f
        .store
        .update_credential(WS, vault, row.id, change(4, None), at(7))
        .await;
    assert!(matches!(late, Err(Error::Archived(Thing::Credential(_)))));
}

#[tokio::test]
async fn a_foreign_workspace_sees_no_vault_and_no_credential() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    let row = add(&f.store, 1, None).await.expect("made");
    let foreign = WorkspaceId::Minted(MintedWorkspaceId::from_bits(5));
    assert!(f.store.vault(foreign, vault).await.is_err());
    assert!(f.store.credential(foreign, vault, row.id).await.is_err());
    assert!(
        f.store
            .credentials(foreign, vault, List::newest(9))
            .await
            .is_err()
    );
    assert!(f.store.delete_vault(foreign, vault).await.is_err());
    assert!(f.store.vault_views(foreign, vec![vault]).await.is_err());
    let page = f
        .store
        .vaults(foreign, List::newest(9))
        .await
        .expect("a page");
    assert!(page.items.is_empty());
}

#[tokio::test]
async fn a_vaults_credentials_are_listed_by_pages() {
    let f = super::fixture().await;
    let vault = vault(&f.store).await;
    for n in 1..=5 {
        add(&f.store, n, None).await.expect("made");
    }
    let first = f
        .store
        .credentials(WS, vault, List::newest(3))
        .await
        .expect("a page");
    assert_eq!(first.items.len(), 3);
    assert!(first.has_next && !first.has_prev);
    let last = &first.items[2];
    let rest = List::newest(3).after(last.created_at, last.id);
    let rest = f.store.credentials(WS, vault, rest).await.expect("a page");
    assert_eq!(rest.items.len(), 2);
    assert!(!rest.has_next && rest.has_prev);
    let changed = f
        .store
        .update_vault(WS, vault, 1, "w".to_owned(), pairs(&[]), at(5))
        .await;
    assert_eq!(changed.expect("changed").revision, 2);
    let stale = f
        .store
        .update_vault(WS, vault, 1, "x".to_owned(), pairs(&[]), at(6))
        .await;
    assert!(matches!(
        stale,
        Err(Error::Conflict(Conflict::Revision { current: 2 }))
    ));
}
