//! What claude is told beside its own prompt. A pure function of the brief.

use std::fmt::Write as _;

use crate::brief::{Brief, Networking};

/// The platform's part, the operator's, the agent's.
pub(crate) fn append(brief: &Brief) -> String {
    let mut text = String::from(
        "You work in a Linux sandbox of your own, as root. The working directory is /workspace; it and the rest \
         of the file system persist for the whole session, /tmp may not. Files the user gave you are in \
         /mnt/session/uploads (read-only). Put what the user should receive into /mnt/session/outputs.\n",
    );
    text.push_str(match brief.networking {
        Networking::Off => "The sandbox has no network: only its own loopback answers.\n",
        Networking::Unrestricted => {
            "The sandbox reaches the internet over TCP, but no private address.\n"
        }
        Networking::Limited => {
            "The sandbox reaches only the hosts that its environment lists, over TCP. Trying again does not help.\n"
        }
    });
    let _ = writeln!(text, "This session began on {} (UTC).", brief.date);
    let parts = [&brief.operator_prompt, &brief.system];
    for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
        let _ = write!(text, "\n{part}\n");
    }
    text
}
