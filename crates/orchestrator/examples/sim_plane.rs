//! The simulation of the orchestrator over any number of seeds: `cargo xtask sim --orchestrator` builds and
//! runs it; with `--replicas` the servers hear of one another, with `--programs` programs in sandboxes use models too. It shares its world with the tests, and the checker with
//! those of the core.
#![allow(missing_docs, dead_code, clippy::unwrap_used, clippy::panic)]

#[path = "../../session/tests/it/check.rs"]
mod check;
#[path = "../../session/tests/it/client.rs"]
mod client;
#[path = "../../session/tests/it/coverage.rs"]
mod coverage;
#[path = "../../session/tests/it/fold.rs"]
mod fold;
#[path = "../../session/tests/it/graded.rs"]
mod graded;
#[path = "../../session/tests/it/oracle.rs"]
mod oracle;
#[path = "../tests/it/simulation/mod.rs"]
mod simulation;
#[path = "../../session/tests/it/team_client.rs"]
mod team_client;
#[path = "../../session/tests/it/team_coverage.rs"]
mod team_coverage;
#[path = "../../session/tests/it/team_fold.rs"]
mod team_fold;
#[path = "../../session/tests/it/team_world.rs"]
mod team_world;
#[path = "../../session/tests/it/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coverage::Coverage;

/// Cells of the core's state table that so many seeds have to meet. The others need what a client or a runner of this
/// world hardly ever does; the core's own simulation demands each.
const CELLS: (u64, usize) = (2_000, 250);

fn main() {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    let number = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let from = number("--from").unwrap_or(0);
    let end = number("--seeds").map_or(u64::MAX, |seeds| from.saturating_add(seeds));
    let limit = number("--seconds").map(Duration::from_secs);
    let memory = PathBuf::from("/dev/shm");
    let home = if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    };
    let blank = simulation::blank(home.path());
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let is_over = || limit.is_some_and(|limit| began.elapsed() >= limit);
    let is_asked = |name: &&str| args.iter().any(|arg| arg == name);
    let how = ["--programs", "--replicas"].into_iter().find(is_asked);
    let work = || worker(&next, end, &failed, &blank, how, is_over);
    let parts = std::thread::scope(|scope| {
        let workers = (0..threads).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        let parts = workers.into_iter().map(|w| w.join().unwrap());
        parts.collect::<Vec<_>>()
    });
    let mut coverage = Coverage::default();
    let (mut seeds, mut steps, mut begun) = (0, 0, 0);
    for (part, its_seeds, its_steps, its_threads) in &parts {
        coverage.add(part);
        seeds += its_seeds;
        steps += its_steps;
        begun += its_threads;
    }
    print!("{}", coverage.table());
    let met = coverage.met();
    println!(
        "seeds {from}..{}, {steps} steps, {} a seed, {met} cells met, {begun} threads begun, {:.1} s",
        from + seeds,
        steps / seeds.max(1),
        began.elapsed().as_secs_f64()
    );
    if failed.load(Ordering::Relaxed) {
        std::process::exit(1);
    }
    let (many, wanted) = CELLS;
    if seeds >= many && met < wanted {
        println!("{wanted} cells are wanted of {many} seeds");
        std::process::exit(1);
    }
    println!("ok");
}

fn worker(
    next: &AtomicU64,
    end: u64,
    failed: &AtomicBool,
    blank: &Path,
    how: Option<&str>,
    is_over: impl Fn() -> bool,
) -> (Coverage, u64, u64, u64) {
    let mut coverage = Coverage::default();
    let (mut seeds, mut steps, mut begun) = (0, 0, 0);
    while !failed.load(Ordering::Relaxed) && !is_over() {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let run = std::panic::AssertUnwindSafe(|| match how {
            Some("--programs") => simulation::history_with_programs(seed, blank),
            Some(_) => simulation::history_among(seed, blank),
            None => simulation::history(seed, blank),
        });
        let Ok(told) = std::panic::catch_unwind(run) else {
            failed.store(true, Ordering::Relaxed);
            let how = how.unwrap_or_default();
            println!(
                "seed {seed} failed: cargo xtask sim --orchestrator {how} --seeds 1 --from {seed}"
            );
            break;
        };
        seeds += 1;
        steps += told.steps;
        begun += told.threads;
        coverage.add(&told.coverage);
    }
    (coverage, seeds, steps, begun)
}
