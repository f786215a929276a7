//! A database moves from a file to a server: whole, once, and again from where it stopped.

use contract::ids::ApiKeyId;
use store::keys::{ApiKeyRow, KeyHash, KeyRole};
use store::moving::{self, MoveError, Moved};
use store::sessions::Scope;
use store::{Store, clock};
use tokio::sync::Notify;

use crate::cluster::Database;
use crate::support::*;

/// A file with sessions of every kind of row that a turn leaves; how many sessions.
async fn filled(place: &Place) -> u128 {
    let store = place.open(options()).await;
    let key = ApiKeyRow {
        id: ApiKeyId::from_bits(1),
        workspace: WS,
        hash: KeyHash([1; 32]),
        prefix: "lh_abcd".to_owned(),
        last4: "wxyz".to_owned(),
        name: "k".to_owned(),
        role: KeyRole::Operator,
        created_at: at(1),
        revoked_at: None,
    };
    store.create_api_key(key).await.expect("made");
    let (agent, environment) = definitions(&store).await;
    for n in 1..=30 {
        let new = new_session(n, agent, environment, Vec::new());
        let made = store.create_session(new, at(1), clock::entropy()).await;
        let id = made.expect("a session").id;
        for _ in 0..20 {
            send(&store, id, vec![message("ä\u{0001}")], at(2)).await.expect("sent");
        }
        let held = claim(&store, id, at(3)).await.state.generation;
        fact(&store, id, held, reply("x", &[(n, "bash")]), at(4)).await.expect("stored");
        send(&store, id, vec![message("waits")], at(5)).await.expect("sent");
    }
    // What was deleted must not come back, nor its number.
    let last = contract::ids::SessionId::from_bits(30);
    let state = store.session(WS, last).await.expect("there").state;
    assert!(state.waiting > 0);
    store.close().await;
    30
}

async fn run(place: &Place, database: &Database) -> Result<Vec<Moved>, MoveError> {
    let file = place.files().expect("a file").join("t.db");
    moving::run(&file, &database.url(), "here", |_| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_is_there_and_a_second_move_is_refused() {
    let (place, database) = (Place::sqlite(), Database::new());
    let sessions = filled(&place).await;
    let moved = run(&place, &database).await.expect("moved");
    let rows = |table: &str| {
        let found = moved.iter().find(|one| one.table == table);
        found.map_or(0, |one| one.sum.rows)
    };
    assert_eq!(u128::from(rows("sessions")), sessions);
    assert!(rows("events") > 300 && rows("inbox") >= 30 && rows("runs") == 30);
    let (before, after) = (place.open(options()).await, open(&database.url(), options()).await);
    for n in 1..=sessions {
        let id = contract::ids::SessionId::from_bits(n);
        let (was, is) = (before.session(WS, id).await, after.session(WS, id).await);
        assert_eq!(was.expect("there").state, is.expect("there").state);
        let (was, is) = (
            before.events_after(id, 0, 1_000).await,
            after.events_after(id, 0, 1_000).await,
        );
        assert_eq!(was.expect("a log"), is.expect("a log"));
    }
    let known = after.authenticate(KeyHash([1; 32])).await.expect("asked");
    assert_eq!(known.map(|key| key.role), Some(KeyRole::Operator));
    // It goes on there: new rows get numbers that none had.
    let (agent, environment) = (agent_id(1), environment_id(1));
    let new = new_session(99, agent, environment, Vec::new());
    let made = after.create_session(new, at(9), clock::entropy()).await;
    let made = made.expect("a session").id;
    assert_eq!(after.session(Scope::Any, made).await.expect("there").id, made);
    before.close().await;
    after.close().await;
    let again = run(&place, &database).await;
    let Err(MoveError::NotEmpty { found }) = again else {
        panic!("{again:?}");
    };
    assert!(found.contains("31 sessions"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_goes_on_and_until_then_no_server_starts() {
    let (place, database) = (Place::sqlite(), Database::new());
    filled(&place).await;
    let file = place.files().expect("a file").join("t.db");
    let stop = Notify::new();
    let url = database.url();
    let begun = moving::run(&file, &url, "here", |one| {
        if one.table == "events" {
            stop.notify_one();
        }
    });
    tokio::select! {
        done = begun => panic!("nothing interrupted it: {done:?}"),
        () = stop.notified() => {}
    }
    let refused = Store::connect(&url, options()).await;
    let said = refused.expect_err("a move is under way").to_string();
    assert!(said.contains("longhand move"), "{said}");
    let moved = run(&place, &database).await.expect("moved");
    let whole = Database::new();
    assert_eq!(run(&place, &whole).await.expect("moved"), moved);
    open(&url, options()).await.close().await;
}
