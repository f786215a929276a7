//! Owns the process that this server's supervisors are born from: started with the first, and again if it has gone. It
//! speaks with none of them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use jail::control;
use jail::plan::Birth;
use tokio::process::{Child, Command};

/// That process, once it is needed.
#[derive(Default)]
pub(super) struct Nursery(Mutex<Option<Nurse>>);

/// Ends when this is dropped.
struct Nurse {
    line: OwnedFd,
    /// There to be reaped.
    _process: Child,
}

impl Nursery {
    /// Has a supervisor born with these: see [`Birth`]. Of one that is not, the other end of the first closes.
    ///
    /// # Errors
    /// Those of starting the process; `WouldBlock` when it has more to do than its line holds.
    pub(super) fn bear(
        &self,
        helper: &OwnedFd,
        own_ids: bool,
        given: [BorrowedFd<'_>; 2],
    ) -> io::Result<()> {
        let mut nurse = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nurse) = &*nurse {
            match nurse.bear(given) {
                Err(error) if has_gone(&error) => {
                    tracing::warn!(%error, "the process that supervisors are born from has gone: another is started");
                }
                other => return other,
            }
        }
        nurse.insert(Nurse::start(helper, own_ids)?).bear(given)
    }
}

fn has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    [BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected].contains(&error.kind())
}

impl Nurse {
    fn start(helper: &OwnedFd, own_ids: bool) -> io::Result<Self> {
        let (line, theirs) = control::pair()?;
        let role = if own_ids {
            "nursery"
        } else {
            "nursery-of-user"
        };
        let mut command = Command::new(format!("/proc/self/fd/{}", helper.as_raw_fd()));
        command
            .arg(role)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal from the terminal is for the server.
            .process_group(0);
        // Not killed when dropped: it sees that its line closes.
        let process = command.spawn()?;
        Ok(Self {
            line,
            _process: process,
        })
    }

    fn bear(&self, given: [BorrowedFd<'_>; 2]) -> io::Result<()> {
        control::send(&self.line, &Birth, &given)
    }
}
