//! The static helper: one executable, five roles (`supervisor`, `hand`, `reclaim`, and two trials, `network` and
//! `network-of-user`). It only dispatches.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("supervisor") => jail::run(),
        Some("hand") => hand::agent::run(),
        Some("reclaim") => jail::reclaim(),
        Some("network") => jail::try_network(),
        Some("network-of-user") => jail::try_network_of_user(),
        _ => ExitCode::from(2),
    }
}
