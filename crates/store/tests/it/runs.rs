//! Runs: due, held, expired, released; and the wake-ups.

use std::time::Duration;

use contract::ids::SessionId;
use contract::time::Micros;
use session::{Generation, Input, Pace, Step, UserEvent};
use store::runs::Holder;
use store::sessions::Scope;
use store::{Store, clock};

use crate::support::*;

async fn due(store: &Store, now: Micros) -> Vec<SessionId> {
    let due = store.due_runs(100, now).await.expect("due");
    due.into_iter().map(|d| d.session).collect()
}

async fn running(store: &Store) -> SessionId {
    let row = idle(store).await;
    send(store, row.id, vec![message("x")], at(10))
        .await
        .expect("sent");
    row.id
}

#[tokio::test]
async fn the_longest_waiting_run_comes_first_and_only_as_many_as_wanted() {
    let f = super::fixture().await;
    let (agent, environment) = definitions(&f.store).await;
    for (n, time) in [(1u128, 30), (2, 10), (3, 20)] {
        let new = new_session(n, agent, environment, vec![message("x")]);
        f.store
            .create_session(new, at(time), n)
            .await
            .expect("a session");
    }
    let order = [2, 3, 1].map(SessionId::from_bits);
    assert_eq!(due(&f.store, at(30)).await, order);
    assert_eq!(f.store.due_runs(2, at(30)).await.expect("due").len(), 2);
    assert_eq!(due(&f.store, at(15)).await, order[..1]);
}

#[tokio::test]
async fn an_expired_lease_is_due_and_a_renewed_one_is_not() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let ttl = Some(Duration::from_micros(100));
    let held = f
        .store
        .claim(id, holder(), ttl, at(20), clock::entropy())
        .await
        .expect("held");
    let generation = held.state.generation;
    assert!(due(&f.store, at(119)).await.is_empty());
    assert_eq!(due(&f.store, at(120)).await, [id]);
    let renewed = f
        .store
        .renew(id, generation, Duration::from_micros(100), at(100))
        .await;
    assert!(renewed.expect("asked"));
    assert!(due(&f.store, at(150)).await.is_empty());
    let next = f
        .store
        .claim(id, holder(), ttl, at(200), clock::entropy())
        .await
        .expect("taken");
    assert_eq!(next.state.generation, Generation(generation.0 + 1));
    let late = f
        .store
        .renew(id, generation, Duration::from_micros(100), at(201))
        .await;
    assert!(!late.expect("asked"), "the loser learns that it lost");
    assert!(
        !f.store
            .release(id, generation, at(201))
            .await
            .expect("asked")
    );
}

#[tokio::test]
async fn a_released_run_waits_until_it_is_due() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let generation = claim(&f.store, id, at(20)).await.state.generation;
    assert!(
        f.store
            .release(id, generation, at(500))
            .await
            .expect("asked")
    );
    assert!(due(&f.store, at(499)).await.is_empty());
    assert_eq!(due(&f.store, at(500)).await, [id]);
}

#[tokio::test]
async fn a_restart_makes_every_held_run_due() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    claim(&f.store, id, at(20)).await;
    assert_eq!(
        f.store.requeue_all(holder(), at(30)).await.expect("asked"),
        0,
        "its own stay"
    );
    assert_eq!(
        f.store
            .requeue_all(Holder("new".to_owned()), at(40))
            .await
            .expect("asked"),
        1
    );
    assert_eq!(due(&f.store, at(40)).await, [id]);
}

#[tokio::test]
async fn a_turn_put_down_for_a_drain_is_due_again() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let state = claim(&f.store, id, at(20)).await.state;
    let input = Input::Fact {
        generation: state.generation,
        thread: state.primary.id,
        fact: Box::new(addressed(reply("x", &[(7, "bash")]), &state)),
        pace: Pace::Halt,
    };
    let done = f
        .store
        .submit(Scope::Any, id, input, at(30), clock::entropy())
        .await;
    let done = done.expect("replied");
    assert_eq!(done.step, Step::Rest);
    assert!(done.state.is_open());
    assert_eq!(due(&f.store, at(30)).await, [id]);
    assert!(matches!(
        claim(&f.store, id, at(40)).await.step,
        Step::Execute { .. }
    ));
}

#[tokio::test]
async fn an_ended_turn_leaves_no_run() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let generation = claim(&f.store, id, at(20)).await.state.generation;
    fact(&f.store, id, generation, reply("bye", &[]), at(30))
        .await
        .expect("done");
    assert!(due(&f.store, at(1_000)).await.is_empty());
    assert_eq!(
        f.store
            .requeue_all(Holder("new".to_owned()), at(40))
            .await
            .expect("asked"),
        0
    );
}

#[tokio::test]
async fn an_interrupt_of_a_turn_nobody_took_leaves_no_run() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    send(
        &f.store,
        id,
        vec![UserEvent::Interrupt { thread: None }],
        at(20),
    )
    .await
    .expect("sent");
    assert!(due(&f.store, at(1_000)).await.is_empty());
}

#[tokio::test]
async fn a_run_that_becomes_due_wakes_even_who_was_not_waiting_yet() {
    let f = super::fixture().await;
    running(&f.store).await;
    let woken = tokio::time::timeout(Duration::from_secs(10), f.store.run_due()).await;
    assert!(woken.is_ok());
}

#[tokio::test]
async fn a_stop_is_kept_until_it_is_taken() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    claim(&f.store, id, at(20)).await;
    for n in 0..2 {
        let stop = vec![UserEvent::Interrupt { thread: None }];
        send(&f.store, id, stop, at(30 + n)).await.expect("sent");
    }
    let stops = tokio::time::timeout(Duration::from_secs(10), f.store.stops()).await;
    assert_eq!(stops.expect("told").into_iter().collect::<Vec<_>>(), [id]);
    // Taken: the next call waits.
    let again = f.store.stops();
    tokio::pin!(again);
    assert!(futures_are_pending(again.as_mut()).await);
}

/// True if the future is not ready when polled once.
async fn futures_are_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_turn_that_waits_for_its_next_try_is_due_then_and_not_before() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let generation = claim(&f.store, id, at(20)).await.state.generation;
    let failed = session::Fact::RequestFailed {
        span: contract::ids::EventId::from_bits(0),
        kind: contract::event::SessionErrorKind::ModelOverloadedError,
        message: "busy".to_owned(),
        used: session::Used::default(),
        remedy: session::Remedy::Wait {
            at_least: Some(2_000_000),
        },
    };
    let done = fact(&f.store, id, generation, failed, at(30)).await;
    let done = done.expect("stored");
    assert_eq!(done.state.status(), session::Status::Rescheduling);
    let wanted = done.state.due_at(at(30));
    assert_eq!(wanted, at(30 + 2_000_000));
    assert!(due(&f.store, at(31)).await.is_empty(), "not yet");
    let next = f.store.next_due(at(31)).await.expect("read");
    assert_eq!(next, Some(wanted));
    assert_eq!(due(&f.store, wanted).await, [id]);
    assert_eq!(f.store.next_due(wanted).await.expect("read"), None);
    let again = claim(&f.store, id, wanted).await;
    assert!(matches!(again.step, Step::Request { .. }));
}

#[tokio::test]
async fn a_clock_that_was_set_back_puts_no_turn_off() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let hour = 3_600_000_000;
    assert_eq!(due(&f.store, at(-hour)).await, [id]);
}

#[tokio::test]
async fn renewals_of_many_runs_name_those_that_were_lost() {
    let f = super::fixture().await;
    let (agent, environment) = definitions(&f.store).await;
    let ttl = Duration::from_micros(100);
    let mut held = Vec::new();
    for n in 1..=3u128 {
        let new = new_session(n, agent, environment, vec![message("x")]);
        let row = f
            .store
            .create_session(new, at(10), clock::entropy())
            .await
            .expect("made");
        let claimed = f
            .store
            .claim(row.id, holder(), Some(ttl), at(20), clock::entropy());
        held.push((row.id, claimed.await.expect("held").state.generation));
    }
    // Another process took the second when its lease had ended.
    let other = Holder("other".to_owned());
    let taken = f
        .store
        .claim(held[1].0, other, Some(ttl), at(120), clock::entropy());
    taken.await.expect("taken");
    let renewed = f.store.renew_all(holder(), held.clone(), Some(ttl), at(130));
    assert_eq!(renewed.await.expect("asked"), [held[1].0]);
    let mut mine = f.store.held_by(holder()).await.expect("read");
    mine.sort_by_key(|(id, _)| held.iter().position(|(one, _)| one == id));
    assert_eq!(mine, [held[0], held[2]]);
    assert_eq!(due(&f.store, at(220)).await, [held[1].0]);
    assert_eq!(due(&f.store, at(230)).await.len(), 3);
}

#[tokio::test]
async fn a_lease_of_a_clock_that_was_set_back_holds_nobody_off() {
    let f = super::fixture().await;
    let id = running(&f.store).await;
    let ttl = Some(Duration::from_secs(30));
    let held = f.store.claim(id, holder(), ttl, at(20), clock::entropy());
    held.await.expect("held");
    let an_hour_ago = at(-3_600_000_000);
    assert_eq!(due(&f.store, an_hour_ago).await, [id]);
    let taken = f
        .store
        .claim(id, holder(), ttl, an_hour_ago, clock::entropy());
    taken.await.expect("taken");
}
