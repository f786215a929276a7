//! The static helper: one executable, two roles (`supervisor`, `hand`). It only dispatches.
fn main() {}
