//! Owns giving a process a terminal of its own, and when that has shown all. It writes on none and interprets nothing.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wire::Size;

/// Makes a terminal the input, output and controlling terminal of what `command` starts; the hand's end.
pub(crate) fn give(command: &mut Command, size: Size) -> io::Result<File> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = File::from(open(name.as_c_str(), flags, Mode::empty())?);
    let ours = File::from(ours);
    resize(&ours, size)?;
    command
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    sys::lead_session_on_stdin(command);
    Ok(ours)
}

/// Says how large it is.
pub(crate) fn resize(terminal: &File, size: Size) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Whether the kernel tells nobody that the other side of a terminal is closed, as gVisor's does not.
static ENDLESS: AtomicBool = AtomicBool::new(false);

/// From now on terminals end with the process that they were given to.
pub(crate) fn end_with_their_process() {
    ENDLESS.store(true, Ordering::Relaxed);
}

/// What becomes readable when a terminal shows nothing more, where the terminal itself does not tell: what stands for the
/// end of the process that it was given to.
pub(crate) fn shown(ended: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let endless = ENDLESS.load(Ordering::Relaxed);
    endless.then(|| ended.try_clone()).transpose()
}

/// Whether there is something to be read, or an end.
pub(crate) fn has_more(terminal: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    // Interrupted: it is asked again, since nothing was read.
    poll(&mut fds, Some(&Timespec::default())) != Ok(0)
}
