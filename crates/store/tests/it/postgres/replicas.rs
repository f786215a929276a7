//! Several servers on one database: what one commits the others see, in order and once, whether or not they are
//! told; and what one that is gone held, another takes.

use std::collections::BTreeSet;
use std::time::Duration;

use contract::ids::ApiKeyId;
use store::feed::{Item, Subscription};
use store::keys::{ApiKeyRow, KeyHash, KeyRole};
use store::replica::{Replica, ReplicaName};
use store::sessions::Scope;
use store::timeline::{Beside, Binding};
use store::{Store, SubmitError};

use crate::support::*;

fn named(name: &str) -> Replica {
    Replica {
        name: ReplicaName::new(name).expect("a name"),
        version: "test",
        dead_after: Duration::from_secs(30),
    }
}

async fn joined(place: &Place, name: &str) -> Store {
    let joined = Store::join(&place.url(), options(), named(name)).await;
    joined.expect("joined")
}

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

/// The places of the first `n` events that have one, and how many were announced before.
async fn seen(watch: &mut Subscription, n: usize) -> (Vec<u64>, usize) {
    let (mut places, mut announced) = (Vec::new(), BTreeSet::new());
    let all = async {
        while places.len() < n {
            match watch.next().await.expect("it goes on") {
                Item::Event(event) => places.extend(event.seq),
                Item::Announced(event) => {
                    assert!(announced.insert(event.id), "announced twice");
                }
                Item::Preview(_) => {}
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(60), all).await;
    all.unwrap_or_else(|_| panic!("{n} events, of which these came: {places:?}"));
    (places, announced.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_commit_at_once_is_seen_on_each_in_order_and_once() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    let row = idle(&one).await;
    let next = row.state.next_seq;
    let mut watches = [one.subscribe(row.id), two.subscribe(row.id)];
    watches.iter().for_each(|watch| watch.begin_at(next));
    let mut sent = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = if n % 2 == 0 { one.clone() } else { two.clone() };
        sent.spawn(async move { send(&store, row.id, vec![message("x")], at(2)).await });
    }
    while let Some(done) = sent.join_next().await {
        done.expect("no panic").expect("sent");
    }
    let state = two.session(WS, row.id).await.expect("there").state;
    let all = (next..state.next_seq).collect::<Vec<_>>();
    for watch in &mut watches {
        let (places, _) = seen(watch, all.len()).await;
        assert_eq!(places, all);
    }
    // What waits takes its place with the claim, on a third that nobody told of anything.
    let third = place.open(options()).await;
    let claimed = claim(&third, row.id, at(3)).await;
    let taken = (state.next_seq..claimed.state.next_seq).collect::<Vec<_>>();
    assert!(taken.len() >= state.waiting as usize);
    for watch in &mut watches {
        let (places, _) = seen(watch, taken.len()).await;
        assert_eq!(places, taken, "a lost notification costs a delay and no event");
    }
    for store in [one, two, third] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_announced_once_wherever_it_was_sent() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    let row = idle(&one).await;
    send(&one, row.id, vec![message("x")], at(2)).await.expect("sent");
    let claimed = claim(&one, row.id, at(3)).await;
    let mut watch = two.subscribe(row.id);
    watch.begin_at(claimed.state.next_seq);
    for store in [&one, &two, &one] {
        send(store, row.id, vec![message("y")], at(4)).await.expect("sent");
    }
    let mut announced = BTreeSet::new();
    let all = async {
        while announced.len() < 3 {
            if let Ok(Item::Announced(event)) = watch.next().await {
                assert!(announced.insert(event.id), "announced twice");
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(60), all).await;
    all.expect("three are announced");
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_has_not_begun_misses_nothing_of_the_others() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    let row = idle(&one).await;
    let next = row.state.next_seq;
    let mut watch = two.subscribe(row.id);
    // What the other commits comes first; what this one commits is published here at once.
    send(&one, row.id, vec![message("x")], at(2)).await.expect("sent");
    let claimed = claim(&two, row.id, at(3)).await;
    watch.begin_at(next);
    let all = (next..claimed.state.next_seq).collect::<Vec<_>>();
    let (places, _) = seen(&mut watch, all.len()).await;
    assert_eq!(places, all);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_comes_late_is_not_skipped() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    one.create_api_key(key()).await.expect("made");
    eventually("the key is known to two", async || {
        two.authenticate(key().hash).await.expect("asked").is_some()
    })
    .await;
    let row = idle(&one).await;
    let Place::Postgres(database) = &place else {
        panic!("a server");
    };
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn({
        let one = one.clone();
        async move {
            loop {
                let sent = send(&one, row.id, vec![message("x")], at(2)).await;
                if sent.is_err() {
                    return;
                }
            }
        }
    });
    // Its change has its number long before it is committed.
    let late = "BEGIN; INSERT INTO changes (origin, body) VALUES ('late', '{\"keys\":true}');
        UPDATE api_keys SET revoked_at = 1; SELECT pg_sleep(2); COMMIT";
    let _ = tokio::task::block_in_place(|| database.sql(late));
    sending.abort_all();
    eventually("the key that was revoked stops", async || {
        two.authenticate(key().hash).await.expect("asked").is_none()
    })
    .await;
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_revoked_stops_on_the_others() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    // As a command does that runs beside the servers.
    let beside = place.open(options()).await;
    one.create_api_key(key()).await.expect("made");
    let known = two.authenticate(key().hash).await.expect("asked");
    assert!(known.is_some());
    beside.revoke_api_key(key().id, at(2)).await.expect("revoked");
    for store in [&one, &two] {
        eventually("it stops", async || {
            store.authenticate(key().hash).await.expect("asked").is_none()
        })
        .await;
    }
    for store in [one, two, beside] {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_had_by_one_and_free_once_that_has_ended() {
    let place = super::place();
    let first = joined(&place, "same").await;
    let other = joined(&place, "other").await;
    let second = Store::join(&place.url(), options(), named("same")).await;
    let said = second.expect_err("taken").to_string();
    assert!(said.contains("server.replica"), "{said}");
    let live = |of: Vec<store::replica::Seen>| {
        let live = of.into_iter().filter(|one| one.is_live);
        live.map(|one| one.name).collect::<Vec<_>>()
    };
    let there = other.replicas().await.expect("read");
    assert_eq!(live(there), ["other", "same"]);
    first.close().await;
    let there = other.replicas().await.expect("read");
    assert_eq!(live(there), ["other"]);
    joined(&place, "same").await.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_that_is_gone_held_is_taken_and_its_late_word_refused() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    let row = idle(&one).await;
    send(&one, row.id, vec![message("x")], at(2)).await.expect("sent");
    let (_, holder) = one.replica().expect("one of several");
    let held = one.claim(row.id, holder, None, at(3), 1).await;
    let held = held.expect("claimed").state.generation;
    let (_, other) = two.replica().expect("one of several");
    // However late the other's clock is: who is there holds it.
    let far = at(3_600_000_000);
    let due = two.due_runs(10, far).await.expect("read");
    assert_eq!(due, Vec::new());
    let early = two.claim(row.id, other.clone(), None, far, 2).await;
    assert!(matches!(early, Err(SubmitError::Held { .. })), "{early:?}");
    one.close().await;
    let due = two.due_runs(10, at(4)).await.expect("read");
    assert_eq!(due.len(), 1);
    let taken = two.claim(row.id, other, None, at(4), 3).await;
    let taken = taken.expect("claimed").state.generation;
    assert!(taken > held);
    // It thaws.
    let late = place.open(options()).await;
    let word = fact(&late, row.id, held, reply("late", &[]), at(5)).await;
    assert!(
        matches!(word, Err(SubmitError::Refused(session::Refused::Stale { .. }))),
        "{word:?}"
    );
    late.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_where_its_workspace_is_while_that_server_is_there() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    let row = idle(&one).await;
    send(&one, row.id, vec![message("x")], at(2)).await.expect("sent");
    let (_, holder) = one.replica().expect("one of several");
    let claimed = one.claim(row.id, holder.clone(), None, at(3), 1).await;
    let generation = claimed.expect("claimed").state.generation;
    let mut fact = session::Input::Fact {
        generation,
        thread: row.state.primary.id,
        fact: Box::new(reply("x", &[])),
        pace: session::Pace::Go,
    };
    if let session::Input::Fact { fact, .. } = &mut fact {
        let state = one.session(WS, row.id).await.expect("there").state;
        **fact = addressed((**fact).clone(), &state);
    }
    let beside = Beside {
        binding: Some(Binding {
            body: raw("{}"),
            host: Some("one".to_owned()),
        }),
        ..Beside::default()
    };
    let done = one.submit_beside(Scope::Any, row.id, fact, at(4), 2, beside).await;
    done.expect("stored");
    send(&two, row.id, vec![message("again")], at(5)).await.expect("sent");
    let due = async |store: &Store| store.due_runs(10, at(1_000_000)).await.expect("read").len();
    assert_eq!((due(&one).await, due(&two).await), (1, 0));
    one.close().await;
    assert_eq!(due(&two).await, 1, "its server is gone");
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_meet_at_the_same_sessions_from_both_ends_are_both_served() {
    let place = super::place();
    let (one, two) = (joined(&place, "one").await, joined(&place, "two").await);
    let (agent, environment) = definitions(&one).await;
    let mut sessions = Vec::new();
    for n in 1..=6 {
        let new = new_session(n, agent, environment, Vec::new());
        let made = one.create_session(new, at(1), store::clock::entropy()).await;
        sessions.push(made.expect("a session").id);
    }
    for _ in 0..3 {
        let up = sessions.iter().map(|id| send(&one, *id, vec![message("x")], at(2)));
        let down = sessions.iter().rev().map(|id| send(&two, *id, vec![message("x")], at(2)));
        let (up, down) = tokio::join!(
            futures_util::future::join_all(up),
            futures_util::future::join_all(down)
        );
        for sent in up.into_iter().chain(down) {
            sent.expect("sent, after another attempt if need be");
        }
    }
    one.close().await;
    two.close().await;
}

/// A connection that holds the session's state, as a server that is at it, for as long as `tasks` has it.
async fn holding(
    place: &Place,
    id: contract::ids::SessionId,
    tasks: &mut tokio::task::JoinSet<()>,
) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&place.url(), tokio_postgres::NoTls)
        .await
        .expect("a connection");
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let sql = format!(
        "BEGIN; SELECT 1 FROM session_states st JOIN sessions t ON st.num = t.num WHERE t.id = '{id}' FOR UPDATE OF st"
    );
    client.batch_execute(&sql).await.expect("held");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_session_that_another_server_is_at_holds_no_other() {
    let place = super::place();
    let one = joined(&place, "one").await;
    let (agent, environment) = definitions(&one).await;
    let mut ids = Vec::new();
    for n in 1..=3 {
        let new = new_session(n, agent, environment, vec![]);
        ids.push(one.create_session(new, at(1), n).await.expect("made").id);
    }
    let (first, held, free) = (ids[0], ids[1], ids[2]);
    // The writer waits for the first, so that what is sent meanwhile is of one transaction.
    let mut connections = tokio::task::JoinSet::new();
    let gate = holding(&place, first, &mut connections).await;
    let other = holding(&place, held, &mut connections).await;
    let mut sent = tokio::task::JoinSet::new();
    for (queued, id) in [first, free, held].into_iter().enumerate() {
        let store = one.clone();
        sent.spawn(async move {
            let done = send(&store, id, vec![message("x")], at(2)).await;
            done.expect("sent");
            id
        });
        let queued = queued as u64;
        eventually("it is queued", || async {
            one.stats().queue_depth >= queued
        })
        .await;
    }
    gate.batch_execute("COMMIT").await.expect("let go");
    for _ in 0..2 {
        let done = sent.join_next().await.expect("three").expect("no panic");
        assert_ne!(done, held, "the third waits");
    }
    assert!(sent.try_join_next().is_none());
    other.batch_execute("COMMIT").await.expect("let go");
    let last = sent.join_next().await.expect("three").expect("no panic");
    assert_eq!(last, held);
    one.close().await;
}
