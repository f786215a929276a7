//! Owns replacing this process by another program. It never searches a path.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use crate::fds::{Standard, keep_only_standard_over_exec, place_standard};

/// Replaces this process by the program behind `program`, with `standard` as its numbers 0 to 2 and
/// no other descriptor; returns only to say why it could not. Then every owned descriptor is what it
/// was, and the standard ones may have been replaced.
#[must_use]
pub fn exec_fd(
    program: BorrowedFd<'_>,
    argv: &[CString],
    env: &[CString],
    standard: [BorrowedFd<'_>; 3],
) -> io::Error {
    if let Err(error) = place(standard) {
        return error;
    }
    let argv = null_terminated(argv);
    let env = null_terminated(env);
    let empty: &CStr = c"";
    // SAFETY: checked against execveat(2). Both arrays are null-terminated and point to null-terminated
    // strings borrowed from the caller for the whole call; the kernel only reads them. The path is empty and
    // null-terminated, so with AT_EMPTY_PATH the borrowed and open descriptor is the program. On success
    // nothing of this image remains, destructors included; on failure nothing was changed.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            empty.as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn place([input, output, error]: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    // Copies first: a source may be at a number that is about to be replaced.
    let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let (input, output, error) = (high(input)?, high(output)?, high(error)?);
    place_standard(Standard::Input, input.as_fd())?;
    place_standard(Standard::Output, output.as_fd())?;
    place_standard(Standard::Error, error.as_fd())?;
    keep_only_standard_over_exec()
}

fn null_terminated(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Gives this process an empty session keyring of its own, so that it possesses no key of its parent.
///
/// # Errors
/// The errno of keyctl; `ENOSYS` where the kernel has no keyrings.
pub fn leave_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory of ours is read or written.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
