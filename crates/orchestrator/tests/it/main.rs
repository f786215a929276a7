//! Turns from end to end: a real store, the resident loop, the scripted model over HTTP. Servers are made
//! and broken here; two of them on one database stand for two processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests, and the fixtures that only they use"
)]

mod answers;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/check.rs"]
mod check;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/client.rs"]
mod client;
mod compaction;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/coverage.rs"]
mod coverage;
#[cfg(feature = "faults")]
mod faulty;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/fold.rs"]
mod fold;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/graded.rs"]
mod graded;
mod histories;
mod interrupts;
mod judging;
mod leases;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/oracle.rs"]
mod oracle;
mod outcomes;
mod pretend;
mod retries;
mod shares;
#[allow(missing_docs, dead_code)]
mod simulation;
mod support;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/team_client.rs"]
mod team_client;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/team_coverage.rs"]
mod team_coverage;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/team_fold.rs"]
mod team_fold;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/team_world.rs"]
mod team_world;
mod templates;
#[allow(missing_docs, dead_code)]
#[path = "../../../session/tests/it/world.rs"]
mod world;

#[test]
fn every_file_here_is_compiled() {
    let listed = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || listed.contains(&format!("mod {module};")),
            "{name}"
        );
    }
}
