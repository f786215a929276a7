//! kill -9 of a process that writes: nothing it acknowledged is missing, whatever it was doing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use contract::ids::SessionId;
use store::{Options, clock};
use tokio::task::JoinSet;

use crate::support::*;

/// Set for the child: where its database is.
const CHILD: &str = "LONGHAND_TEST_CRASH_CHILD";
const SESSIONS: u128 = 8;

/// The child: writes until it is killed, and says on stdout what was acknowledged. As a test of its own
/// it does nothing, because nobody told it where to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods)] // the parent speaks through the environment
async fn child() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let store = open(&url, Options::default()).await;
    let mut tasks = JoinSet::new();
    for n in 1..=SESSIONS {
        let store = store.clone();
        tasks.spawn(async move {
            let id = SessionId::from_bits(n);
            for round in 0.. {
                let now = clock::now();
                let Ok(sent) = send(&store, id, vec![message(&round.to_string())], now).await
                else {
                    // The inbox is full: work it off as a runner would.
                    let _ = store
                        .requeue_all(store::runs::Holder("x".to_owned()), now)
                        .await;
                    let generation = claim(&store, id, now).await.state.generation;
                    fact(&store, id, generation, reply("ok", &[]), now)
                        .await
                        .expect("replied");
                    continue;
                };
                let line = format!("{n} {}\n", sent.echo[0].id);
                let mut out = std::io::stdout().lock();
                out.write_all(line.as_bytes())
                    .and_then(|()| out.flush())
                    .expect("told");
            }
        });
    }
    tasks.join_next().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_after_kill_9() {
    let place = super::place();
    {
        let store = place.open(Options::default()).await;
        let (agent, environment) = definitions(&store).await;
        for n in 1..=SESSIONS {
            let new = new_session(n, agent, environment, Vec::new());
            store
                .create_session(new, at(1), clock::entropy())
                .await
                .expect("a session");
        }
        store.close().await;
    }
    let mut acknowledged: BTreeMap<u128, Vec<String>> = BTreeMap::new();
    for round in 0..6 {
        // A different amount of work before each kill.
        run_and_kill(&place.url(), 40 + 97 * round, &mut acknowledged);
        let store = place.open(Options::default()).await;
        for (n, ids) in &acknowledged {
            let id = SessionId::from_bits(*n);
            let row = store.session(WS, id).await.expect("readable");
            let log = store.events_after(id, 0, 1_000_000).await.expect("the log");
            let places = log.iter().filter_map(|e| e.seq).collect::<Vec<_>>();
            assert_eq!(
                places,
                (1..row.state.next_seq).collect::<Vec<_>>(),
                "gapless"
            );
            let waiting = waiting(&store, id).await;
            assert_eq!(waiting.len(), row.state.waiting as usize);
            let all = log.iter().map(|e| e.id.to_string()).chain(waiting);
            let all = all.collect::<std::collections::HashSet<_>>();
            for id in ids {
                assert!(
                    all.contains(id),
                    "round {round}: {id} was acknowledged and is gone"
                );
            }
        }
        store.close().await;
    }
    assert!(acknowledged.values().map(Vec::len).sum::<usize>() > 500);
}

async fn waiting(store: &store::Store, id: SessionId) -> Vec<String> {
    let list = store::events::EventList {
        limit: 1,
        order: store::page::Order::Desc,
        after: Some(1),
        kinds: Vec::new(),
        processed: store::page::TimeRange::default(),
        of: store::events::Of::Primary,
    };
    let page = store.events(WS, id, list).await.expect("a page");
    page.waiting.into_iter().map(|w| w.id.to_string()).collect()
}

/// Reads `lines` acknowledgements of a child, kills it, and takes what else it had said.
fn run_and_kill(url: &str, lines: usize, acknowledged: &mut BTreeMap<u128, Vec<String>>) {
    // Without the name of this crate.
    let module = module_path!().split_once("::").map(|(_, path)| path);
    let child = format!("{}::child", module.expect("a module of this crate"));
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            child.as_str(),
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env(CHILD, url)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let out = child.stdout.take().expect("piped");
    let mut seen = 0;
    for line in BufReader::new(out).lines() {
        let line = line.expect("text");
        let Some((n, id)) = line
            .split_once(' ')
            .filter(|(_, id)| id.starts_with("sevt_"))
        else {
            continue;
        };
        // The last line may have been cut by the kill.
        if let Ok(n) = n.parse()
            && id.len() == 27
        {
            acknowledged.entry(n).or_default().push(id.to_owned());
        }
        seen += 1;
        if seen == lines {
            child.kill().expect("killed");
        }
    }
    child.wait().expect("ended");
    assert!(
        seen >= lines,
        "the child ended by itself after {seen} lines"
    );
}
