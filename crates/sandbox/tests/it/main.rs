//! One binary for all integration tests of the crate: each file is one subject.
//!
//! They need what a sandbox needs (root, user namespaces, overlayfs); without it each fails with
//! the provider's own words about what is missing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests, and the fixtures that only they use"
)]

mod ahead;
mod attack;
mod attack_cgroups;
mod attack_limits;
mod attack_network;
mod attack_syscalls;
mod bad_files;
mod bad_input;
mod bash;
mod basics;
mod corpus;
mod disk;
mod files;
mod fuzz;
mod gvisor;
mod inside;
mod keeper;
mod keeping;
mod kept;
mod latency;
mod life;
mod limits;
mod nursery;
mod outlive;
mod planted;
mod pool;
mod private;
mod process;
mod rootless;
mod search;
mod shares;
mod state;
mod suite;
mod support;
mod templates;
mod terminal;
mod volumes;

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
