//! What sandboxes cost, by the public interface of the `sandbox` crate, beside what does the same job: a bare
//! clone with the same namespaces, mounts and a filter, bubblewrap, crun, and a process without any of it.

pub(crate) mod bare;
mod contenders;
pub(crate) mod kinds;
pub(crate) mod left;
mod leftovers;
mod load;
mod warm;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{Command, Config, Local, Provider, Sandbox, SandboxId, Spec};
use serde_json::{Value, json};
use testkit::setting;
use tokio::io::AsyncReadExt;

use crate::Wrong;
use crate::numbers::{median, millis, percentile, rounded};
use contenders::host_process;

/// Rounds of the figures that are compared, unless `TESTKIT_BENCH_ROUNDS` says otherwise.
const ROUNDS: u64 = 100;

/// What every contender prints, and how: the same program, dynamically linked.
pub(crate) const PROGRAM: [&str; 2] = ["/usr/bin/echo", "x"];

/// Sandboxes below a directory of their own.
pub(crate) struct Ground {
    pub(crate) local: Local,
    dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) fn new() -> Result<Self, Wrong> {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Result<Self, Wrong> {
        let dir = tempfile::tempdir()?;
        let sandboxes = dir.path().join("sandboxes");
        let mut config = Config::beside(&sandboxes);
        config.orphan = Duration::ZERO;
        change(&mut config);
        let local = Local::new(sandboxes, config)?;
        Ok(Self { local, dir })
    }

    pub(crate) async fn attach(&self, name: &str) -> Result<Arc<dyn Sandbox>, Wrong> {
        Ok(self.local.attach(Spec::new(SandboxId::new(name)?)).await?)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Wrong> {
        Ok(self.local.delete(&SandboxId::new(name)?).await?)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }
}

/// Runs the benchmark, or the parts of it that are asked for.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let rounds = usize::try_from(setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS))?;
    let ground = Ground::new()?;
    let timed = what_is_timed(&ground).await?;
    eprintln!("timed: {timed:#}");
    let mut figures = json!({"bench": "sandbox", "timed": timed});
    for part in PARTS.into_iter().filter(|part| setting::is_asked_for(part)) {
        let figure = measured(part, &ground, rounds).await?;
        eprintln!("{part}: {figure:#}");
        figures[part] = figure;
    }
    ground.local.shutdown().await;
    Ok(figures)
}

/// What is measured, in this order. `TESTKIT_BENCH_ONLY` names some of them.
const PARTS: [&str; 12] = [
    "cold",
    "warm",
    "exec",
    "pause",
    "memory",
    "output",
    "hibernated",
    "image",
    "network",
    "left",
    "crowd",
    "live",
];

async fn measured(part: &str, ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    match part {
        "cold" => cold(ground, rounds).await,
        "warm" => warm::warm(rounds).await,
        "exec" => exec(ground, rounds).await,
        "pause" => load::pause(ground, rounds).await,
        "memory" => load::memory(ground).await,
        "output" => load::output(ground).await,
        "hibernated" => kinds::hibernated(ground, rounds).await,
        "image" => kinds::image(ground, rounds).await,
        "network" => kinds::network(ground, rounds).await,
        "left" => left::left().await,
        "crowd" => load::crowd(ground).await,
        _ => load::flat(ground).await,
    }
}

/// All output of a program in a sandbox.
async fn printed(sandbox: &Arc<dyn Sandbox>, program: &[&str]) -> Result<String, Wrong> {
    let mut process = sandbox.spawn(Command::new(program.iter().copied())).await?;
    let mut said = String::new();
    let mut stdout = process.stdout.take().ok_or("no output")?;
    stdout.read_to_string(&mut said).await?;
    process.wait().await?;
    Ok(said)
}

/// Runs [`PROGRAM`] and returns when its first byte is there.
pub(crate) async fn first_output(sandbox: &Arc<dyn Sandbox>) -> Result<(), Wrong> {
    let mut process = sandbox.spawn(Command::new(PROGRAM)).await?;
    let mut stdout = process.stdout.take().ok_or("no output")?;
    stdout.read_exact(&mut [0]).await?;
    Ok(())
}

/// The rights and mounts of the sandboxes that are measured, as they see them, and the versions of the others.
async fn what_is_timed(ground: &Ground) -> Result<Value, Wrong> {
    let sandbox = ground.attach("seen").await?;
    let status = printed(&sandbox, &["/usr/bin/cat", "/proc/self/status"]).await?;
    let wanted = ["Cap", "NoNewPrivs", "Seccomp"];
    let status = status
        .lines()
        .filter(|line| wanted.iter().any(|w| line.starts_with(w)));
    let mounts = printed(&sandbox, &["/usr/bin/cat", "/proc/self/mountinfo"]).await?;
    drop(sandbox);
    ground.delete("seen").await?;
    let findings = ground.local.probe().await.findings;
    let limits = findings.iter().filter(|f| f.what.ends_with("of a sandbox"));
    Ok(json!({
        "rights": status.map(|line| line.replace('\t', " ")).collect::<Vec<_>>(),
        "limits": limits.map(|f| format!("{}: {}", f.what, f.detail)).collect::<Vec<_>>(),
        "mounts": mounts.lines().map(shown_mount).collect::<Vec<_>>(),
        "beside": contenders::versions().await,
    }))
}

/// Place, options and kind of a line of mountinfo.
fn shown_mount(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let kind = line
        .split(" - ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    format!("{} {} {}", word(4), kind.unwrap_or_default(), word(5))
}

/// From nothing to the first byte of a program, and the removal, all contenders taking turns.
async fn cold(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let mut others = contenders::working(&ground.path("contenders")).await?;
    let (mut ours, mut removal) = (Vec::new(), Vec::new());
    let mut theirs = vec![Vec::new(); others.len()];
    for round in 0..=rounds {
        let name = format!("cold-{round}");
        let begun = Instant::now();
        let sandbox = ground.attach(&name).await?;
        first_output(&sandbox).await?;
        let took = begun.elapsed();
        drop(sandbox);
        let begun = Instant::now();
        ground.delete(&name).await?;
        let removed = begun.elapsed();
        // The first round makes templates and fills caches.
        if round > 0 {
            ours.push(took);
            removal.push(removed);
        }
        for (other, times) in others.iter_mut().zip(&mut theirs) {
            let took = other.once(round + 1).await?;
            if round > 0 {
                times.push(took);
            }
        }
    }
    let mut figures = json!({
        "figure_p50_ms": millis(percentile(&ours, 50)), "figure_p99_ms": millis(percentile(&ours, 99)),
        "delete_p50_ms": millis(percentile(&removal, 50)), "delete_p99_ms": millis(percentile(&removal, 99)),
    });
    for (other, times) in others.iter().zip(&theirs) {
        figures[other.name()] = json!({
            "p50_ms": millis(percentile(times, 50)), "p99_ms": millis(percentile(times, 99)),
            "figure_is_times": ratio(&ours, times),
        });
    }
    Ok(figures)
}

/// The median of pairs.
fn ratio(ours: &[Duration], theirs: &[Duration]) -> f64 {
    let pairs = ours.iter().zip(theirs);
    rounded(median(
        pairs.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64().max(1e-9)),
    ))
}

/// A static program in a sandbox that runs, against the same started by posix_spawn.
async fn exec(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let sandbox = ground.attach("exec").await?;
    let outside = ground.path("sandboxes/exec/workspace/static");
    place_static(&outside)?;
    let inside = ["/workspace/static"];
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=rounds * 5 {
        let begun = Instant::now();
        sandbox.spawn(Command::new(inside)).await?.wait().await?;
        let took = begun.elapsed();
        let begun = Instant::now();
        host_process(&[&outside.to_string_lossy()]).await?;
        if round > 0 {
            ours.push(took);
            floor.push(begun.elapsed());
        }
    }
    drop(sandbox);
    ground.delete("exec").await?;
    Ok(json!({
        "figure_p50_ms": millis(percentile(&ours, 50)), "figure_p99_ms": millis(percentile(&ours, 99)),
        "floor_p50_ms": millis(percentile(&floor, 50)), "ratio": ratio(&ours, &floor),
    }))
}

/// The helper, called without a role, is a static program that ends at once.
fn place_static(path: &Path) -> Result<(), Wrong> {
    std::fs::write(path, bundle::HELPER)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}
