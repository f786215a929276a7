//! What the process gives up before it reads its first hostile byte: every capability, and the right to gain
//! any. It must run before the first thread.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use crate::limits;

/// Descriptors of one connection: the client's and the server's.
const FILES_OF_A_FLOW: u64 = 2;

/// Gives up every capability for good, and asks for as many open files as this process may have.
///
/// # Errors
/// The errno of capset or prctl. The process must not go on then.
pub fn renounce() -> io::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    let files = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, files)?;
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}

/// How many connections there may be at one time, by the files that this process may open.
pub(super) fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // A quarter is for the sockets of the sandboxes themselves.
    let left = files.saturating_sub(limits::OTHER_FILES) / 4 * 3 / FILES_OF_A_FLOW;
    usize::try_from(left)
        .unwrap_or(usize::MAX)
        .clamp(1, tokio::sync::Semaphore::MAX_PERMITS)
}
