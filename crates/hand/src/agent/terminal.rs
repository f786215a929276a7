//! Owns giving a process a terminal of its own. It neither reads nor writes on one.

use std::fs::File;
use std::io;
use std::process::Command;

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
