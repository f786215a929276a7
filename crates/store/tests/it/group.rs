//! Group commit: many writes share one commit, one that fails harms no neighbour, and nothing is
//! acknowledged that was not committed.

use std::sync::Arc;

use contract::ids::SessionId;
use store::{Error, Store, SubmitError};
use tokio::task::JoinSet;

use crate::support::*;

async fn sessions(store: &Store, count: u128) -> Vec<SessionId> {
    let (agent, environment) = definitions(store).await;
    let mut ids = Vec::new();
    for n in 1..=count {
        let new = new_session(n, agent, environment, Vec::new());
        ids.push(
            store
                .create_session(new, at(1), n)
                .await
                .expect("a session")
                .id,
        );
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_write_rolls_back_alone() {
    let f = super::fixture().await;
    let ids = sessions(&f.store, 64).await;
    let mut tasks = JoinSet::new();
    for round in 0..4i64 {
        for (n, id) in ids.iter().copied().enumerate() {
            let store = f.store.clone();
            tasks.spawn(async move {
                // Every third is refused by the store, every fifth breaks an invariant.
                let id = if n % 3 == 0 {
                    SessionId::from_bits(9_999)
                } else {
                    id
                };
                (
                    n,
                    send(&store, id, vec![message("x")], at(10 + round)).await,
                )
            });
        }
    }
    let mut sent = vec![0u32; ids.len()];
    while let Some(done) = tasks.join_next().await {
        match done.expect("no panic") {
            (n, Ok(_)) => sent[n] += 1,
            (n, Err(SubmitError::NotFound)) => assert_eq!(n % 3, 0),
            (_, Err(error)) => panic!("{error}"),
        }
    }
    for (n, id) in ids.iter().enumerate() {
        let row = f.store.session(WS, *id).await.expect("there");
        let log = f.store.events_after(*id, 0, 100).await.expect("a log");
        // The first message takes its place, later ones wait.
        let waits = u64::from(row.state.waiting);
        let placed = log.iter().filter(|e| e.kind == "user.message").count() as u64;
        assert_eq!(placed + waits, u64::from(sent[n]), "session {n}");
        assert_eq!(sent[n], if n % 3 == 0 { 0 } else { 4 });
    }
    let stats = f.store.stats();
    assert_eq!(stats.refused, 4 * 22);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_undone_with_a_neighbour_is_decided_again_on_what_stands() {
    let f = super::fixture().await;
    let ids = sessions(&f.store, 4).await;
    let (agent, environment) = (agent_id(1), environment_id(1));
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let (store, session) = (f.store.clone(), ids[n % ids.len()]);
        tasks.spawn(async move {
            let sent = send(&store, session, vec![message("x")], at(10));
            sent.await.expect("sent");
        });
        let store = f.store.clone();
        tasks.spawn(async move {
            // It is counted before it is found to be there already: what was written is undone.
            let again = new_session(1, agent, environment, Vec::new());
            let made = store.create_session(again, at(10), 1).await;
            assert!(matches!(made, Err(Error::Conflict(_))));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    for id in ids {
        let row = f.store.session(WS, id).await.expect("there");
        let log = f.store.events_after(id, 0, 100).await.expect("a log");
        let placed = log.iter().filter(|e| e.kind == "user.message").count() as u64;
        assert_eq!(placed + u64::from(row.state.waiting), 16);
        let places = log.iter().map(|event| event.seq.expect("a place"));
        assert!(
            places.eq(1..row.state.next_seq),
            "no gap and no place twice"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_together_share_a_commit() {
    let f = super::fixture().await;
    let ids = Arc::new(sessions(&f.store, 64).await);
    let before = f.store.stats();
    let mut tasks = JoinSet::new();
    for round in 0..8 {
        for n in 0..ids.len() {
            let (store, ids) = (f.store.clone(), Arc::clone(&ids));
            tasks.spawn(async move { send(&store, ids[n], vec![message("x")], at(round)).await });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("sent");
    }
    let after = f.store.stats();
    assert_eq!(after.jobs - before.jobs, 512);
    assert!(after.commits - before.commits < 512, "{after:?}");
    assert!(after.max_batch > 1, "{after:?}");
}

#[tokio::test]
async fn commits_are_numbered_in_the_order_they_became_durable() {
    let f = super::fixture().await;
    let ids = sessions(&f.store, 2).await;
    let one = send(&f.store, ids[0], vec![message("x")], at(2))
        .await
        .expect("sent");
    let two = send(&f.store, ids[1], vec![message("x")], at(2))
        .await
        .expect("sent");
    assert!(one.commit < two.commit);
}

#[tokio::test]
async fn a_closed_store_answers_that_it_is() {
    let f = super::fixture().await;
    let ids = sessions(&f.store, 1).await;
    f.store.close().await;
    f.store.close().await;
    let sent = send(&f.store, ids[0], vec![message("x")], at(2)).await;
    assert!(matches!(sent, Err(SubmitError::Unavailable(_))));
    assert!(matches!(
        f.store.session(WS, ids[0]).await,
        Err(Error::Unavailable(_))
    ));
}
