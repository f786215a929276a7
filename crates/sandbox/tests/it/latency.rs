//! What a sandbox costs from nothing to its first command. A measurement for a person, never a pass or fail.

use std::time::Instant;

use crate::support::{host, id, ok};
use sandbox::Provider;

#[tokio::test]
#[ignore = "prints figures: run it by hand, with --nocapture, on a quiet machine"]
async fn from_nothing_to_the_first_command() {
    const ROUNDS: usize = 200;
    let host = host();
    ok(&host.attach("warm").await, "true").await;
    let mut taken = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let name = format!("round-{round}");
        let start = Instant::now();
        let sandbox = host.attach(&name).await;
        ok(&sandbox, "true").await;
        taken.push(start.elapsed());
        drop(sandbox);
        host.local.delete(&id(&name)).await.unwrap();
    }
    taken.sort_unstable();
    println!(
        "attach to first command: p50 {:?}, p95 {:?}",
        taken[ROUNDS / 2],
        taken[ROUNDS * 95 / 100]
    );
}
