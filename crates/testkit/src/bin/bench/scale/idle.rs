//! What a million idle sessions slow. Made over the interface they would take hours: they are copies of one that was,
//! written by statements; their events are not, as an idle session's events are read by nobody.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::{Api, Ground};
use testkit::cluster::Cluster;
use testkit::process::Server;
use testkit::setting;

use super::one_turn;
use crate::Wrong;
use crate::numbers::{millis, percentile, rounded};

/// Idle sessions, unless `TESTKIT_BENCH_IDLE` says otherwise.
const MANY: u64 = 1_000_000;

/// Sessions written by one statement.
const LOT: u64 = 100_000;

/// How often each thing is timed.
const TIMES: usize = 200;

/// Runs it on a server whose database has few sessions.
pub(super) async fn run(
    server: &Server,
    ground: &Ground,
    cluster: Option<&Cluster>,
) -> Result<Value, Wrong> {
    let cluster = cluster.ok_or("the server is on a file")?;
    let api = server.api();
    let many = setting::number("TESTKIT_BENCH_IDLE", MANY);
    // Both on a database whose tables were looked at, as that of a server that runs for long.
    let _ = cluster.sql("VACUUM ANALYZE");
    let floor = timed(&api, ground).await?;
    let begun = Instant::now();
    copies(cluster, &api.session(ground).await?, many);
    eprintln!("{many} sessions were written in {:?}", begun.elapsed());
    let figure = timed(&api, ground).await?;
    let mut shown = serde_json::Map::new();
    let mut met = true;
    for ((name, figure), (_, floor)) in figure.into_iter().zip(floor) {
        let ratio = rounded(figure.as_secs_f64() / floor.as_secs_f64().max(1e-9));
        met &= ratio <= 1.2;
        let of = json!({"figure_ms": millis(figure), "floor_ms": millis(floor), "ratio": ratio});
        shown.insert(name.to_owned(), of);
    }
    let size = cluster.sql("SELECT pg_database_size(current_database())");
    Ok(json!({
        "sessions": many, "p50": shown, "database_bytes": size.trim().parse::<u64>()?,
        "target": {"ratio": 1.2}, "met": met,
    }))
}

/// Copies of an idle session, apart from their ids and times.
fn copies(cluster: &Cluster, of: &str, many: u64) {
    let mut from = 1;
    while from <= many {
        let to = (from + LOT - 1).min(many);
        // Digits as they stand in ids, which know no 0.
        let id = "'sesn_' || lpad(translate(n::text, '0123456789', 'ABCDEFGHJK'), 22, '1')";
        let statements = format!(
            "WITH made AS (
               INSERT INTO sessions (id, workspace, agent, agent_version, environment, created_at, title,
                   metadata, vaults, agent_body, environment_body)
               SELECT {id}, workspace, agent, agent_version, environment, created_at - n, title, metadata, vaults,
                   agent_body, environment_body
               FROM sessions, generate_series({from}, {to}) n WHERE id = '{of}' RETURNING num, id)
             INSERT INTO session_states (num, generation, status, updated_at, archived_at, state)
             SELECT made.num, st.generation, st.status, st.updated_at, st.archived_at,
                 replace(st.state, '{of}', made.id)
             FROM made, sessions t JOIN session_states st ON st.num = t.num WHERE t.id = '{of}'"
        );
        let _ = cluster.sql(&statements);
        from = to + 1;
    }
    let _ = cluster.sql("VACUUM ANALYZE");
}

/// The medians of what clients do: sessions made, turns, pages of the list, and an old session read.
async fn timed(api: &Api, ground: &Ground) -> Result<[(&'static str, Duration); 4], Wrong> {
    let (mut creates, mut turns, mut pages, mut reads) = (vec![], vec![], vec![], vec![]);
    let session = api.session(ground).await?;
    let mut stream = api.stream(&session, false).await?;
    let path = format!("/v1/sessions/{session}");
    for n in 0..TIMES {
        let begun = Instant::now();
        api.post("/v1/sessions", &ground.session()).await?;
        creates.push(begun.elapsed());
        if n % 10 == 0 {
            turns.push(one_turn(api, &session, &mut stream, n).await?);
        }
        let begun = Instant::now();
        api.get("/v1/sessions?limit=20").await?;
        pages.push(begun.elapsed());
        let begun = Instant::now();
        api.get(&path).await?;
        reads.push(begun.elapsed());
    }
    let p50 = |times: &[Duration]| percentile(times, 50);
    Ok([
        ("create", p50(&creates)),
        ("turn", p50(&turns)),
        ("page", p50(&pages)),
        ("read", p50(&reads)),
    ])
}
