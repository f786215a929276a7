//! Writes that meet another server's from both ends: the database ends one of the two, and whoever that is decides again
//! on what the other has committed, whatever it wrote.

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::support::*;

/// A connection beside the store's, driven by a task of `tasks`.
async fn beside(url: &str, tasks: &mut JoinSet<()>) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connected");
    tasks.spawn(async move {
        let _ = connection.await;
    });
    // Should it ever wait in a circle, it is not the one that is ended for it.
    let settings = "SET deadlock_timeout = '10min'; SET application_name = 'beside'; BEGIN";
    client.batch_execute(settings).await.expect("settings");
    client
}

async fn lock(client: &Client, agent: &contract::ids::AgentId) {
    let sql = "SELECT 1 FROM agents WHERE id = $1 FOR UPDATE";
    client.execute(sql, &[&agent.to_string()]).await.expect("locked");
}

/// Waits until a connection whose name is `who` waits for one of `whom`'s.
async fn waits(watcher: &Client, who: &str, whom: &Client) {
    let pid = whom.query_one("SELECT pg_backend_pid()", &[]).await.expect("its id");
    let pid: i32 = pid.get(0);
    eventually(&format!("{who} waits"), async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = $1 AND $2 = ANY (pg_blocking_pids(pid))";
        let row = watcher.query_one(sql, &[&who, &pid]).await.expect("asked");
        row.get::<_, i64>(0) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_whose_change_ends_in_a_deadlock_is_changed_all_the_same() {
    let place = super::place();
    let store = place.open(options()).await;
    let agents = [agent_id(1), agent_id(2), agent_id(3)];
    for agent in agents {
        let made = store.create_agent(WS, agent, raw(r#"{"name":"a"}"#), at(0));
        made.await.expect("an agent");
    }
    let (url, mut tasks) = (place.url(), JoinSet::new());
    let watcher = beside(&url, &mut tasks).await;
    watcher.batch_execute("COMMIT").await.expect("no transaction");
    let (first, gate, other) = (
        beside(&url, &mut tasks).await,
        beside(&url, &mut tasks).await,
        beside(&url, &mut tasks).await,
    );
    lock(&first, &agents[0]).await;
    lock(&gate, &agents[1]).await;
    lock(&other, &agents[2]).await;
    // All three are changed in one transaction: the two that come later are there before the first has been made.
    let mut changes = JoinSet::new();
    for (n, agent) in agents.into_iter().enumerate() {
        let (one, body) = (store.clone(), raw(r#"{"name":"b"}"#));
        changes.spawn(async move { one.update_agent(WS, agent, 1, body, at(1)).await });
        match n {
            0 => waits(&watcher, "longhand", &first).await,
            n => {
                eventually("it stands in the queue", async || {
                    store.stats().queue_depth >= n as u64
                })
                .await;
            }
        }
    }
    first.batch_execute("COMMIT").await.expect("committed");
    waits(&watcher, "longhand", &gate).await;
    // It has the first and will want the last, which this one has, and which wants the first.
    let wants = lock(&other, &agents[0]);
    let closes = async {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'beside' AND wait_event_type = 'Lock'";
        eventually("the other waits", async || {
            let row = watcher.query_one(sql, &[]).await.expect("asked");
            row.get::<_, i64>(0) == 1
        })
        .await;
        gate.batch_execute("COMMIT").await.expect("committed");
    };
    tokio::join!(wants, closes);
    let sql = "UPDATE agents SET updated_at = 7 WHERE id = $1";
    other.execute(sql, &[&agents[0].to_string()]).await.expect("its turn");
    other.batch_execute("COMMIT").await.expect("it was not ended");
    while let Some(done) = changes.join_next().await {
        let changed = done.expect("no panic").expect("changed, after another attempt");
        assert_eq!(changed.version, 2);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_takes_none_of_its_neighbours_with_it() {
    let place = super::place();
    let store = place.open(options()).await;
    let (url, mut tasks) = (place.url(), JoinSet::new());
    let watcher = beside(&url, &mut tasks).await;
    watcher.batch_execute("COMMIT").await.expect("no transaction");
    let first = beside(&url, &mut tasks).await;
    let made = store.create_agent(WS, agent_id(1), raw(r#"{"name":"a"}"#), at(0));
    made.await.expect("an agent");
    lock(&first, &agent_id(1)).await;
    let mut writes = JoinSet::new();
    let one = store.clone();
    writes.spawn(async move {
        let done = one.update_agent(WS, agent_id(1), 1, raw(r#"{"name":"b"}"#), at(1)).await;
        (0, done)
    });
    waits(&watcher, "longhand", &first).await;
    // New, then one that is there already, in turn.
    for n in 1..=6_usize {
        let one = store.clone();
        let id = agent_id(if n % 2 == 0 { 1 } else { 10 + n as u128 });
        writes.spawn(async move { (n, one.create_agent(WS, id, raw(r#"{"name":"c"}"#), at(1)).await) });
        eventually("it stands in the queue", async || store.stats().queue_depth >= n as u64).await;
    }
    first.batch_execute("COMMIT").await.expect("committed");
    while let Some(done) = writes.join_next().await {
        let (n, done) = done.expect("no panic");
        assert_eq!(done.is_ok(), n % 2 == 1 || n == 0, "{n}: {done:?}");
    }
    store.close().await;
}
