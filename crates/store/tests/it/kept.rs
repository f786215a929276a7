//! Answers that are kept with the write they answer, and caps of a workspace.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::ids::{MintedWorkspaceId, VaultId, WorkspaceId};
use contract::time::Micros;
use store::caps::Caps;
use store::error::Plenty;
use store::kept::{Mark, Slot};
use store::vaults::VaultRow;
use store::{Error, Options, Store, Synchronous};

use crate::support::*;

fn slot(id: u8, request: u8, now: Micros) -> Slot {
    Slot {
        id: Mark([id; 32]),
        request: Mark([request; 32]),
        now,
    }
}

fn keeping(store: &Store, slot: Slot) -> Store {
    store.keeping(slot, |row: &VaultRow| Some(row.id.to_string().into_bytes()))
}

async fn make(store: &Store, n: u128) -> Result<VaultRow, Error> {
    let (id, none) = (VaultId::from_bits(n), BTreeMap::new());
    store
        .create_vault(WS, id, "v".to_owned(), none, at(1))
        .await
}

#[tokio::test]
async fn an_answer_stands_with_its_write_and_a_second_write_under_its_key_is_undone() {
    let fixture = super::fixture().await;
    let store = &fixture.store;
    let first = make(&keeping(store, slot(1, 1, at(1))), 1).await;
    let first = first.expect("stored").id.to_string();
    let second = make(&keeping(store, slot(1, 1, at(2))), 2).await;
    assert!(matches!(second, Err(Error::Unavailable(_))));
    let lost = store.vault(WS, VaultId::from_bits(2)).await;
    assert!(
        matches!(lost, Err(Error::NotFound(_))),
        "the whole write is undone"
    );
    let kept = store.kept(Mark([1; 32]), at(3)).await.expect("read");
    assert_eq!(kept.expect("kept").body, first.into_bytes());
}

#[tokio::test]
async fn a_write_that_fails_keeps_nothing() {
    let fixture = super::fixture().await;
    let store = &fixture.store;
    make(store, 1).await.expect("stored");
    let taken = make(&keeping(store, slot(1, 1, at(1))), 1).await;
    assert!(taken.is_err(), "the id is taken");
    assert_eq!(store.kept(Mark([1; 32]), at(2)).await.expect("read"), None);
}

#[tokio::test]
async fn an_expired_answer_is_not_given_and_makes_room_for_another() {
    let fixture = super::fixture().await;
    let store = &fixture.store;
    let day = i64::try_from(Duration::from_secs(86_400).as_micros()).expect("fits");
    make(&keeping(store, slot(1, 1, at(0))), 1)
        .await
        .expect("stored");
    let kept = |now| store.kept(Mark([1; 32]), at(now));
    assert!(kept(day - 1).await.expect("read").is_some());
    assert_eq!(kept(day).await.expect("read"), None);
    make(&keeping(store, slot(1, 2, at(day))), 2)
        .await
        .expect("stored");
    let kept = kept(day + 1).await.expect("read").expect("kept");
    assert_eq!(kept.request, Mark([2; 32]));
}

#[tokio::test]
async fn expired_answers_go_when_others_come() {
    let place = super::place();
    let store = place.open(options()).await;
    let day = i64::try_from(Duration::from_secs(86_400).as_micros()).expect("fits");
    for n in 0..40 {
        let body = vec![7; 100_000];
        store.keep(slot(n, 1, at(0)), body).await.expect("kept");
    }
    for n in 0..3 {
        let later = slot(100 + n, 1, at(day));
        store.keep(later, vec![1]).await.expect("kept");
    }
    store.close().await;
    let store = place.open(options()).await;
    for n in 0..40 {
        // Asked as of a time at which it would still be given if it were there.
        let kept = store.kept(Mark([n; 32]), at(1)).await.expect("read");
        assert_eq!(kept, None, "{n}");
    }
}

/// A store in which an owner may keep two short answers.
async fn small(place: &Place) -> Store {
    let options = Options {
        synchronous: Synchronous::Off,
        caps: Caps {
            kept: 2 * (store::limits::KEPT_BESIDE + 36),
            ..Caps::default()
        },
        ..Options::default()
    };
    place.open(options).await
}

fn of(owner: u8, chosen: u8, now: Micros) -> Slot {
    Slot {
        id: Mark::of(Mark([owner; 32]), Mark([chosen; 32])),
        request: Mark([chosen; 32]),
        now,
    }
}

fn is_full<T>(done: &Result<T, Error>) -> bool {
    matches!(done, Err(Error::Full { what: Plenty::Kept, limit }) if *limit > 0)
}

#[tokio::test]
async fn what_an_owner_may_keep_is_bounded_and_beyond_it_nothing_is_written_for_it() {
    let place = super::place();
    let store = small(&place).await;
    // A start removes what has expired by the real clock.
    let now = store::clock::now();
    for n in 1..=2 {
        store.make_room(of(1, n, now)).await.expect("room");
        let made = make(&keeping(&store, of(1, n, now)), n.into()).await;
        made.expect("stored");
    }
    assert!(is_full(&store.make_room(of(1, 3, now)).await));
    // However it comes there: the write itself finds no room either.
    let third = make(&keeping(&store, of(1, 3, now)), 3).await;
    assert!(is_full(&third), "{third:?}");
    let undone = store.vault(WS, VaultId::from_bits(3)).await;
    assert!(matches!(undone, Err(Error::NotFound(_))), "{undone:?}");
    assert!(is_full(&store.keep(of(1, 3, now), vec![7; 9]).await));
    // What was kept is given, and others are not touched.
    let kept = store.kept(of(1, 1, now).id, now).await.expect("read");
    assert!(kept.is_some(), "an earlier answer is not forgotten for it");
    let elsewhere = make(&keeping(&store, of(2, 1, now)), 4).await;
    elsewhere.expect("another owner has room");
    store.close().await;
    let store = small(&place).await;
    assert!(
        is_full(&store.make_room(of(1, 3, now)).await),
        "counted over a restart"
    );
}

#[tokio::test]
async fn answers_that_expired_make_room() {
    let place = super::place();
    let store = small(&place).await;
    let day = i64::try_from(Duration::from_secs(86_400).as_micros()).expect("fits");
    for round in 0..3 {
        let now = at(round * day);
        for n in 1..=2 {
            store.make_room(of(1, n, now)).await.expect("room");
            store.keep(of(1, n, now), vec![7; 36]).await.expect("kept");
        }
        let third = store.keep(of(1, 3, now), vec![7; 36]).await;
        assert!(is_full(&third), "round {round}: {third:?}");
    }
}

#[tokio::test]
async fn what_is_kept_afterwards_does_not_replace_what_was_kept_first() {
    let fixture = super::fixture().await;
    let store = &fixture.store;
    let first = store
        .keep(slot(1, 1, at(1)), b"a".to_vec())
        .await
        .expect("kept");
    let second = store
        .keep(slot(1, 2, at(2)), b"b".to_vec())
        .await
        .expect("kept");
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_workspace_that_has_all_it_may_have_is_refused_and_the_others_are_not() {
    let place = super::place();
    let options = Options {
        synchronous: Synchronous::Off,
        caps: Caps {
            sessions: 1,
            vaults: 2,
            ..Caps::default()
        },
        ..Options::default()
    };
    let store = place.open(options).await;
    for n in 1..=2 {
        make(&store, n).await.expect("room");
    }
    let full = make(&store, 3).await;
    let vaults = Plenty::Vaults;
    assert!(matches!(full, Err(Error::Full { what, limit: 2 }) if what == vaults));
    let other = WorkspaceId::Minted(MintedWorkspaceId::from_bits(1));
    let (id, none) = (VaultId::from_bits(9), BTreeMap::new());
    let elsewhere = store
        .create_vault(other, id, "v".to_owned(), none, at(1))
        .await;
    elsewhere.expect("another workspace has room");
    store
        .delete_vault(WS, VaultId::from_bits(1))
        .await
        .expect("deleted");
    make(&store, 3).await.expect("room again");
    store.close().await;
    let store = place.open(options).await;
    assert!(
        make(&store, 4).await.is_err(),
        "the count survives a restart"
    );
}

#[tokio::test]
async fn a_cap_that_was_far_and_comes_near_is_as_firm() {
    let place = super::place();
    let most = |vaults| Options {
        synchronous: Synchronous::Off,
        caps: Caps {
            vaults,
            ..Caps::default()
        },
        ..Options::default()
    };
    let store = place.open(most(1_000_000)).await;
    let mut made = tokio::task::JoinSet::new();
    for n in 1..=40 {
        let store = store.clone();
        made.spawn(async move { make(&store, n).await.map(|_| ()) });
    }
    while let Some(done) = made.join_next().await {
        done.expect("no panic").expect("far from the cap");
    }
    // One that fails after it was counted counts nothing.
    assert!(make(&store, 40).await.is_err(), "there is one of that id");
    store
        .delete_vault(WS, VaultId::from_bits(40))
        .await
        .expect("deleted");
    store.close().await;
    let store = place.open(most(40)).await;
    make(&store, 41).await.expect("39 are left, so there is room for one");
    assert!(make(&store, 42).await.is_err(), "40 of 40");
    store.close().await;
}

#[tokio::test]
async fn a_workspace_runs_no_more_turns_than_it_may_and_hides_none_of_the_others() {
    let place = super::place();
    let options = Options {
        synchronous: Synchronous::Off,
        caps: Caps {
            turns: Some(2),
            ..Caps::default()
        },
        ..Options::default()
    };
    let store = place.open(options).await;
    let (agent, environment) = definitions(&store).await;
    for n in 1..=5 {
        let new = new_session(n, agent, environment, vec![message("x")]);
        let made = store.create_session(new, at(10), n).await;
        made.expect("a session");
    }
    let due = || async {
        let due = store.due_runs(100, at(20)).await.expect("read");
        due.into_iter().map(|run| run.session).collect::<Vec<_>>()
    };
    let id = contract::ids::SessionId::from_bits;
    assert_eq!(due().await, [id(1), id(2)]);
    claim(&store, id(1), at(20)).await;
    assert_eq!(due().await, [id(2)], "one runs, so one more may");
    claim(&store, id(2), at(20)).await;
    assert!(due().await.is_empty());
    let done = store.release(id(1), session::Generation(1), at(30)).await;
    assert!(done.expect("released"), "it holds the run");
    assert_eq!(due().await, [id(3)], "one that waits takes its place");
}
