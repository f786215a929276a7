//! What the platform tells every agent about where it is. Versioned: a change of wording changes every
//! session's prefix, so it is made on purpose, with the golden file, and never by accident.

use std::fmt::Write as _;

use crate::brief::{Brief, BuiltinTool, Networking};

/// The version of the text below; it goes up with every change of it.
pub const VERSION: u32 = 2;

/// The system prompt of a session: the platform's part, the operator's, the agent's. A pure function of
/// the brief, so it is the same bytes for the life of the session.
#[must_use]
pub fn system(brief: &Brief) -> String {
    let mut text = String::new();
    if !brief.builtin.is_empty() {
        sandbox(&mut text, brief);
    }
    let _ = writeln!(text, "This session began on {} (UTC).", brief.date);
    for part in [&brief.operator_prompt, &brief.system]
        .into_iter()
        .flatten()
    {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(part);
            text.push('\n');
        }
    }
    text
}

fn sandbox(text: &mut String, brief: &Brief) {
    text.push_str(
        "You work in a Linux sandbox of your own. The working directory is /workspace; it and the rest of \
         the file system persist for the whole session, /tmp may not. You are root in it.\n\
         Files the user gave you are in /mnt/session/uploads (read-only). Put what the user should \
         receive into /mnt/session/outputs.\n",
    );
    text.push_str(match brief.networking {
        Networking::Off => {
            "The sandbox has no network: only its own loopback answers. Installing packages or fetching URLs \
             from inside will fail; do not wait for it.\n"
        }
        Networking::Unrestricted => {
            "The sandbox reaches the internet over TCP, but no private address. What is refused is refused at \
             once: over HTTP the answer says why, elsewhere the connection is reset.\n"
        }
        Networking::Limited => {
            "The sandbox reaches only the hosts that its environment lists, over TCP. What is refused is \
             refused at once: over HTTP the answer says why, elsewhere the connection is reset or ends with a \
             TLS alert (access denied). Trying again does not help.\n"
        }
    });
    if brief.builtin.contains(&BuiltinTool::Bash) {
        text.push_str(
            "bash is one persistent shell: directory, variables and functions survive from call to call. \
             A call ends after 120 seconds unless timeout_ms says otherwise, its input is /dev/null, and \
             only the last 102400 bytes of its output are kept. Start servers and other long work in the \
             background with output redirected to a file.\n",
        );
    }
}
