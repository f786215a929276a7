//! Owns having a sandbox's processes stand still by their cgroup, of either version. It decides when for nobody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::limits::FREEZE;

/// How long to wait before looking again whether all stand still: of version 1 nothing tells when they do, and of
/// version 2 the kernel may tell up to ten milliseconds late (kernel/cgroup/cgroup.c, `CGROUP_FILE_NOTIFY_MIN_INTV`).
const RETRY: Duration = Duration::from_micros(100);
/// Bytes of `cgroup.events`, with room to spare.
const EVENTS_BYTES: usize = 256;

/// The file that does it for one sandbox. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst
/// (`cgroup.freeze`) and cgroup-v1/freezer-subsystem.rst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freezer {
    V2(PathBuf),
    V1(PathBuf),
    /// No group here can: the hand stops them one by one.
    None,
}

impl Freezer {
    /// The one among the sandbox's groups.
    pub(super) fn among(groups: &[PathBuf]) -> Self {
        let with = |file: &str| groups.iter().find(|dir| dir.join(file).exists()).cloned();
        let two = with("cgroup.freeze").map(Self::V2);
        two.or_else(|| with("freezer.state").map(Self::V1))
            .unwrap_or(Self::None)
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Returns when all stand still. Blocks, for at most [`FREEZE`]; on an error they may or may not.
    pub(super) fn freeze(&self) -> io::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::V2(dir) => freeze_v2(dir),
            Self::V1(dir) => freeze_v1(dir),
        }
    }

    /// They go on; that nothing stood still is success, and that the group is gone.
    pub(super) fn thaw(&self) -> io::Result<()> {
        let thawed = match self {
            Self::None => Ok(()),
            Self::V2(dir) => write(&dir.join("cgroup.freeze"), "0"),
            Self::V1(dir) => write(&dir.join("freezer.state"), "THAWED"),
        };
        match thawed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn freeze_v2(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + FREEZE;
    let events = File::open(dir.join("cgroup.events"))?;
    write(&dir.join("cgroup.freeze"), "1")?;
    let mut text = [0; EVENTS_BYTES];
    loop {
        let read = events.read_at(&mut text, 0)?;
        let mut lines = text[..read].split(|byte| *byte == b'\n');
        if lines.any(|line| line == b"frozen 1") {
            return Ok(());
        }
        not_after(deadline)?;
        // What has changed since it was read, or the time, wakes this.
        let retry = Timespec::try_from(RETRY).ok();
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], retry.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn freeze_v1(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + FREEZE;
    loop {
        // Written again each time: while it is on its way, that takes in what has come since.
        write(&dir.join("freezer.state"), "FROZEN")?;
        if fs::read_to_string(dir.join("freezer.state"))?.trim() == "FROZEN" {
            return Ok(());
        }
        not_after(deadline)?;
        thread::sleep(RETRY);
    }
}

fn not_after(deadline: Instant) -> io::Result<()> {
    match Instant::now() > deadline {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(()),
    }
}

/// Not `fs::write`: that would create a file where there is none.
fn write(file: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A group of its own with one process, removed with it.
    struct Group {
        dir: PathBuf,
        sleeper: Child,
    }

    impl Group {
        /// `None` where this host has no such hierarchy or lets nobody make groups.
        fn new(above: &str) -> Option<Self> {
            let dir = Path::new(above).join(format!("longhand-freezer-{}", std::process::id()));
            fs::create_dir(&dir).ok()?;
            let sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
            write(&dir.join("cgroup.procs"), &sleeper.id().to_string()).unwrap();
            Some(Self { dir, sleeper })
        }

        fn wait_channel(&self) -> String {
            fs::read_to_string(format!("/proc/{}/stat", self.sleeper.id())).unwrap()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = Freezer::among(std::slice::from_ref(&self.dir)).thaw();
            let _ = self.sleeper.kill();
            let _ = self.sleeper.wait();
            let _ = jail::groups::remove(&self.dir);
        }
    }

    fn freezes(above: &str, two: bool) {
        let Some(group) = Group::new(above) else {
            return;
        };
        let freezer = Freezer::among(&[PathBuf::from("/nowhere"), group.dir.clone()]);
        assert_eq!(matches!(freezer, Freezer::V2(_)), two);
        let still = || {
            let (file, text) = if two {
                ("cgroup.events", "frozen 1")
            } else {
                ("freezer.state", "FROZEN")
            };
            let read = fs::read_to_string(group.dir.join(file)).unwrap();
            read.lines().any(|line| line == text)
        };
        freezer.freeze().unwrap();
        assert!(still(), "{}", group.wait_channel());
        freezer.freeze().unwrap();
        freezer.thaw().unwrap();
        assert!(!still());
        freezer.thaw().unwrap();
    }

    #[test]
    fn a_group_of_version_2_stands_still_and_goes_on() {
        for above in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            if Path::new(above).join("cgroup.controllers").exists() {
                freezes(above, true);
            }
        }
    }

    #[test]
    fn a_group_of_version_1_stands_still_and_goes_on() {
        freezes("/sys/fs/cgroup/freezer", false);
    }

    #[test]
    fn without_a_group_nothing_is_frozen_and_nothing_fails() {
        let none = Freezer::among(&[]);
        assert!(none.is_none());
        none.freeze().unwrap();
        let gone = Freezer::V2(PathBuf::from("/nowhere"));
        assert!(gone.freeze().is_err());
        gone.thaw().unwrap();
    }
}
