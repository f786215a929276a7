//! Owns the three standard descriptors and the close-on-exec flags of all others. It closes nothing that it did not open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// The first number that is not a standard descriptor's.
const FIRST_OTHER: RawFd = 3;

/// One of the three descriptors that a process finds open at its start. No Rust value owns these
/// numbers: the standard library uses them by number and never closes them, and every descriptor
/// that it opens gets a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Number 0.
    Input,
    /// Number 1.
    Output,
    /// Number 2.
    Error,
}

impl Standard {
    fn number(self) -> RawFd {
        match self {
            Self::Input => 0,
            Self::Output => 1,
            Self::Error => 2,
        }
    }
}

/// Moves what is at a standard number to a close-on-exec descriptor of its own and puts `instead`
/// in its place. A second call gives what the first put there.
///
/// # Errors
/// The errno of fcntl (`EBADF` when nothing is open there) or dup3.
pub fn take_standard(which: Standard, instead: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the number is one of 0 to 2. The standard library opens `/dev/null` at those that a process begins
    // without (library/std/src/sys/pal/unix/mod.rs, `sanitize_standard_fds`), and no value closes them: it is open
    // for the whole borrow.
    let standard = unsafe { BorrowedFd::borrow_raw(which.number()) };
    let taken = rustix::io::fcntl_dupfd_cloexec(standard, FIRST_OTHER)?;
    place_standard(which, instead)?;
    Ok(taken)
}

/// Makes a standard number a copy of `source` that survives exec. What was there is closed.
pub(crate) fn place_standard(which: Standard, source: BorrowedFd<'_>) -> io::Result<()> {
    // A source that is itself standard may have the very number, which dup3 refuses.
    let source = rustix::io::fcntl_dupfd_cloexec(source, FIRST_OTHER)?;
    // SAFETY: touches no memory. What dup3 closes is one of 0 to 2, which no value owns (dup(2): the number is
    // closed and used again in one step, so no other thread can get it in between).
    let answer = unsafe { libc::dup3(source.as_fd().as_raw_fd(), which.number(), 0) };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Keeps every descriptor but the three standard ones from surviving exec. Closes none.
///
/// # Errors
/// The errno of close_range; `EINVAL` before kernel 5.11.
pub fn keep_only_standard_over_exec() -> io::Result<()> {
    // SAFETY: checked against close_range(2): with CLOSE_RANGE_CLOEXEC it sets a flag on descriptors and closes
    // none, so every owner keeps what it owns; an older kernel refuses the flag (EINVAL) instead of closing.
    // No memory is touched.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST_OTHER,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
