//! Turns from end to end: a real store, the resident loop, the scripted model over HTTP. Servers are made
//! and broken here; two of them on one database stand for two processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests, and the fixtures that only they use"
)]

mod compaction;
mod interrupts;
mod judging;
mod leases;
mod pretend;
mod retries;
mod support;

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
