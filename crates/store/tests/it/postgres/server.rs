//! What only a server has: it may be the wrong one, it may be away for a while, and several processes use it.

use std::time::Duration;

use store::{OpenError, Options, Store, SubmitError};

use crate::cluster::{Cluster, Database};
use crate::support::*;

/// The text of an error with everything below it.
fn text(error: &dyn std::error::Error) -> String {
    let below = error.source().map(|below| format!(": {}", text(below)));
    format!("{error}{}", below.unwrap_or_default())
}

async fn refused(url: &str) -> String {
    let done = Store::connect(url, options()).await;
    let error = done.err().unwrap_or_else(|| panic!("{url} was opened"));
    text(&error)
}

#[tokio::test]
async fn what_is_wrong_with_a_url_is_said_without_its_password() {
    for (url, says) in [
        ("mysql://u:hunter2@h/d", "neither sqlite:// nor postgres://"),
        ("postgres://u:hunter2@h:port/d", "port"),
        ("postgres://h/d", "names no user"),
        ("postgres://u:hunter2@h/d?sslmode=maybe", "sslmode"),
        ("postgres://u:hunter2@h/d?sslrootcert=/nowhere", "/nowhere"),
        ("postgres://u:hunter2@h/d?options=-cjit%3Don", "options"),
        ("postgres://u:hunter2@127.0.0.1:1/d", "refused"),
    ] {
        let said = refused(url).await;
        assert!(said.contains(says), "{url}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_server_that_will_not_do_is_refused_with_what_to_do() {
    let database = Database::new();
    let url = database.url();
    let name = database.name();
    let missing = refused(&url.replace(name, "nowhere_at_all")).await;
    assert!(missing.contains("does not exist"), "{missing}");
    database.administer(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ));
    let said = refused(&url).await;
    assert!(said.contains("read-only"), "{said}");
    database.administer(&format!(
        "ALTER DATABASE {name} RESET default_transaction_read_only"
    ));
    let many = Options {
        readers: 500,
        ..options()
    };
    let done = Store::connect(&url, many).await.expect_err("refused");
    let said = text(&done);
    assert!(said.contains("raise its max_connections"), "{said}");
    Store::connect(&url, options()).await.expect("opened");
    let _ = database.sql("INSERT INTO migrations VALUES (9999, '', 0)");
    let newer = Store::connect(&url, options()).await;
    assert!(matches!(newer, Err(OpenError::Newer { found: 9999, .. })));
    let _ = database.sql("DELETE FROM migrations WHERE version = 9999");
    let _ = database.sql("UPDATE migrations SET checksum = '' WHERE version = 2");
    let altered = Store::connect(&url, options()).await;
    assert!(matches!(
        altered,
        Err(OpenError::Altered { version: 2, .. })
    ));
}

#[test]
fn a_table_that_is_read_from_end_to_end_is_found() {
    let database = prepared();
    let _ = database.sql("SELECT 1 FROM events WHERE body = 'x'");
    assert!(database.scanned(&["events"]).contains("events"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_migrate_once() {
    let database = Database::new();
    let mut opened = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let url = database.url();
        opened.spawn(async move { Store::connect(&url, options()).await });
    }
    while let Some(done) = opened.join_next().await {
        done.expect("no panic").expect("opened");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_decide_on_a_session_one_after_the_other() {
    let place = super::place();
    let (one, two) = (place.open(options()).await, place.open(options()).await);
    let row = idle(&one).await;
    let mut sent = tokio::task::JoinSet::new();
    for n in 0..60 {
        let store = if n % 2 == 0 { one.clone() } else { two.clone() };
        sent.spawn(async move { send(&store, row.id, vec![message("x")], at(2)).await });
    }
    while let Some(done) = sent.join_next().await {
        done.expect("no panic").expect("sent");
    }
    let state = two.session(WS, row.id).await.expect("there").state;
    let log = one.events_after(row.id, 0, 1_000).await.expect("a log");
    let places = log.iter().filter_map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(places, (1..state.next_seq).collect::<Vec<_>>(), "gapless");
    let placed = log.iter().filter(|e| e.kind == "user.message").count();
    assert_eq!(placed + state.waiting as usize, 60);
    // Of two that claim the turn one has it, and what a stale one brings is refused.
    let (first, second) = tokio::join!(
        one.claim(row.id, holder(), None, at(3), 1),
        two.claim(
            row.id,
            store::runs::Holder("other".to_owned()),
            None,
            at(3),
            2
        ),
    );
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
    let lost = if first.is_err() { first } else { second };
    assert!(matches!(lost, Err(SubmitError::Held { .. })), "{lost:?}");
}

#[tokio::test]
async fn a_server_that_was_away_is_used_again_without_a_restart() {
    let home = tempfile::Builder::new().prefix("lhpg").tempdir();
    let home = home.expect("a directory");
    let cluster = Cluster::new(&home.path().join("c"));
    // What is acknowledged outlives a power cut.
    let store = Store::connect(&cluster.url(), Options::default()).await;
    let store = store.expect("opened");
    let row = idle(&store).await;
    send(&store, row.id, vec![message("before")], at(2))
        .await
        .expect("sent");
    cluster.stop();
    let away = send(&store, row.id, vec![message("away")], at(3)).await;
    assert!(matches!(away, Err(SubmitError::Unavailable(_))), "{away:?}");
    let read = store.session(WS, row.id).await;
    assert!(matches!(read, Err(store::Error::Unavailable(_))));
    cluster.start();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = store.session(WS, row.id).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
    send(&store, row.id, vec![message("after")], at(4))
        .await
        .expect("sent");
    let log = store.events_after(row.id, 0, 100).await.expect("a log");
    let said = log.iter().filter(|e| e.kind == "user.message").count();
    let state = store.session(WS, row.id).await.expect("there").state;
    assert_eq!(said + state.waiting as usize, 2);
    assert_eq!(cluster.sql("SELECT count(*) FROM sessions").trim(), "1");
}
