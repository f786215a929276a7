//! Two servers on one database: who may run a turn, and what becomes of the one who no longer may.

use std::time::Duration;

use orchestrator::Config;
use serde_json::json;
use store::clock;
use store::runs::Holder;

use crate::support::{World, bash, of, said, script, until};

fn short(config: &mut Config) {
    config.lease = Duration::from_millis(300);
    config.renew_every = Duration::from_millis(50);
}

#[tokio::test]
async fn a_lost_servers_turn_is_taken_over_when_its_lease_ends() {
    let world = World::new().await;
    let first = world.server(short);
    let steps = json!([{"wait": "gate"}, {"text": "finished by the other"}]);
    let id = first
        .session("always_allow", &script("take over", &steps))
        .await;
    world.asked(1).await;
    let second = world.server(short);
    first.crash();
    world.asked(2).await;
    world.scripted.release("gate");
    let log = second.log(id).await;
    assert_eq!(said(&log), ["finished by the other"]);
    let spans = of(&log, "span.model_request_end");
    assert_eq!(spans.len(), 2, "the lost request was closed");
    assert_eq!(spans[0]["is_error"], true);
    assert_eq!(of(&log, "session.status_rescheduled").len(), 1);
    assert_eq!(second.state(id).await.generation.0, 2);
}

#[tokio::test]
async fn many_turns_that_wait_are_all_taken_though_none_of_them_ends() {
    let world = World::new().await;
    let idle = world.server(|config| config.turns = 0);
    let text = script("one of many", &json!([{"hang": true}]));
    for _ in 0..300 {
        idle.session("always_allow", &text).await;
    }
    idle.crash();
    let _server = world.server(|_| {});
    world.asked(300).await;
}

#[tokio::test]
async fn a_call_that_was_lost_with_its_server_is_told_and_not_run_again() {
    let world = World::new().await;
    let first = world.server(short);
    let steps = json!([bash("hang"), {"echo_results": true}]);
    let id = first
        .session("always_allow", &script("lost call", &steps))
        .await;
    until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    let second = world.server(short);
    first.crash();
    let log = second.log(id).await;
    assert_eq!(world.sandboxes.calls(), 1);
    let results = of(&log, "agent.tool_result");
    assert_eq!((results.len(), &results[0]["is_error"]), (1, &json!(true)));
    assert!(
        said(&log)[0].contains("outcome of this call is unknown"),
        "{:?}",
        said(&log)
    );
}

#[tokio::test]
async fn a_turn_that_is_renewed_is_left_to_its_server() {
    let world = World::new().await;
    let first = world.server(short);
    let second = world.server(short);
    let steps = json!([{"wait": "gate"}, {"text": "mine"}]);
    let id = first
        .session("always_allow", &script("renewed", &steps))
        .await;
    world.asked(1).await;
    let held = first.state(id).await.generation;
    // The lease moved on often enough to have ended twice.
    let ends = || async { first.store.next_due(clock::now()).await.unwrap() };
    let began = ends().await.unwrap();
    until("the lease moved on", || async {
        ends().await.is_some_and(|at| at.0 > began.0 + 600_000)
    })
    .await;
    assert_eq!(first.state(id).await.generation, held);
    assert_eq!(
        first.orchestrator.running() + second.orchestrator.running(),
        1
    );
    world.scripted.release("gate");
    assert_eq!(said(&first.log(id).await), ["mine"]);
}

#[tokio::test]
async fn an_idle_server_renews_nothing() {
    let world = World::new().await;
    let server = world.server(short);
    let id = server.session("always_allow", "hello").await;
    server.log(id).await;
    until("the turn is over", || async {
        server.orchestrator.running() == 0
    })
    .await;
    let before = server.store.stats().commits;
    assert_eq!(server.store.next_due(clock::now()).await.unwrap(), None);
    let began = std::time::Instant::now();
    until("several renewals could have been", || async {
        began.elapsed() > Duration::from_millis(200)
    })
    .await;
    assert_eq!(server.store.stats().commits, before);
}

#[tokio::test]
async fn what_a_stale_runner_reports_is_refused() {
    let world = World::new().await;
    // It never renews: it does not learn that it lost, and reports what its model said all the same.
    let stale = world.server(|config| {
        short(config);
        config.renew_every = Duration::from_secs(3_600);
    });
    let steps = json!([{"wait": "gate"}, {"text": "said once"}]);
    let id = stale
        .session("always_allow", &script("stale", &steps))
        .await;
    world.asked(1).await;
    let other = world.server(short);
    world.asked(2).await;
    assert_eq!(stale.orchestrator.running(), 1);
    world.scripted.release("gate");
    let log = other.log(id).await;
    until("the stale one stops", || async {
        stale.orchestrator.running() == 0
    })
    .await;
    assert_eq!(said(&other.log(id).await), ["said once"]);
    assert_eq!(
        log.len(),
        other.log(id).await.len(),
        "nothing came after the end"
    );
    let spans = of(&log, "span.model_request_end");
    assert_eq!(spans.iter().filter(|s| s["is_error"] == false).count(), 1);
}

#[tokio::test]
async fn a_runner_whose_lease_is_gone_stops_what_it_does() {
    let world = World::new().await;
    let server = world.server(short);
    let steps = json!([bash("hang"), {"text": "after"}]);
    let id = server
        .session("always_allow", &script("gone", &steps))
        .await;
    until("it runs", || async { world.sandboxes.hanging() == 1 }).await;
    // Somebody who believes to be alone takes every turn; and claims this one first.
    let other = Holder("other".to_owned());
    let (store, now) = (&server.store, clock::now());
    store.requeue_all(other.clone(), now).await.unwrap();
    let ttl = Some(Duration::from_secs(30));
    let claimed = store
        .claim(id, other.clone(), ttl, now, clock::entropy())
        .await;
    until("the call is cancelled", || async {
        world.sandboxes.hanging() == 0 && server.orchestrator.running() == 0
    })
    .await;
    if let Ok(claimed) = claimed {
        let state = server.state(id).await;
        assert_eq!(state.generation, claimed.state.generation);
        assert!(state.is_open(), "it is the other's to finish");
    }
}

#[tokio::test]
async fn a_turn_that_a_drain_cuts_is_handed_back_at_once() {
    let world = World::new().await;
    // Leases that no test outlives.
    let first = world.server(|config| config.lease = Duration::from_secs(290));
    let steps = json!([{"wait": "gate"}, {"text": "taken up"}]);
    let id = first.session("always_allow", &script("cut", &steps)).await;
    world.asked(1).await;
    first.orchestrator.drain(Duration::ZERO).await;
    let second = world.server(|_| {});
    world.asked(2).await;
    world.scripted.release("gate");
    assert_eq!(said(&second.log(id).await), ["taken up"]);
}
