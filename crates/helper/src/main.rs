//! The static helper: one executable, two roles (`supervisor`, `hand`). It only dispatches.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("supervisor") => jail::run(),
        Some("hand") => hand::agent::run(),
        _ => ExitCode::from(2),
    }
}
