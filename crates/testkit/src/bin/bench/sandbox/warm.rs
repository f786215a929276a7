//! What a sandbox costs that waited for its first use: until it is somebody's, and until a program in it has
//! said something. What one costs that is made at once stands beside it in the same run.

use std::time::{Duration, Instant};

use sandbox::Provider;
use serde_json::{Value, json};

use super::{Ground, first_output};
use crate::Wrong;
use crate::numbers::{millis, percentile};

/// Those that wait: more than are taken while one is made.
const WAITING: usize = 4;
/// How long another may take to wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// The figures of so many rounds.
pub(super) async fn warm(rounds: usize) -> Result<Value, Wrong> {
    let ground = Ground::with(|config| config.warm = WAITING)?;
    ground.local.warm_up().await?;
    let (mut claimed, mut said) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        // Each is taken while nothing else is made, as between two sessions.
        let deadline = Instant::now() + PATIENCE;
        while ground.local.waiting() < WAITING {
            if Instant::now() > deadline {
                return Err("no sandbox came to wait for its first use".into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let name = format!("warm{round}");
        let begun = Instant::now();
        let sandbox = ground.attach(&name).await?;
        let taken = begun.elapsed();
        if sandbox.birth().how != sandbox::How::Ready {
            return Err("one that waited was not taken".into());
        }
        first_output(&sandbox).await?;
        if round > 0 {
            claimed.push(taken);
            said.push(begun.elapsed());
        }
        drop(sandbox);
        ground.delete(&name).await?;
    }
    ground.local.shutdown().await;
    Ok(json!({
        "claim_p50_ms": millis(percentile(&claimed, 50)), "claim_p99_ms": millis(percentile(&claimed, 99)),
        "first_output_p50_ms": millis(percentile(&said, 50)), "first_output_p99_ms": millis(percentile(&said, 99)),
    }))
}
