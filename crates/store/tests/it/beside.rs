//! What is kept beside the log: timeline, binding, sums of usage, copies of the whole.

use contract::time::Micros;
use session::{Cost, Input, Pace};
use store::timeline::{Beside, Binding, Mark, Spent};

use crate::support::{WS, addressed, at, claim, command, fact, idle, message, raw, reply, send};

fn mark(took: i64) -> Mark {
    Mark {
        spent: Spent::Model,
        at: at(1),
        took,
        detail: raw(r#"{"first_token":3}"#),
    }
}

#[tokio::test]
async fn the_timeline_says_how_long_a_turn_waited_and_what_its_runner_reports() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    send(&f.store, row.id, vec![message("hi")], at(10))
        .await
        .expect("sent");
    let claimed = claim(&f.store, row.id, at(25)).await;
    let input = Input::Fact {
        generation: claimed.state.generation,
        thread: row.state.primary.id,
        fact: Box::new(addressed(reply("hello", &[]), &claimed.state)),
        pace: Pace::Go,
    };
    let beside = Beside {
        marks: vec![mark(5)],
        binding: Some(Binding {
            body: raw(r#"{"harness":"native"}"#),
            host: None,
        }),
    };
    let done = f
        .store
        .submit_beside(WS, row.id, input, at(30), 1, beside)
        .await;
    done.expect("stored");
    let entries = f.store.timeline(WS, row.id, 0, 10).await.expect("read");
    let seen = entries.iter().map(|e| (e.spent.as_str(), e.at, e.took));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [("queue", at(10), 15), ("model", at(1), 5)]
    );
    assert!(
        entries.iter().all(|e| e.turn == 1),
        "the turn is named by its first event"
    );
    let bound = f
        .store
        .binding(WS, row.id)
        .await
        .expect("read")
        .expect("bound");
    assert_eq!(
        (bound.since, bound.generation),
        (at(30), claimed.state.generation)
    );
}

#[tokio::test]
async fn what_a_stale_runner_brings_beside_its_fact_is_not_stored() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    send(&f.store, row.id, vec![message("hi")], at(10))
        .await
        .expect("sent");
    let stale = claim(&f.store, row.id, at(20)).await.state.generation;
    f.store
        .release(row.id, stale, at(21))
        .await
        .expect("released");
    claim(&f.store, row.id, at(22)).await;
    let input = Input::Fact {
        generation: stale,
        thread: row.state.primary.id,
        fact: Box::new(reply("late", &[])),
        pace: Pace::Go,
    };
    let beside = Beside {
        marks: vec![mark(1)],
        binding: Some(Binding {
            body: raw("{}"),
            host: None,
        }),
    };
    let refused = f
        .store
        .submit_beside(WS, row.id, input, at(30), 1, beside)
        .await;
    assert!(refused.is_err());
    let entries = f.store.timeline(WS, row.id, 0, 10).await.expect("read");
    assert!(entries.iter().all(|e| e.spent == "queue"));
    assert!(f.store.binding(WS, row.id).await.expect("read").is_none());
}

#[tokio::test]
async fn the_sums_of_a_day_are_those_of_its_sessions_and_outlive_them() {
    const DAY: i64 = 86_400_000_000;
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    for (n, now) in [at(0), at(DAY)].into_iter().enumerate() {
        send(&f.store, row.id, vec![message("hi")], now)
            .await
            .expect("sent");
        let generation = claim(&f.store, row.id, now).await.state.generation;
        let later = Micros(now.0 + 1_000);
        let done = fact(&f.store, row.id, generation, reply("hello", &[]), later).await;
        assert_eq!(
            done.expect("stored").state.totals.input,
            10 * (n as u64 + 1)
        );
    }
    command(&f.store, row.id, session::Command::Delete, at(DAY + 5_000))
        .await
        .expect("deleted");
    let day = at(0).0.div_euclid(DAY);
    let days = f
        .store
        .usage_days(Some(WS), (day, day + 1), 10)
        .await
        .expect("read");
    assert_eq!(days.len(), 2);
    for (n, sum) in (0..).zip(&days) {
        assert_eq!((sum.day, sum.input, sum.output), (day + n, 10, 5));
        assert_eq!((sum.cost, sum.active), (Cost(7), 1_000));
    }
    let none = f
        .store
        .usage_days(None, (day + 2, day + 9), 10)
        .await
        .expect("read");
    assert!(none.is_empty());
}
