//! Owns the process that the supervisors of one server are born from. It makes no sandbox, and keeps nothing of what it
//! is given.
//!
//! A supervisor is a copy of it: there is no program to load, what every one of them would do first is done, and
//! nobody copies and closes the descriptors of a server that has many sandboxes. The kernel takes half a millisecond to
//! make a network: each supervisor is born in one that was made while nobody waited, and the next gets another.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::process::{chdir, setpgid};
use sys::{Forked, Standard, clone_process, take_standard};

use crate::plan::Birth;
use crate::{control, net, supervisor};

/// What a supervisor begins with.
pub(crate) struct Born {
    /// Its end of the conversation with the server.
    pub(crate) owner: OwnedFd,
    /// The hand's end of its first line to the server.
    pub(crate) line: OwnedFd,
    /// Whether it is in a network of its own: nothing but a loopback, which is up.
    pub(crate) alone: bool,
}

/// Whether supervisors are born in networks of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Networks {
    Ready,
    /// Each makes its own, in a user namespace of its own.
    Later,
}

/// The role `nursery`: for each [`Birth`] on its standard input, which is a socket of packets, a supervisor. Ends when
/// the server has gone; supervisors live on.
#[must_use]
pub fn nursery() -> ExitCode {
    ended(nurse(Networks::Ready))
}

/// The role `nursery-of-user`: the same for sandboxes without ids of their own.
#[must_use]
pub fn nursery_of_user() -> ExitCode {
    ended(nurse(Networks::Later))
}

fn ended(how: io::Result<()>) -> ExitCode {
    match how {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Returns in every supervisor, too, when that has done its work.
fn nurse(networks: Networks) -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let server = take_standard(Standard::Input, null.as_fd())?;
    drop(null);
    sys::keep_only_standard_over_exec()?;
    // Whatever the server stood in may be unmounted while sandboxes live on.
    chdir("/")?;
    // A supervisor is found by its sandbox, and waited for by nobody.
    sys::forget_children(true)?;
    let mut alone = networks.ready();
    while let Some((Birth, given)) = control::receive(&server)? {
        let Ok([owner, line]) = <[OwnedFd; 2]>::try_from(given) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let born = Born { owner, line, alone };
        // Of one that is not born, the server sees its end of the conversation close.
        if let Ok(Forked::Child) = clone_process(0, None) {
            drop(server);
            return begin(born);
        }
        drop(born);
        // Never the same again: if none can be made, the next one makes its own.
        alone = networks.ready();
    }
    Ok(())
}

/// The copy becomes a supervisor.
fn begin(born: Born) -> io::Result<()> {
    sys::forget_children(false)?;
    // A signal from the terminal is for the server, which drains first.
    setpgid(None, None)?;
    // For people who look at what runs.
    rustix::thread::set_name(c"supervisor")?;
    supervisor::supervise(born)
}

impl Networks {
    /// Moves this process to another network, if there are to be any. Whether it is there.
    fn ready(self) -> bool {
        self == Self::Ready && net::alone().is_ok()
    }
}
