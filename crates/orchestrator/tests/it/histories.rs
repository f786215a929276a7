//! The simulation of the orchestrator as a test: some seeds, those that once failed, and that a seed is a
//! history. Many more run with `cargo xtask sim --orchestrator`.

use std::path::PathBuf;

use crate::coverage::Coverage;
use crate::simulation::{blank, history};

/// Seeds that once failed stay here.
const PAST: [u64; 9] = [1, 4, 8, 91, 102, 1146, 1258, 2343, 3533];
const SEEDS: u64 = 40;

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
}

#[test]
fn a_seed_is_a_history() {
    let home = home();
    let blank = blank(home.path());
    for seed in 0..5 {
        let (one, two) = (history(seed, &blank), history(seed, &blank));
        assert_eq!((one.steps, one.sum), (two.steps, two.sum), "seed {seed}");
    }
}
