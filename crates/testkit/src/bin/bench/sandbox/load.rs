//! Many sandboxes, idle ones, and what one puts out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sandbox::{Command, Sandbox};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::contenders::{self, Contender};
use super::leftovers::{Left, helpers};
use super::{Ground, first_output};
use crate::Wrong;
use crate::numbers::{millis, percentile, rounded};

/// Sandboxes that are created at once, and in all.
const AT_ONCE: usize = 50;
const IN_ALL: usize = 500;
/// Idle ones whose memory is looked at.
const IDLE: usize = 20;
/// Bytes that one puts out.
const OUTPUT: u64 = 2 << 30;
/// Live ones beside which one more is made.
const LIVE: [usize; 3] = [10, 100, 1_000];
/// Samples beside them.
const SAMPLES: usize = 30;
/// How long what is removed in the background may take.
const REMOVAL: Duration = Duration::from_secs(120);

/// Creates to the first output, many at a time; and what is left when all are deleted.
pub(super) async fn crowd(ground: &Ground) -> Result<Value, Wrong> {
    let before = Left::now(ground.dir.path());
    let one = |n: usize| async move {
        let name = format!("crowd-{n}");
        let begun = Instant::now();
        let sandbox = ground.attach(&name).await?;
        first_output(&sandbox).await?;
        let took = begun.elapsed();
        drop(sandbox);
        ground.delete(&name).await?;
        Ok::<_, Wrong>(took)
    };
    let begun = Instant::now();
    let all = futures_util::stream::iter(0..IN_ALL)
        .map(one)
        .buffer_unordered(AT_ONCE);
    let times: Vec<Result<Duration, Wrong>> = all.collect().await;
    let took = begun.elapsed();
    let times = times.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut after = Left::now(ground.dir.path());
    let deadline = Instant::now() + REMOVAL;
    while after != before && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        after = Left::now(ground.dir.path());
    }
    let mut figures = json!({
        "creates": IN_ALL, "at_once": AT_ONCE, "p50_ms": millis(percentile(&times, 50)),
        "p99_ms": millis(percentile(&times, 99)), "took_ms": millis(took),
        "before": before.shown(), "after": after.shown(), "nothing_left": after == before,
        "target": {"p99_ms": 200},
    });
    for other in contenders::working(&ground.path("crowded")).await? {
        // Who answers one by one is no floor for many at once.
        if other.is_a_program() {
            figures[other.name()] = crowded(&other).await?;
        }
    }
    Ok(figures)
}

/// As many of another, as many at a time: to the first output, and until nothing of it runs.
async fn crowded(other: &Contender) -> Result<Value, Wrong> {
    let begun = Instant::now();
    let all = futures_util::stream::iter(1..=IN_ALL)
        .map(|round| other.beside_others(round))
        .buffer_unordered(AT_ONCE);
    let times: Vec<Result<Duration, Wrong>> = all.collect().await;
    let took = begun.elapsed();
    let times = times.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "p50_ms": millis(percentile(&times, 50)), "p99_ms": millis(percentile(&times, 99)), "took_ms": millis(took),
    }))
}

/// One more sandbox, one more program in it, and one more of each other, beside so many sandboxes that live: what the kernel
/// takes for many is in all of them.
pub(super) async fn flat(ground: &Ground) -> Result<Value, Wrong> {
    let mut others = contenders::working(&ground.path("others")).await?;
    let mut live = Vec::new();
    let mut figures = Vec::new();
    for wanted in LIVE {
        while live.len() < wanted {
            live.push(ground.attach(&format!("live-{}", live.len())).await?);
        }
        let (mut create, mut exec) = (Vec::new(), Vec::new());
        let mut theirs = vec![Vec::new(); others.len()];
        for sample in 0..SAMPLES {
            let name = format!("sample-{wanted}-{sample}");
            let begun = Instant::now();
            let sandbox = ground.attach(&name).await?;
            first_output(&sandbox).await?;
            create.push(begun.elapsed());
            let begun = Instant::now();
            first_output(&sandbox).await?;
            exec.push(begun.elapsed());
            drop(sandbox);
            ground.delete(&name).await?;
            for (other, times) in others.iter_mut().zip(&mut theirs) {
                times.push(other.once(sample + 1).await?);
            }
        }
        let mut figure = json!({
            "live": wanted, "create_p50_ms": millis(percentile(&create, 50)),
            "exec_p50_ms": millis(percentile(&exec, 50)),
        });
        for (other, times) in others.iter().zip(&theirs) {
            figure[other.name()] = json!({"p50_ms": millis(percentile(times, 50))});
        }
        figures.push(figure);
    }
    let names = 0..live.len();
    live.clear();
    for n in names {
        ground.delete(&format!("live-{n}")).await?;
    }
    Ok(json!(figures))
}

/// What supervisor and hand of an idle sandbox hold for themselves.
pub(super) async fn memory(ground: &Ground) -> Result<Value, Wrong> {
    let others = helpers();
    let mut idle: Vec<Arc<dyn Sandbox>> = Vec::new();
    for n in 0..IDLE {
        let sandbox = ground.attach(&format!("idle-{n}")).await?;
        first_output(&sandbox).await?;
        idle.push(sandbox);
    }
    let ours: Vec<i32> = helpers()
        .into_iter()
        .filter(|pid| !others.contains(pid))
        .collect();
    let held: u64 = ours.iter().map(|pid| private(*pid)).sum();
    idle.clear();
    for n in 0..IDLE {
        ground.delete(&format!("idle-{n}")).await?;
    }
    let each = held as f64 / IDLE as f64 / 1024.0;
    let processes = ours.len() as f64 / IDLE as f64;
    Ok(
        json!({"sandboxes": IDLE, "processes_each": processes, "private_kib_each": rounded(each), "target_kib": 1024}),
    )
}

/// Bytes of a process that no other has.
fn private(pid: i32) -> u64 {
    let map = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = map.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.sum::<u64>() * 1024
}

/// How fast the output of a program arrives, against a pipe of the host.
pub(super) async fn output(ground: &Ground) -> Result<Value, Wrong> {
    let size = OUTPUT.to_string();
    let words = ["/usr/bin/head", "-c", &size, "/dev/zero"];
    let sandbox = ground.attach("output").await?;
    let held = |names: &[i32]| names.iter().map(|pid| private(*pid)).sum::<u64>();
    let (before, begun) = (held(&helpers()), Instant::now());
    let mut process = sandbox.spawn(Command::new(words)).await?;
    let mut stdout = process.stdout.take().ok_or("no output")?;
    let got = drained(&mut stdout).await?;
    let took = begun.elapsed();
    let after = held(&helpers());
    drop((process, sandbox));
    ground.delete("output").await?;
    let begun = Instant::now();
    let mut child = tokio::process::Command::new(words[0]);
    let child = child.args(&words[1..]).stdout(std::process::Stdio::piped());
    let mut child = child.spawn()?;
    drained(&mut child.stdout.take().ok_or("no output")?).await?;
    let floor = begun.elapsed();
    child.wait().await?;
    let rate = |time: Duration| rounded(got as f64 / time.as_secs_f64() / 1e9);
    Ok(json!({
        "bytes": got, "gb_per_second": rate(took), "floor_gb_per_second": rate(floor),
        "helper_grew_kib": after.saturating_sub(before) / 1024, "target_gb_per_second": 1.0,
    }))
}

async fn drained(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<u64, Wrong> {
    let mut buffer = vec![0; 64 << 10];
    let mut all = 0;
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(all),
            read => all += read as u64,
        }
    }
}

/// A sandbox with twenty processes stands still and goes on.
pub(super) async fn pause(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let sandbox = ground.attach("paused").await?;
    let mut kept = Vec::new();
    for _ in 0..20 {
        kept.push(
            sandbox
                .spawn(Command::new(["/usr/bin/sleep", "1000"]))
                .await?,
        );
    }
    let (mut pause, mut resume) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        sandbox.pause().await?;
        pause.push(begun.elapsed());
        let begun = Instant::now();
        sandbox.resume().await?;
        resume.push(begun.elapsed());
    }
    drop((kept, sandbox));
    ground.delete("paused").await?;
    Ok(json!({
        "processes": 20, "pause_p50_ms": millis(percentile(&pause, 50)), "resume_p50_ms": millis(percentile(&resume, 50)),
        "target": {"pause_ms": 1.0, "resume_ms": 0.5},
    }))
}
