//! Owns making a terminal a process's own before its program starts. It opens none.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has what `command` starts lead a session of its own whose controlling terminal is its standard input,
/// which must be a terminal that controls no session yet: starting fails otherwise.
pub fn lead_session_on_stdin(command: &mut Command) {
    let prepare = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok::<_, io::Error>(())
    };
    // SAFETY: the closure runs between fork and exec of a process that may have threads, so it may only do
    // what is async-signal-safe (fork(2), signal-safety(7)): it makes two system calls on descriptor 0, which
    // the library has placed before. rustix makes them itself, without the C library's errno or cancellation
    // points; nothing allocates or takes a lock, and an `io::Error` of an errno holds no memory.
    unsafe {
        command.pre_exec(prepare);
    }
}
