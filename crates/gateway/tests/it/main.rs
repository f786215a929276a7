//! The edge over a real store in a temporary directory: in process where the rule is about requests,
//! over sockets where it is about connections.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod abuse;
mod checks;
mod control;
mod described;
mod edge;
mod egress;
mod input;
mod lists;
mod objects;
mod once;
mod openapi;
mod outcomes;
mod plane;
mod sandbox_routes;
mod sandboxes;
mod sessions;
mod sockets;
mod stream;
mod support;
mod vaults;
mod volumes;

/// Every file of this folder is a module above.
#[test]
fn every_file_is_listed() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let main = include_str!("main.rs");
    for file in std::fs::read_dir(here).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(
            module == "main" || main.contains(&format!("mod {module};")),
            "{name}"
        );
    }
}
