//! Paging: every item exactly once, whatever the page size, the order, the direction and what is added
//! meanwhile.

use contract::ids::{AgentId, SessionId};
use contract::time::Micros;
use proptest::prelude::*;
use session::Status;
use store::Store;
use store::page::{List, Order, TimeRange};
use store::sessions::{SessionFilter, SessionRow};

use crate::support::*;

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(work)
}

async fn page(store: &Store, list: List<SessionId>) -> store::page::Slice<SessionRow> {
    store
        .sessions(WS, list, SessionFilter::default())
        .await
        .expect("a page")
}

fn ids(rows: &[SessionRow]) -> Vec<SessionId> {
    rows.iter().map(|r| r.id).collect()
}

/// Sessions made at these instants; several may share one.
async fn make(store: &Store, times: &[i64]) -> Vec<(Micros, SessionId)> {
    let (agent, environment) = definitions(store).await;
    let mut made = Vec::new();
    for (n, time) in times.iter().enumerate() {
        let new = new_session(n as u128 + 1, agent, environment, Vec::new());
        let row = store
            .create_session(new, at(*time), n as u128 + 1)
            .await
            .expect("a session");
        made.push((row.created_at, row.id));
    }
    made
}

fn in_order(mut made: Vec<(Micros, SessionId)>, order: Order) -> Vec<SessionId> {
    made.sort();
    if order == Order::Desc {
        made.reverse();
    }
    made.into_iter().map(|(_, id)| id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_item_is_seen_once_forwards_and_again_backwards(
        times in proptest::collection::vec(0i64..6, 0..14),
        limit in 1u32..6,
        descending: bool,
    ) {
        let order = if descending { Order::Desc } else { Order::Asc };
        block(async {
            let f = super::fixture().await;
            let made = make(&f.store, &times).await;
            let wanted = in_order(made, order);
            let first = List { order, ..List::newest(limit) };
            let mut pages = vec![page(&f.store, first.clone()).await];
            assert!(!pages[0].has_prev);
            while let Some(last) = pages.last().filter(|p| p.has_next) {
                let last = last.items.last().expect("a page before another is full");
                let next = first.clone().after(last.created_at, last.id);
                let next = page(&f.store, next).await;
                assert!(next.has_prev);
                pages.push(next);
            }
            let seen = pages.iter().flat_map(|p| ids(&p.items)).collect::<Vec<_>>();
            assert_eq!(seen, wanted);
            for pair in pages.windows(2).rev() {
                let at = &pair[1].items[0];
                let back = page(&f.store, first.clone().before(at.created_at, at.id)).await;
                assert_eq!(ids(&back.items), ids(&pair[0].items));
                assert!(back.has_next);
                assert_eq!(back.has_prev, pair[0].has_prev);
            }
        });
    }

    #[test]
    fn a_range_of_creation_shows_what_lies_in_it(
        times in proptest::collection::vec(0i64..6, 0..12),
        low in 0i64..6,
        high in 0i64..6,
        descending: bool,
    ) {
        let order = if descending { Order::Desc } else { Order::Asc };
        block(async {
            let f = super::fixture().await;
            let made = make(&f.store, &times).await;
            let within = made.into_iter().filter(|(t, _)| *t >= at(low) && *t < at(high));
            let wanted = in_order(within.collect(), order);
            let created = TimeRange::default().gte(at(low)).lt(at(high));
            let mut list = List { order, created, ..List::newest(2) };
            let mut seen = Vec::new();
            loop {
                let got = page(&f.store, list.clone()).await;
                seen.extend(ids(&got.items));
                match got.items.last().filter(|_| got.has_next) {
                    Some(last) => list = list.after(last.created_at, last.id),
                    None => break,
                }
            }
            assert_eq!(seen, wanted);
        });
    }
}

#[tokio::test]
async fn what_is_added_meanwhile_neither_repeats_nor_hides_an_item() {
    let f = super::fixture().await;
    let made = make(&f.store, &[1, 2, 3, 4, 5, 6]).await;
    let first = page(&f.store, List::newest(2)).await;
    for n in 100..110u128 {
        let time = if n % 2 == 0 { 100 } else { 0 };
        let new = new_session(n, agent_id(1), environment_id(1), Vec::new());
        f.store
            .create_session(new, at(time), n)
            .await
            .expect("another");
    }
    let mut seen = ids(&first.items);
    let mut at_end = first.items.last().map(|r| (r.created_at, r.id));
    while let Some((time, id)) = at_end {
        let next = page(&f.store, List::newest(2).after(time, id)).await;
        seen.extend(ids(&next.items));
        at_end = next
            .items
            .last()
            .filter(|_| next.has_next)
            .map(|r| (r.created_at, r.id));
    }
    for (_, id) in made {
        assert_eq!(seen.iter().filter(|s| **s == id).count(), 1, "{id}");
    }
}

#[tokio::test]
async fn archived_items_are_listed_only_on_demand() {
    let f = super::fixture().await;
    let made = make(&f.store, &[1, 2, 3]).await;
    command(&f.store, made[1].1, session::Command::Archive, at(9))
        .await
        .expect("archived");
    let shown = page(&f.store, List::newest(10)).await;
    assert_eq!(ids(&shown.items), [made[2].1, made[0].1]);
    let all = List {
        include_archived: true,
        ..List::newest(10)
    };
    assert_eq!(page(&f.store, all).await.items.len(), 3);
}

#[tokio::test]
async fn filters_by_status_agent_and_version_select() {
    let f = super::fixture().await;
    let made = make(&f.store, &[1, 2]).await;
    send(&f.store, made[0].1, vec![message("x")], at(5))
        .await
        .expect("sent");
    let of = |filter: SessionFilter| {
        let store = f.store.clone();
        async move {
            ids(&store
                .sessions(WS, List::newest(9), filter)
                .await
                .expect("page")
                .items)
        }
    };
    let statuses = vec![Status::Terminated, Status::Running];
    assert_eq!(
        of(SessionFilter {
            statuses,
            ..SessionFilter::default()
        })
        .await,
        [made[0].1]
    );
    let agent = Some(agent_id(1));
    let found = of(SessionFilter {
        agent_id: agent,
        ..SessionFilter::default()
    })
    .await;
    assert_eq!(found.len(), 2);
    let other = Some(AgentId::from_bits(77));
    assert!(
        of(SessionFilter {
            agent_id: other,
            ..SessionFilter::default()
        })
        .await
        .is_empty()
    );
    let version = SessionFilter {
        agent_id: agent,
        agent_version: Some(2),
        statuses: Vec::new(),
    };
    assert!(of(version).await.is_empty());
}
