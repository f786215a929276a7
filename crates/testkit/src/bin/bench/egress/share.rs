//! What a network adds to the creation of a sandbox, part by part: ways out, the egress process, and where something
//! looks into TLS, the certificates that its programs trust.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::setting;

use super::{Carried, Egress, policy};
use crate::Wrong;
use crate::numbers::{median, millis, percentile, rounded};
use crate::sandbox::kinds::Nobody;
use crate::sandbox::{Ground, first_output};

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 60;
/// Milliseconds that are wanted at most, for all of it.
const TARGET_MS: f64 = 1.0;

/// Creates to the first byte of a program, on each ground in turn.
pub(super) async fn share(egress: &Egress) -> Result<Value, Wrong> {
    let rounds = setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS);
    let untrusted = Arc::new(Carried {
        carrier: egress.carrier.clone(),
        policy: policy(&json!([]))?,
        trusted: false,
    });
    let none = Ground::new()?;
    let nobody = Ground::with(|config| config.network = Some(Arc::new(Nobody)))?;
    let carried = Ground::with(|config| config.network = Some(untrusted))?;
    let grounds = [&none, &nobody, &carried, &egress.ground];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..=rounds {
        for (at, (ground, times)) in grounds.iter().zip(&mut times).enumerate() {
            let name = format!("share-{at}-{round}");
            let begun = Instant::now();
            let sandbox = ground.attach(&name).await?;
            first_output(&sandbox).await?;
            // The first of each makes templates and fills caches.
            if round > 0 {
                times.push(begun.elapsed());
            }
            drop(sandbox);
            ground.delete(&name).await?;
        }
    }
    for ground in [none, nobody, carried] {
        ground.local.shutdown().await;
    }
    let [none, nobody, carried, whole] = &times;
    // Of pairs of one round: what else the machine does is in both.
    let over = |more: &[Duration], less: &[Duration]| {
        let pairs = more.iter().zip(less);
        rounded(median(
            pairs.map(|(a, b)| (a.as_secs_f64() - b.as_secs_f64()) * 1e3),
        ))
    };
    Ok(json!({
        "figure_ms": over(carried, none), "looks_into_tls_ms": over(whole, none),
        "floor_p50_ms": millis(percentile(none, 50)),
        "floor": "the same without a network", "target_ms": TARGET_MS,
        "ways_out_ms": over(nobody, none), "egress_process_ms": over(carried, nobody),
        "certificates_ms": over(whole, carried),
    }))
}
