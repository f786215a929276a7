//! Owns giving a process a terminal of its own, and when that has shown all. It writes on none and interprets nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
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

/// What a terminal shows: until nobody has it any more, or where that is not told, until what `ended` stands for has
/// ended, which makes it readable.
pub(crate) fn shown(terminal: File, ended: OwnedFd) -> Box<dyn Read + Send> {
    if ENDLESS.load(Ordering::Relaxed) {
        Box::new(UntilEnded { terminal, ended })
    } else {
        Box::new(terminal)
    }
}

struct UntilEnded {
    terminal: File,
    ended: OwnedFd,
}

impl Read for UntilEnded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [
                PollFd::new(&self.terminal, PollFlags::IN),
                PollFd::new(&self.ended, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => drop(other?),
            }
            // What was shown last is read first.
            if !fds[0].revents().is_empty() {
                return self.terminal.read(buffer);
            }
            if !fds[1].revents().is_empty() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn what_was_shown_last_is_read_before_the_end() {
        let (shown, shows) = pipe().unwrap();
        let (ended, open) = pipe().unwrap();
        let mut shows = File::from(shows);
        shows.write_all(b"last words").unwrap();
        drop(open);
        let mut terminal = UntilEnded {
            terminal: File::from(shown),
            ended,
        };
        let mut text = String::new();
        terminal.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        // The other side is still open.
        shows.write_all(b"more").unwrap();
    }
}
