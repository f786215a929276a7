//! Proof that the simulation sees what it is there for: each planted fault of the orchestrator is caught by a
//! general promise. Runs with the feature `faults`: `cargo xtask sim --faults`.

use orchestrator::faults::{Fault, plant};

use crate::histories::home;
use crate::simulation::{blank, history, history_among};

/// Seeds within which a fault must show; most show in the first few.
const SEEDS: u64 = 600;

#[test]
fn each_planted_fault_is_caught() {
    let home = home();
    let blank = blank(home.path());
    let mut unseen = Vec::new();
    for fault in Fault::ALL {
        let found = (0..SEEDS).find_map(|seed| {
            plant(Some(fault));
            let run = std::panic::AssertUnwindSafe(|| history(seed, &blank));
            let outcome = std::panic::catch_unwind(run);
            plant(None);
            let why = outcome.err()?;
            let text = why.downcast_ref::<String>().cloned();
            Some((seed, text.unwrap_or_default()))
        });
        match found {
            Some((seed, why)) => {
                println!(
                    "{fault:?}: seed {seed}, {}",
                    why.lines().next().unwrap_or_default()
                );
            }
            None => unseen.push(fault),
        }
    }
    assert_eq!(unseen, [], "nobody saw these");
}

/// The same of what goes wrong between several servers and their database.
#[test]
fn each_planted_fault_of_several_servers_is_caught() {
    let home = home();
    let blank = blank(home.path());
    let mut unseen = Vec::new();
    for fault in store::faults::Fault::ALL {
        let found = (0..SEEDS).find(|seed| {
            store::faults::plant(Some(fault));
            let run = std::panic::AssertUnwindSafe(|| history_among(*seed, &blank));
            let outcome = std::panic::catch_unwind(run);
            store::faults::plant(None);
            outcome.is_err()
        });
        println!("{fault:?}: seed {found:?}");
        if found.is_none() {
            unseen.push(fault);
        }
    }
    assert_eq!(unseen, [], "nobody saw these");
}

/// And of what an orchestrator does wrong only among others.
#[test]
fn each_planted_fault_of_one_among_others_is_caught() {
    let home = home();
    let blank = blank(home.path());
    for fault in Fault::AMONG {
        let found = (0..SEEDS).find(|seed| {
            plant(Some(fault));
            let run = std::panic::AssertUnwindSafe(|| history_among(*seed, &blank));
            let outcome = std::panic::catch_unwind(run);
            plant(None);
            outcome.is_err()
        });
        println!("{fault:?}: seed {found:?}");
        assert!(found.is_some(), "nobody saw {fault:?}");
    }
}
