//! Owns descriptors by number: taking inherited ones, placing them, closing the rest. It opens nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes ownership of a descriptor that this process inherited under a fixed number below 64.
///
/// Each number is given out once in a process's life.
///
/// # Errors
/// `EBADF` when nothing is open there, when it was already taken, or when `number` is out of range.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let bad = || io::Error::from_raw_os_error(libc::EBADF);
    let bit = u32::try_from(number)
        .ok()
        .and_then(|n| 1u64.checked_shl(n))
        .ok_or_else(bad)?;
    if TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Err(bad());
    }
    // SAFETY: F_GETFD on any number reads no memory; it only tells whether the number is open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (checked) and was inherited, so no Rust value owns it; the table
    // above gives it out at most once. Callers use it at the start of `main`, before other files
    // are opened: the helper's roles are the only callers.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `number` a copy of `source`, closing what was there; the copy survives exec if `keep`.
///
/// # Errors
/// The errno of dup3 or fcntl.
pub fn place_at(source: BorrowedFd<'_>, number: RawFd, keep: bool) -> io::Result<()> {
    let flags = if keep { 0 } else { libc::O_CLOEXEC };
    if source.as_raw_fd() == number {
        let flag = if keep { 0 } else { libc::FD_CLOEXEC };
        // SAFETY: changes one flag of an open descriptor; no memory is touched.
        let answer = unsafe { libc::fcntl(number, libc::F_SETFD, flag) };
        return if answer == -1 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        };
    }
    // SAFETY: duplicates an open descriptor onto a number that the caller reserves for the moment
    // before exec, when no Rust value uses that number any more; no memory is touched.
    let answer = unsafe { libc::dup3(source.as_raw_fd(), number, flags) };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Closes every descriptor from `first` upwards. Only for the moment before exec or `_exit`.
///
/// # Errors
/// The errno of close_range.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: touches no memory. Owned descriptors above `first` become dangling numbers; the
    // callers are the two places that exec or leave next and never use them again.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
