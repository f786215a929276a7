//! The `longhand` binary: configuration and wiring only.
fn main() {}
