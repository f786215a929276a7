//! The static helper: one executable, three roles (`supervisor`, `hand`, and `network`, a trial). It only dispatches.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("supervisor") => jail::run(),
        Some("hand") => hand::agent::run(),
        Some("network") => jail::try_network(),
        _ => ExitCode::from(2),
    }
}
