//! How a file keeps what sessions are made from, and their numbers: seen through a connection of its own.

use std::path::Path;

use contract::ids::SessionId;
use contract::patch::Patch;
use rusqlite::Connection;
use session::{AgentChange, Command};
use store::sessions::Scope;
use store::{Options, Store};

use super::place;
use crate::support::{WS, at, command, definitions, new_session, options, raw};

fn counted(path: &Path) -> Vec<i64> {
    let conn = Connection::open(path).expect("the file");
    let mut counts = conn
        .prepare("SELECT n FROM grounds ORDER BY num")
        .expect("a statement");
    let rows = counts.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("numbers")
}

fn numbers(path: &Path) -> Vec<i64> {
    let conn = Connection::open(path).expect("the file");
    let mut nums = conn
        .prepare("SELECT num FROM sessions ORDER BY num")
        .expect("a statement");
    let rows = nums.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("numbers")
}

async fn delete(store: &Store, n: u128) {
    let id = SessionId::from_bits(n);
    command(store, id, Command::Delete, at(50))
        .await
        .expect("deleted");
}

#[tokio::test]
async fn sessions_that_are_made_from_the_same_share_it_until_the_last_is_gone() {
    let place = place();
    let store = place.open(options()).await;
    let path = place.files().expect("files").join("t.db");
    let (agent, environment) = definitions(&store).await;
    for n in 1..=3 {
        let new = new_session(n, agent, environment, Vec::new());
        store.create_session(new, at(1), n).await.expect("made");
    }
    assert_eq!(counted(&path), [3]);
    let mut other = new_session(4, agent, environment, Vec::new());
    other.agent = raw(r#"{"name":"another"}"#).into();
    store.create_session(other, at(2), 4).await.expect("made");
    assert_eq!(counted(&path), [3, 1]);
    let refused = store.delete_environment(WS, environment).await;
    assert!(refused.is_err(), "sessions are made from it");
    delete(&store, 4).await;
    assert_eq!(counted(&path), [3]);
    // Made again after its row was gone, and by a writer that remembers nothing.
    let mut other = new_session(5, agent, environment, Vec::new());
    other.agent = raw(r#"{"name":"another"}"#).into();
    store.create_session(other, at(3), 5).await.expect("made");
    store.close().await;
    let store = place.open(options()).await;
    let new = new_session(6, agent, environment, Vec::new());
    store.create_session(new, at(4), 6).await.expect("made");
    assert_eq!(counted(&path), [4, 1]);
    for n in [1, 2, 3, 5, 6] {
        delete(&store, n).await;
    }
    assert_eq!(counted(&path), Vec::<i64>::new());
    store
        .delete_environment(WS, environment)
        .await
        .expect("nothing is made from it any more");
    store.close().await;
}

#[tokio::test]
async fn a_session_whose_agent_is_changed_leaves_the_others_as_they_were() {
    let place = place();
    let store = place.open(Options::default()).await;
    let (agent, environment) = definitions(&store).await;
    for n in 1..=2 {
        let new = new_session(n, agent, environment, Vec::new());
        store.create_session(new, at(1), n).await.expect("made");
    }
    let rules = new_session(1, agent, environment, Vec::new()).opening.rules;
    let change = AgentChange {
        snapshot: raw(r#"{"name":"changed"}"#),
        rules,
    };
    let update = Command::Update(Box::new(session::Update {
        title: Patch::Absent,
        metadata: std::collections::BTreeMap::new(),
        agent: Some(change),
        budget: Patch::Absent,
    }));
    command(&store, SessionId::from_bits(1), update, at(2))
        .await
        .expect("updated");
    for (n, name) in [(1, r#"{"name":"changed"}"#), (2, r#"{"name":"a"}"#)] {
        let row = store.session(Scope::Any, SessionId::from_bits(n)).await;
        assert_eq!(row.expect("there").agent.get(), name);
    }
    store.close().await;
}

#[tokio::test]
async fn a_number_is_given_once_also_when_the_last_session_went_and_the_server_was_restarted() {
    let place = place();
    let path = place.files().expect("files").join("t.db");
    let store = place.open(options()).await;
    let (agent, environment) = definitions(&store).await;
    for n in 1..=3 {
        let new = new_session(n, agent, environment, Vec::new());
        store.create_session(new, at(1), n).await.expect("made");
    }
    delete(&store, 3).await;
    let new = new_session(4, agent, environment, Vec::new());
    store.create_session(new, at(2), 4).await.expect("made");
    delete(&store, 4).await;
    store.close().await;
    let store = place.open(options()).await;
    let new = new_session(5, agent, environment, Vec::new());
    store.create_session(new, at(3), 5).await.expect("made");
    let taken = new_session(5, agent, environment, Vec::new());
    assert!(store.create_session(taken, at(3), 6).await.is_err());
    let new = new_session(6, agent, environment, Vec::new());
    store.create_session(new, at(4), 7).await.expect("made");
    let numbers = numbers(&path);
    assert_eq!(numbers[..3], [1, 2, 5]);
    assert!(numbers.len() == 4 && numbers[3] > 5, "{numbers:?}");
    store.close().await;
}
