//! The log and the inbox as they are listed.

use contract::ids::{EventId, ThreadId};
use session::{Refused, UserEvent};
use store::Store;
use store::events::{EventList, EventPage, Of};
use store::page::{Order, TimeRange};
use store::sessions::SessionRow;
use store::{Error, SubmitError, Thing};

use crate::support::*;

fn all(limit: u32, order: Order) -> EventList {
    EventList {
        limit,
        order,
        after: None,
        kinds: Vec::new(),
        processed: TimeRange::default(),
        of: Of::Primary,
    }
}

async fn list(store: &Store, row: &SessionRow, list: EventList) -> EventPage {
    store.events(WS, row.id, list).await.expect("a page")
}

/// A running session with `waiting` messages in its inbox.
async fn busy(store: &Store, waiting: usize) -> SessionRow {
    let row = idle(store).await;
    send(store, row.id, vec![message("first")], at(10))
        .await
        .expect("sent");
    claim(store, row.id, at(20)).await;
    for n in 0..waiting {
        send(store, row.id, vec![message(&n.to_string())], at(30))
            .await
            .expect("queued");
    }
    row
}

#[tokio::test]
async fn every_event_is_listed_once_and_those_that_wait_come_last() {
    let f = super::fixture().await;
    let row = busy(&f.store, 3).await;
    let log = f.store.events_after(row.id, 0, 100).await.expect("the log");
    for order in [Order::Asc, Order::Desc] {
        for limit in 1..6 {
            let mut page = all(limit, order);
            let (mut seen, mut waiting) = (Vec::new(), Vec::new());
            loop {
                let got = list(&f.store, &row, page.clone()).await;
                assert!(got.events.len() <= limit as usize);
                seen.extend(got.events.iter().filter_map(|e| e.seq));
                assert!(waiting.is_empty(), "only the last page shows what waits");
                waiting = got.waiting;
                match got.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
            if order == Order::Desc {
                seen.reverse();
            }
            assert_eq!(seen, (1..=log.len() as u64).collect::<Vec<_>>());
            let texts = waiting
                .iter()
                .map(|w| w.json.contains("\"processed_at\":null"));
            assert_eq!(texts.filter(|null| *null).count(), 3);
            for (n, waits) in waiting.iter().enumerate() {
                assert!(
                    waits.json.contains(&format!("\"text\":\"{n}\"")),
                    "oldest first"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_waited_takes_its_place_under_the_id_it_was_echoed_with() {
    let f = super::fixture().await;
    let row = busy(&f.store, 0).await;
    let queued = send(&f.store, row.id, vec![message("later")], at(30))
        .await
        .expect("queued");
    let id = queued.echo[0].id;
    assert!(queued.events.is_empty());
    assert_eq!(f.store.event_seq(row.id, id).await.expect("asked"), None);
    let generation = queued.state.generation;
    let done = fact(&f.store, row.id, generation, reply("ok", &[]), at(40))
        .await
        .expect("replied");
    let placed = done.events.iter().find(|e| e.id == id).expect("placed");
    assert_eq!(
        f.store.event_seq(row.id, id).await.expect("asked"),
        placed.seq
    );
    let page = list(&f.store, &row, all(100, Order::Asc)).await;
    assert!(page.waiting.is_empty());
    assert_eq!(page.events.iter().filter(|e| e.id == id).count(), 1);
}

#[tokio::test]
async fn a_full_inbox_refuses_the_whole_send() {
    let f = super::fixture().await;
    let row = busy(&f.store, 0).await;
    let many = |n: usize| vec![message("x"); n];
    send(&f.store, row.id, many(999), at(30))
        .await
        .expect("queued");
    let refused = send(&f.store, row.id, many(2), at(31)).await;
    assert!(matches!(
        refused,
        Err(SubmitError::Refused(Refused::InboxFull { .. }))
    ));
    send(&f.store, row.id, many(1), at(32))
        .await
        .expect("the last one");
    let page = list(&f.store, &row, all(100, Order::Asc)).await;
    assert_eq!(page.waiting.len(), 1_000);
}

#[tokio::test]
async fn filters_by_type_and_thread_select_also_among_what_waits() {
    let f = super::fixture().await;
    let row = busy(&f.store, 1).await;
    let only = |kinds: &[&str]| EventList {
        kinds: kinds.iter().map(|k| (*k).to_owned()).collect(),
        ..all(100, Order::Asc)
    };
    let messages = list(&f.store, &row, only(&["user.message"])).await;
    assert_eq!((messages.events.len(), messages.waiting.len()), (1, 1));
    let spans = list(&f.store, &row, only(&["span.model_request_start", "x"])).await;
    assert_eq!((spans.events.len(), spans.waiting.len()), (1, 0));
    let thread = row.state.primary.id;
    let own = EventList {
        of: Of::Thread(thread),
        ..all(100, Order::Asc)
    };
    let own = list(&f.store, &row, own).await;
    assert_eq!((own.events.len(), own.waiting.len()), (4, 1));
    let other = EventList {
        of: Of::Thread(ThreadId::from_bits(99)),
        ..all(100, Order::Asc)
    };
    let other = list(&f.store, &row, other).await;
    assert_eq!((other.events.len(), other.waiting.len()), (0, 0));
}

#[tokio::test]
async fn a_range_of_time_selects_by_processing_and_leaves_out_what_waits() {
    let f = super::fixture().await;
    let row = busy(&f.store, 2).await;
    let log = f.store.events_after(row.id, 0, 100).await.expect("the log");
    let times = log
        .iter()
        .filter_map(|e| e.processed_at)
        .collect::<Vec<_>>();
    for low in &times {
        for high in &times {
            for order in [Order::Asc, Order::Desc] {
                let processed = TimeRange::default().gt(*low).lte(*high);
                let page = EventList {
                    processed,
                    ..all(100, order)
                };
                let got = list(&f.store, &row, page).await;
                let wanted = times.iter().filter(|t| *t > low && *t <= high).count();
                assert_eq!(got.events.len(), wanted);
                assert!(got.waiting.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn an_event_of_another_session_has_no_place_here() {
    let f = super::fixture().await;
    let row = busy(&f.store, 0).await;
    let other = new_session(2, agent_id(1), environment_id(1), vec![message("x")]);
    let other = f
        .store
        .create_session(other, at(1), 77)
        .await
        .expect("another");
    let theirs = f.store.events_after(other.id, 0, 1).await.expect("the log");
    assert_eq!(
        f.store
            .event_seq(row.id, theirs[0].id)
            .await
            .expect("asked"),
        None
    );
    let at_three = f
        .store
        .event_at(row.id, 3)
        .await
        .expect("asked")
        .expect("there");
    assert_eq!(at_three.kind, "user.message");
    assert!(
        f.store
            .event_at(row.id, 999)
            .await
            .expect("asked")
            .is_none()
    );
    let gone = contract::ids::SessionId::from_bits(404);
    let missing = f.store.transcript(gone, row.state.primary.id, 0).await;
    assert!(matches!(missing, Err(Error::NotFound(Thing::Session(id))) if id == gone));
}

#[tokio::test]
async fn a_long_transcript_is_read_whole_in_chunks() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    // Answers after completion: each is an event of the transcript.
    send(&f.store, row.id, vec![message("x")], at(2))
        .await
        .expect("sent");
    let generation = claim(&f.store, row.id, at(3)).await.state.generation;
    fact(
        &f.store,
        row.id,
        generation,
        reply("?", &[(7, "ask")]),
        at(4),
    )
    .await
    .expect("asked");
    let answer = UserEvent::CustomToolResult {
        call: EventId::from_bits(7),
        content: Vec::new(),
        is_error: None,
        thread: None,
    };
    for n in 0..3 {
        send(&f.store, row.id, vec![answer.clone(); 900], at(10 + n))
            .await
            .expect("answered");
    }
    let rows = f
        .store
        .transcript(row.id, row.state.primary.id, 0)
        .await
        .expect("read");
    assert_eq!(rows.len(), 2 + 2_700);
    assert!(rows.is_sorted_by(|a, b| a.seq < b.seq));
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_the_next_one_goes_on() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let large = "x".repeat(5 << 20);
    let sent = send(&f.store, row.id, vec![message(&large); 3], at(2)).await;
    let last = sent.expect("sent").state.next_seq - 1;
    let (mut seen, mut after, mut pages) = (0, None, 0);
    loop {
        let list = EventList {
            limit: 1_000,
            order: Order::Asc,
            after,
            kinds: Vec::new(),
            processed: TimeRange::default(),
            of: Of::Primary,
        };
        let page = f.store.events(WS, row.id, list).await.expect("a page");
        let bytes = page.events.iter().map(|e| e.json.len()).sum::<usize>();
        assert!(bytes <= 11 << 20, "{bytes} bytes in one page");
        (seen, pages) = (seen + page.events.len() as u64, pages + 1);
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!((seen, pages), (last, 3));
}
