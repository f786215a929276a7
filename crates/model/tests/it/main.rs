//! Tests of `model` over real HTTP, against the scripted model and against sockets that misbehave.

// clippy.toml allows these in test functions; the helpers beside them are tests as well
#![allow(clippy::unwrap_used, clippy::panic)]

mod anthropic;
mod catalog;
mod errors;
mod fixture;
mod gateways;
mod odd;
mod openai;
mod prefix;
mod private_ca;
mod raw;
mod responses;
mod system;

#[test]
fn every_file_of_this_folder_is_listed() {
    let listed = include_str!("main.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || listed.contains(&format!("mod {module};")),
            "{name} is not listed"
        );
    }
}
