//! Who refreshes an OAuth credential, and when.

use contract::ids::{CredentialId, MintedWorkspaceId, VaultId, WorkspaceId};
use contract::time::Micros;
use store::feed::Changed;
use store::refreshes::{Claim, Due, Holder, Outcome, Patience, Settled};
use store::vaults::{CredentialChange, CredentialKind, NewCredential, Sealed};
use store::{Conflict, Error, Store};

use crate::support::*;

fn vault() -> VaultId {
    VaultId::from_bits(1)
}

fn due(n: u128) -> Due {
    Due {
        workspace: WS,
        vault: vault(),
        credential: CredentialId::from_bits(n),
    }
}

fn sealed(byte: u8) -> Sealed {
    Sealed {
        blob: vec![byte],
        key_version: 1,
    }
}

async fn oauth(store: &Store, n: u128) -> Due {
    let _again = store
        .create_vault(WS, vault(), "v".to_owned(), pairs(&[]), at(1))
        .await;
    let new = NewCredential {
        id: due(n).credential,
        kind: CredentialKind::McpOauth,
        slot: None,
        auth: raw("{}"),
        display_name: None,
        metadata: pairs(&[]),
        sealed: sealed(1),
    };
    let made = store.create_credential(WS, vault(), new, at(2)).await;
    made.expect("made");
    due(n)
}

async fn claim(store: &Store, due: Due, holder: u128, now: i64) -> Claim {
    let (now, until) = (at(now), at(now + 100));
    let claimed = store.claim_refresh(due, Holder(holder), Patience::Kept, now, until);
    claimed.await.expect("asked")
}

async fn settle(store: &Store, due: Due, holder: u128, outcome: Outcome, now: i64) {
    let settled = Settled {
        outcome,
        due_at: Some(at(now + 1_000)),
        retry_at: at(now + 10),
    };
    let done = store.settle_refresh(due, Holder(holder), settled, at(now));
    done.await.expect("settled");
}

fn renewed(base: u32) -> Outcome {
    Outcome::Renewed {
        base,
        auth: raw(r#"{"new":1}"#),
        sealed: sealed(2),
    }
}

/// Its owner gives it another secret.
async fn change(store: &Store, it: Due) {
    let change = CredentialChange {
        base: 1,
        auth: raw("{}"),
        display_name: None,
        metadata: pairs(&[]),
        sealed: Some(sealed(3)),
    };
    let changed = store.update_credential(WS, vault(), it.credential, change, at(50));
    changed.await.expect("changed");
}

#[tokio::test]
async fn one_at_a_time_refreshes_until_its_lease_ends() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    assert!(
        matches!(claim(&f.store, it, 1, 10).await, Claim::Ours { row, .. } if row.revision == 1)
    );
    let held = claim(&f.store, it, 2, 50).await;
    assert!(matches!(held, Claim::Held { until } if until == at(110)));
    assert!(matches!(
        claim(&f.store, it, 2, 110).await,
        Claim::Ours { .. }
    ));
}

#[tokio::test]
async fn whoever_refreshes_may_keep_its_lease_for_longer() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    for now in [10, 60, 130] {
        let kept = claim(&f.store, it, 1, now).await;
        assert!(matches!(kept, Claim::Ours { .. }), "{now}: {kept:?}");
    }
    let held = claim(&f.store, it, 2, 220).await;
    assert!(matches!(held, Claim::Held { until } if until == at(230)));
}

#[tokio::test]
async fn new_tokens_are_stored_also_by_one_that_lost_its_lease_but_never_over_a_change() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    claim(&f.store, it, 1, 10).await;
    claim(&f.store, it, 2, 200).await;
    settle(&f.store, it, 1, renewed(1), 210).await;
    let row = f.store.credential(WS, vault(), it.credential).await;
    let row = row.expect("there");
    assert_eq!((row.revision, row.sealed), (2, Some(sealed(2))));
    assert_eq!(row.updated_at, at(2), "its owner changed nothing");
    let stale = Settled {
        outcome: renewed(1),
        due_at: None,
        retry_at: at(0),
    };
    let refused = f.store.settle_refresh(it, Holder(2), stale, at(220)).await;
    assert!(matches!(
        refused,
        Err(Error::Conflict(Conflict::Revision { current: 2 }))
    ));
}

#[tokio::test]
async fn a_failure_waits_a_refusal_stays_and_a_change_of_the_credential_ends_both() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    claim(&f.store, it, 1, 10).await;
    settle(&f.store, it, 1, Outcome::Failed { base: 1 }, 20).await;
    let early = claim(&f.store, it, 1, 25).await;
    assert!(matches!(early, Claim::NotYet { failures: 1 }), "{early:?}");
    assert!(matches!(
        claim(&f.store, it, 1, 30).await,
        Claim::Ours { .. }
    ));
    settle(&f.store, it, 1, Outcome::Refused { base: 1 }, 40).await;
    assert!(matches!(claim(&f.store, it, 1, 900).await, Claim::Refused));
    let asked = f
        .store
        .claim_refresh(it, Holder(3), Patience::Waived, at(41), at(42));
    assert!(matches!(asked.await.expect("asked"), Claim::Ours { .. }));
    change(&f.store, it).await;
    assert!(matches!(
        claim(&f.store, it, 1, 51).await,
        Claim::Ours { .. }
    ));
}

#[tokio::test]
async fn what_became_of_old_tokens_says_nothing_of_those_that_their_owner_gave_meanwhile() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    claim(&f.store, it, 1, 10).await;
    change(&f.store, it).await;
    for outcome in [Outcome::Failed { base: 1 }, Outcome::Refused { base: 1 }] {
        let stale = Settled {
            outcome,
            due_at: None,
            retry_at: at(900),
        };
        let refused = f.store.settle_refresh(it, Holder(1), stale, at(60)).await;
        assert!(matches!(
            refused,
            Err(Error::Conflict(Conflict::Revision { current: 2 }))
        ));
    }
    settle(&f.store, it, 1, Outcome::Untried, 70).await;
    let free = claim(&f.store, it, 2, 80).await;
    assert!(matches!(free, Claim::Ours { .. }), "{free:?}");
}

#[tokio::test]
async fn what_is_due_is_listed_the_longest_due_first_unless_somebody_is_at_it() {
    let f = super::fixture().await;
    for n in 1..=3 {
        oauth(&f.store, n).await;
    }
    for (n, now) in [(1, 20), (2, 10)] {
        claim(&f.store, due(n), 1, now).await;
        settle(&f.store, due(n), 1, Outcome::Untried, now).await;
    }
    let listed = |now| f.store.refreshes_due(at(now), 10);
    assert_eq!(listed(100).await.expect("listed"), [due(3)]);
    claim(&f.store, due(3), 1, 100).await;
    assert_eq!(listed(101).await.expect("listed"), []);
    assert_eq!(listed(1_015).await.expect("listed"), [due(3), due(2)]);
    f.store
        .archive_vault(WS, vault(), at(2_000))
        .await
        .expect("archived");
    assert_eq!(listed(9_000).await.expect("listed"), []);
    let late = f
        .store
        .claim_refresh(due(2), Holder(1), Patience::Waived, at(9_000), at(9_001))
        .await;
    assert!(matches!(late, Err(Error::Archived(_))));
}

#[tokio::test]
async fn another_workspace_cannot_claim() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    let foreign = Due {
        workspace: WorkspaceId::Minted(MintedWorkspaceId::from_bits(5)),
        ..it
    };
    let claimed = f
        .store
        .claim_refresh(foreign, Holder(1), Patience::Waived, Micros(1), Micros(2))
        .await;
    assert!(matches!(claimed, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn new_tokens_and_what_a_vault_is_for_are_told_to_whoever_has_lent_what_was_before() {
    let f = super::fixture().await;
    let it = oauth(&f.store, 1).await;
    claim(&f.store, it, 1, 10).await;
    let mut changes = f.store.changes();
    settle(&f.store, it, 1, renewed(1), 20).await;
    assert_eq!(changes.try_recv(), Ok(Changed::Vault(vault())));
    let metadata = pairs(&[("longhand.role", "llm")]);
    let updated = f
        .store
        .update_vault(WS, vault(), 1, "v".to_owned(), metadata, at(30));
    updated.await.expect("updated");
    assert_eq!(changes.try_recv(), Ok(Changed::Vault(vault())));
    claim(&f.store, it, 1, 50).await;
    settle(&f.store, it, 1, Outcome::Untried, 60).await;
    changes.try_recv().expect_err("nothing changed");
}
