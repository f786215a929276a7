//! Processor time of who stands between, for what it passes on inside TLS. Client and server are not in it, so that it
//! tells those apart which share two processors with both, and what a throughput would be on more of them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::setting;
use tokio::process::Child;
use tokio::time::timeout;

use super::server::{BIG, HAPROXY, MITMPROXY};
use super::{Egress, PATIENCE, Way, contenders, inside, looking};
use crate::Wrong;
use crate::numbers::{median, rounded};

/// Rounds, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 5;
/// Long answers of a round: as much as there can be of the slowest within [`PATIENCE`] on a machine that is busy.
const TIMES: usize = 8;
/// Of which the kernel counts so many a second, on every architecture that this is built for (asm/param.h).
const USER_HZ: u64 = 100;
/// What mitmproxy takes, of what we do, at least.
const TARGET: f64 = 10.0;

/// Seconds that each takes for a gibibyte.
pub(super) async fn per_gib(egress: &Egress, dir: &Path, root: &Path) -> Result<Value, Wrong> {
    let rounds = setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS);
    let haproxy = contenders::haproxy(dir).await?;
    let mitmproxy = contenders::mitmproxy(dir, root).await?;
    let ours = egress.process()?;
    let spliced = inside(egress, "cpu-spliced", root, None).await?;
    let intercepted = inside(egress, "cpu-intercepted", root, Some(looking()?)).await?;
    let mut ways = vec![
        ("spliced", ours, spliced),
        ("intercepted", ours, intercepted),
    ];
    if let Some(pid) = haproxy.as_ref().and_then(process) {
        ways.push((
            "haproxy",
            pid,
            Way::Outside(HAPROXY, root.to_owned(), false),
        ));
    }
    if let Some((child, certificate)) = &mitmproxy
        && let Some(pid) = process(child)
    {
        let way = Way::Outside(MITMPROXY, certificate.clone(), false);
        ways.push(("mitmproxy", pid, way));
    }
    let mut figures = json!({});
    for (name, pid, way) in &ways {
        let mut seconds = Vec::new();
        for round in 0..=rounds {
            let before = spent(*pid)?;
            let measured = timeout(PATIENCE, way.measured(Some(TIMES))).await;
            measured.map_err(|_| format!("{name}: nothing within {} s", PATIENCE.as_secs()))??;
            let spent = spent(*pid)?.saturating_sub(before);
            // The first one makes certificates.
            if round > 0 {
                seconds.push(spent.as_secs_f64() * f64::from(1 << 30) / (BIG * TIMES) as f64);
            }
        }
        figures[*name] = json!(rounded(median(seconds)));
    }
    if let Some((theirs, ours)) = figures["mitmproxy"]
        .as_f64()
        .zip(figures["intercepted"].as_f64())
    {
        figures["mitmproxy_of_intercepted"] = json!(rounded(theirs / ours.max(1e-9)));
        figures["target"] = json!(TARGET);
    }
    Ok(figures)
}

fn process(child: &Child) -> Option<i32> {
    child.id().and_then(|pid| i32::try_from(pid).ok())
}

/// What all threads of a process have had, those that have ended among them (proc(5), `utime` and `stime`).
fn spent(pid: i32) -> Result<Duration, Wrong> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or("no such line in /proc")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 1_000 / USER_HZ))
}
