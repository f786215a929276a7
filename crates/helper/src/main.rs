//! The static helper: one executable, several roles (`nursery`, whose copies are supervisors, `hand`, `hand-in-gvisor`, `reclaim`, and a
//! trial, `network`; the first and the last also for a user without rights). It only dispatches.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("nursery") => jail::nursery(),
        Some("nursery-of-user") => jail::nursery_of_user(),
        Some("hand") => hand::agent::run(),
        Some("hand-in-gvisor") => match jail::prepare_in_gvisor() {
            Ok(()) => hand::agent::run_in_gvisor(),
            Err(_) => ExitCode::FAILURE,
        },
        Some("reclaim") => jail::reclaim(),
        Some("network") => jail::try_network(),
        Some("network-of-user") => jail::try_network_of_user(),
        _ => ExitCode::from(2),
    }
}
