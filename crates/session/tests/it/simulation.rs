//! The simulation as a test: a few hundred seeds, and those that once failed. Many more run with
//! `cargo xtask sim`.

use crate::coverage::Coverage;
use crate::sim::history;
use crate::table::{page, put_into};

/// Seeds that once failed stay here.
const PAST: [u64; 4] = [1, 42, 5_193, 7_777];
const SEEDS: u64 = 600;

#[test]
fn every_seed_keeps_every_invariant_and_quiesces_and_no_cell_of_the_state_table_is_missed() {
    let mut all = Coverage::default();
    let mut steps = 0;
    for seed in PAST.into_iter().chain(10_000..10_000 + SEEDS) {
        let mut coverage = Coverage::default();
        let run = std::panic::AssertUnwindSafe(|| history(seed, &mut coverage));
        let outcome = std::panic::catch_unwind(run);
        let hint = format!("seed {seed}: cargo xtask sim --seeds 1 --from {seed}");
        steps += outcome.expect(&hint);
        all.add(&coverage);
    }
    assert!(steps / SEEDS >= 150, "histories are short: {steps}");
    // A third of what the full run asks for, since so few seeds scatter more.
    let wrong = all.wrong(SEEDS / 60);
    assert!(wrong.is_empty(), "{}\n{}", all.table(), wrong.join("\n"));
}

#[test]
fn the_state_table_of_the_documentation_is_what_the_core_does() {
    let text = std::fs::read_to_string(page()).unwrap();
    assert!(
        put_into(&text) == text,
        "docs/session.md tells otherwise: cargo xtask sim --table"
    );
}
