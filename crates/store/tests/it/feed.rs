//! The feed: what a watcher sees, in which order, and how it ends.

use std::sync::Arc;

use contract::ids::EventId;
use session::{Command, UserEvent};
use store::feed::{Ended, Item, Preview, PreviewKind};

use crate::support::*;

fn preview(row: &store::sessions::SessionRow) -> Preview {
    Preview {
        thread: row.state.primary.id,
        event: EventId::from_bits(5),
        of: "agent.message",
        kind: PreviewKind::Delta,
        json: Arc::from("{}"),
    }
}

#[tokio::test]
async fn a_watcher_sees_what_was_committed_in_order() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let mut watch = f.store.subscribe(row.id);
    send(&f.store, row.id, vec![message("x")], at(2))
        .await
        .expect("sent");
    claim(&f.store, row.id, at(3)).await;
    let queued = send(&f.store, row.id, vec![message("y")], at(4))
        .await
        .expect("queued");
    f.store.publish_preview(row.id, preview(&row));
    let log = f.store.events_after(row.id, 0, 100).await.expect("the log");
    for wanted in log {
        match watch.next().await {
            Ok(Item::Event(seen)) => assert_eq!(*seen, wanted),
            other => panic!("{other:?}"),
        }
    }
    match watch.next().await {
        Ok(Item::Announced(seen)) => {
            assert_eq!(seen.id, queued.echo[0].id);
            assert!(seen.json.contains("\"processed_at\":null"));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(watch.next().await, Ok(Item::Preview(_))));
}

#[tokio::test]
async fn what_is_refused_is_not_seen() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let mut watch = f.store.subscribe(row.id);
    let unknown = UserEvent::CustomToolResult {
        call: EventId::from_bits(1),
        content: Vec::new(),
        is_error: None,
        thread: None,
    };
    send(&f.store, row.id, vec![message("x"), unknown], at(2))
        .await
        .expect_err("refused");
    f.store.publish_preview(row.id, preview(&row));
    assert!(
        matches!(watch.next().await, Ok(Item::Preview(_))),
        "nothing came before it"
    );
}

#[tokio::test]
async fn a_watcher_that_lags_is_cut_and_holds_up_nobody() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let mut slow = f.store.subscribe_with(row.id, 4);
    let mut quick = f.store.subscribe(row.id);
    send(&f.store, row.id, vec![message("x"); 10], at(2))
        .await
        .expect("sent");
    let mut seen = 0;
    let ended = loop {
        match slow.next().await {
            Ok(_) => seen += 1,
            Err(ended) => break ended,
        }
    };
    assert_eq!((seen, ended), (4, Ended::Lagged));
    assert_eq!(slow.next().await.err(), Some(Ended::Lagged));
    for _ in 0..12 {
        assert!(quick.next().await.is_ok());
    }
    assert_eq!(f.store.stats().cut, 1);
}

#[tokio::test]
async fn deletion_is_the_last_thing_seen() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let mut watch = f.store.subscribe(row.id);
    command(&f.store, row.id, Command::Delete, at(2))
        .await
        .expect("deleted");
    match watch.next().await {
        Ok(Item::Event(seen)) => assert_eq!(seen.kind, "session.deleted"),
        other => panic!("{other:?}"),
    }
    assert_eq!(watch.next().await.err(), Some(Ended::Deleted));
}

#[tokio::test]
async fn a_session_that_nobody_watches_holds_nothing() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    assert!(!f.store.is_watched(row.id));
    let watch = f.store.subscribe(row.id);
    let other = f.store.subscribe(row.id);
    assert!(f.store.is_watched(row.id));
    drop(watch);
    assert!(f.store.is_watched(row.id));
    drop(other);
    assert!(!f.store.is_watched(row.id));
}

#[tokio::test]
async fn closing_the_store_ends_every_watcher() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let mut watch = f.store.subscribe(row.id);
    f.store.close().await;
    assert_eq!(watch.next().await.err(), Some(Ended::Closed));
}

#[tokio::test]
async fn a_slow_watcher_loses_previews_from_a_gap_on_and_never_its_stream() {
    let f = super::fixture().await;
    let row = idle(&f.store).await;
    let mut slow = f.store.subscribe_with(row.id, 4);
    for _ in 0..50 {
        f.store.publish_preview(row.id, preview(&row));
    }
    let mut previews = 0;
    while previews < 3 {
        let item = slow.next().await.expect("still watching");
        assert!(matches!(item, Item::Preview(_)));
        previews += 1;
    }
    // There is room again, but what follows a gap is no prefix.
    f.store.publish_preview(row.id, preview(&row));
    send(&f.store, row.id, vec![message("x")], at(2))
        .await
        .expect("sent");
    assert!(matches!(slow.next().await, Ok(Item::Event(_))));
    assert_eq!(f.store.stats().cut, 0);
}
