//! The simulation of the session core over any number of seeds: `cargo xtask sim` builds and runs it. It
//! shares its world and its checker with the tests.
#![allow(missing_docs, dead_code, clippy::unwrap_used, clippy::panic)]

#[path = "../tests/it/check.rs"]
mod check;
#[path = "../tests/it/client.rs"]
mod client;
#[path = "../tests/it/coverage.rs"]
mod coverage;
#[path = "../tests/it/fold.rs"]
mod fold;
#[path = "../tests/it/graded.rs"]
mod graded;
#[path = "../tests/it/oracle.rs"]
mod oracle;
#[path = "../tests/it/reports.rs"]
mod reports;
#[path = "../tests/it/sim.rs"]
mod sim;
#[path = "../tests/it/table.rs"]
mod table;
#[path = "../tests/it/team_client.rs"]
mod team_client;
#[path = "../tests/it/team_coverage.rs"]
mod team_coverage;
#[path = "../tests/it/team_fold.rs"]
mod team_fold;
#[path = "../tests/it/team_probe.rs"]
mod team_probe;
#[path = "../tests/it/team_scenes.rs"]
mod team_scenes;
#[path = "../tests/it/team_table.rs"]
mod team_table;
#[path = "../tests/it/team_world.rs"]
mod team_world;
#[path = "../tests/it/teams.rs"]
mod teams;
#[path = "../tests/it/world.rs"]
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use coverage::Coverage;
use team_coverage::TeamCoverage;

/// Hits of each cell that a run of [`CI`] seeds must reach.
const WANTED: u64 = 1_000;
const CI: u64 = 30_000;

fn main() {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    if args.iter().any(|a| a == "--table") {
        let text = std::fs::read_to_string(table::page()).unwrap();
        std::fs::write(table::page(), table::put_into(&text)).unwrap();
        let text = std::fs::read_to_string(team_table::page()).unwrap();
        std::fs::write(team_table::page(), team_table::put_into(&text)).unwrap();
        return;
    }
    let number = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let seeds = number("--seeds").unwrap_or(CI);
    let from = number("--from").unwrap_or(0);
    if args.iter().any(|a| a == "--teams") {
        of_teams(from, seeds);
        return;
    }
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = std::thread::scope(|scope| {
        let work = || worker(&next, from + seeds, &failed);
        let workers = (0..threads).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        workers
            .into_iter()
            .map(|w| w.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut coverage = Coverage::default();
    let mut steps = 0;
    for (part, its_steps) in &parts {
        coverage.add(part);
        steps += its_steps;
    }
    print!("{}", coverage.table());
    let seconds = began.elapsed().as_secs_f64();
    let mean = steps / seeds.max(1);
    println!(
        "seeds {from}..{}, {steps} steps, {mean} a seed, {seconds:.1} s",
        from + seeds
    );
    let failed = failed.load(Ordering::Relaxed);
    let wrong = if seeds < 200 || failed {
        Vec::new()
    } else {
        coverage.wrong(wanted(seeds))
    };
    for cell in &wrong {
        println!("cell {cell}");
    }
    if failed || !wrong.is_empty() || (seeds >= 200 && mean < 150) {
        std::process::exit(1);
    }
    if seeds >= 200 {
        of_teams(from, seeds / 10);
    }
    println!("ok");
}

/// Histories of sessions with several threads.
fn of_teams(from: u64, seeds: u64) {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let work = || {
        let (mut created, mut coverage) = (0, TeamCoverage::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return (created, coverage);
            }
            let run = std::panic::AssertUnwindSafe(|| teams::history(seed));
            let Ok(played) = std::panic::catch_unwind(run) else {
                println!("seed {seed} failed: cargo xtask sim --teams --seeds 1 --from {seed}");
                std::process::exit(1);
            };
            created += played.created;
            coverage.add(&played.coverage);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = std::thread::scope(|scope| {
        let workers = (0..threads).map(|_| scope.spawn(work)).collect::<Vec<_>>();
        let parts = workers.into_iter().map(|w| w.join().unwrap());
        parts.collect::<Vec<_>>()
    });
    let (mut created, mut coverage) = (0, TeamCoverage::default());
    for (more, part) in &parts {
        created += more;
        coverage.add(part);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", coverage.sum());
    println!(
        "teams: seeds {from}..{}, {created} threads begun, {seconds:.1} s",
        from + seeds
    );
    let wanted = TEAMS_WANTED * seeds / TEAMS_CI * 2 / 3;
    let wrong = if seeds < 200 {
        Vec::new()
    } else {
        coverage.wrong(if seeds >= TEAMS_CI {
            TEAMS_WANTED
        } else {
            wanted
        })
    };
    for cell in &wrong {
        println!("cell {cell}");
    }
    if !wrong.is_empty() {
        std::process::exit(1);
    }
}

/// Hits of each cell of a team that a run of [`TEAMS_CI`] histories of them must reach.
const TEAMS_WANTED: u64 = 20;
const TEAMS_CI: u64 = CI / 10;

/// Hits of each cell that `seeds` must reach: fewer seeds scatter more, and get a third off.
const fn wanted(seeds: u64) -> u64 {
    if seeds >= CI {
        WANTED
    } else {
        WANTED * seeds / CI * 2 / 3
    }
}

fn worker(next: &AtomicU64, end: u64, failed: &AtomicBool) -> (Coverage, u64) {
    let mut coverage = Coverage::default();
    let mut steps = 0;
    while !failed.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let run = std::panic::AssertUnwindSafe(|| sim::history(seed, &mut coverage));
        match std::panic::catch_unwind(run) {
            Ok(more) => steps += more,
            Err(_) => {
                failed.store(true, Ordering::Relaxed);
                println!("seed {seed} failed: cargo xtask sim --seeds 1 --from {seed}");
            }
        }
    }
    (coverage, steps)
}
