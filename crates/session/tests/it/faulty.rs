//! Proof that the simulation sees what it is there for: each planted fault is caught by an invariant, and
//! by none that was written for it. Runs with the feature `faults`: `cargo xtask sim --faults`.

use session::faults::{Fault, plant};

use crate::coverage::Coverage;
use crate::sim::{Sim, history};

/// Seeds within which a fault must show; most show in the first few.
const SEEDS: u64 = 200;

/// The first seed that `fault` fails, and why; without the oracle only what follows from the fault counts.
fn caught(fault: Fault, oracle: bool) -> Option<(u64, String)> {
    let found = (0..SEEDS).find_map(|seed| {
        plant(Some(fault));
        let mut coverage = Coverage::default();
        let mut sim = Sim::new(seed, &mut coverage);
        sim.world.checker.second_opinion = oracle;
        let run = std::panic::AssertUnwindSafe(|| sim.run_to_end());
        let outcome = std::panic::catch_unwind(run);
        plant(None);
        let why = outcome.err()?;
        let text = why
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| Some((*why.downcast_ref::<&str>()?).to_owned()));
        Some((seed, text.unwrap_or_default()))
    });
    if let Some((seed, why)) = &found {
        println!(
            "{fault:?}: seed {seed}, {}",
            why.lines().next().unwrap_or_default()
        );
    }
    found
}

macro_rules! each_is_caught {
    ($($name:ident: $fault:ident,)*) => {
        $(#[test]
        fn $name() {
            for oracle in [true, false] {
                assert!(caught(Fault::$fault, oracle).is_some(), "nobody saw {:?}", Fault::$fault);
            }
        })*

        #[test]
        fn every_fault_has_its_test_and_none_stays_planted() {
            let of_one = [$(Fault::$fault),*];
            let all = of_one.into_iter().chain(crate::teams::FAULTS);
            assert!(all.eq(Fault::ALL));
            for seed in 0..20 {
                history(seed, &mut Coverage::default());
            }
        }
    };
}

each_is_caught! {
    a_dropped_fence_is_caught: FenceDropped,
    a_late_acknowledgement_is_caught: LateAck,
    a_lost_intent_is_caught: LostIntent,
    a_double_start_is_caught: DoubleStart,
    a_forgotten_drain_is_caught: ForgottenDrain,
    a_usage_counted_twice_is_caught: UsageTwice,
    a_result_for_a_closed_call_is_caught: ClosedCall,
    an_idle_announced_before_its_state_is_caught: IdleBeforeState,
    a_forgotten_outcome_is_caught: OutcomeForgotten,
    a_lost_iteration_is_caught: IterationLost,
}
