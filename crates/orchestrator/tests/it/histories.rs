//! The simulation of the orchestrator as a test: some seeds, those that once failed, and that a seed is a
//! history. Many more run with `cargo xtask sim --orchestrator`.

use std::path::PathBuf;

use crate::coverage::Coverage;
use crate::simulation::{blank, history, history_among, history_with_programs};

/// Seeds that once failed stay here.
const PAST: [u64; 9] = [1, 4, 8, 91, 102, 1146, 1258, 2343, 3533];
/// The same of several servers.
const PAST_AMONG: [u64; 2] = [103, 161];
const SEEDS: u64 = 40;
/// Cells of the core's state table that these seeds meet at least; many more seeds, many more (`sim_plane`).
const CELLS: usize = 170;

pub fn home() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

#[test]
fn every_history_keeps_every_invariant_and_comes_to_rest() {
    let home = home();
    let blank = blank(home.path());
    let mut coverage = Coverage::default();
    let (mut steps, mut threads) = (0, 0);
    for seed in PAST.into_iter().chain(10..10 + SEEDS) {
        let run = std::panic::AssertUnwindSafe(|| history(seed, &blank));
        let told = std::panic::catch_unwind(run);
        let hint = format!("seed {seed}: cargo xtask sim --orchestrator --seeds 1 --from {seed}");
        let told = told.expect(&hint);
        steps += told.steps;
        threads += told.threads;
        coverage.add(&told.coverage);
    }
    assert!(steps / SEEDS >= 100, "histories are short: {steps}");
    assert!(threads >= SEEDS, "few threads: {threads}");
    let met = coverage.met();
    assert!(met >= CELLS, "{met} cells were met\n{}", coverage.table());
}

/// Among several servers a lost, late or misplaced word of what another committed costs a delay, never an event: each
/// stream shows the whole log of its session, once and in order.
#[test]
fn whatever_servers_hear_of_one_another_nothing_is_lost_or_shown_twice() {
    let home = home();
    let blank = blank(home.path());
    let mut shown = 0;
    for seed in PAST_AMONG.into_iter().chain(0..SEEDS) {
        let run = std::panic::AssertUnwindSafe(|| history_among(seed, &blank));
        let told = std::panic::catch_unwind(run);
        let hint = format!(
            "seed {seed}: cargo xtask sim --orchestrator --replicas --seeds 1 --from {seed}"
        );
        shown += told.expect(&hint).shown;
    }
    assert!(shown / SEEDS >= 100, "little is shown: {shown}");
}

/// What programs use counts at any time, whoever holds the session and whatever becomes of its turns, and changes nothing
/// else.
#[test]
fn what_programs_in_sandboxes_use_is_counted_beside_whatever_else_happens() {
    let home = home();
    let blank = blank(home.path());
    let (mut bills, seeds) = (0, SEEDS / 2);
    for seed in 0..seeds {
        let run = std::panic::AssertUnwindSafe(|| history_with_programs(seed, &blank));
        let told = std::panic::catch_unwind(run);
        let hint = format!(
            "seed {seed}: cargo xtask sim --orchestrator --programs --seeds 1 --from {seed}"
        );
        bills += told.expect(&hint).bills;
    }
    assert!(bills / seeds >= 5, "few are counted: {bills}");
}

#[test]
fn a_seed_is_a_history() {
    let home = home();
    let blank = blank(home.path());
    for seed in 0..5 {
        let (one, two) = (history(seed, &blank), history(seed, &blank));
        assert_eq!((one.steps, one.sum), (two.steps, two.sum), "seed {seed}");
        let (one, two) = (history_among(seed, &blank), history_among(seed, &blank));
        assert_eq!(
            (one.shown, one.sum),
            (two.shown, two.sum),
            "seed {seed} among others"
        );
    }
}
