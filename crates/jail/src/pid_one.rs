//! Owns telling whether a sandbox's PID 1 has ended, also for who did not start it. It signals nobody.

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A sandbox's PID 1 (or any process) as the host knows it: by its number, and by what tells it from a
/// later process of the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidOne {
    pid: i32,
    /// In ticks since the boot.
    start: u64,
    boot: String,
}

impl PidOne {
    /// The running process `pid`.
    ///
    /// # Errors
    /// `NotFound` when there is none, and what reading `/proc` gives.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before it may hold blanks and brackets. Source: proc_pid_stat(5), field 22.
        let start = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let boot = boot()?.to_owned();
        Ok(Self { pid, start, boot })
    }

    /// A name that no other process of this boot ever has.
    pub(crate) fn name(&self) -> String {
        format!("longhand-{}-{}", self.pid, self.start)
    }

    /// Whether the process of which that is the [name](Self::name) runs; of what is no such name, nothing is known.
    pub(crate) fn named_lives(name: &str) -> Option<bool> {
        let (pid, start) = name.strip_prefix("longhand-")?.split_once('-')?;
        let (pid, start): (i32, u64) = (pid.parse().ok()?, start.parse().ok()?);
        Some(Self::of(pid).is_ok_and(|one| one.start == start))
    }

    /// Whether it was started since this host was booted.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
    }

    /// Whether anything of its sandbox may still run. The kernel lets a PID 1 end only after every
    /// other process of its PID namespace has.
    #[must_use]
    pub fn lives(&self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        // After the descriptor was opened: from here on the number cannot change its meaning.
        if Self::of(self.pid).ok().as_ref() != Some(self) {
            return false;
        }
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Also a zombie that nobody reaps has ended.
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 0)
    }
}

/// What the kernel calls this boot. It is read once, and whoever is copied from this process has it.
///
/// # Errors
/// What reading `/proc` gives.
pub(crate) fn boot() -> io::Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT.get_or_init(|| boot.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended_even_if_nobody_reaps_it() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let one = PidOne::of(child.id().cast_signed()).unwrap();
        assert!(one.lives());
        assert_eq!(PidOne::named_lives(&one.name()), Some(true));
        assert_eq!(PidOne::named_lives("longhand-server"), None);
        assert_eq!(PidOne::named_lives("longhand-all-1"), None);
        let later = PidOne {
            start: one.start + 1,
            ..one.clone()
        };
        assert!(!later.lives(), "another process of the same number");
        assert_eq!(PidOne::named_lives(&later.name()), Some(false));
        child.kill().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        assert!(!one.lives(), "a zombie");
        child.wait().unwrap();
        assert!(!one.lives());
    }
}
