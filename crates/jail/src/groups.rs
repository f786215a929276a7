//! Owns the cgroups of one sandbox: made before its first process, removed after its last. It chooses no limit.
//!
//! The supervisor makes and removes them; the server tries the same code on a group of its own to see
//! what this host can do, and removes what a supervisor that was killed left behind.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::pid_one::PidOne;

/// How long a group whose last process has just died may take until it can be removed. Removing waits for the
/// kernel to let go of that process, and nothing tells when it has.
const REMOVAL: Duration = Duration::from_secs(1);
/// The first pause between two tries, which each time is twice as long, up to the longest.
const REMOVAL_RETRY: Duration = Duration::from_micros(100);
const REMOVAL_RETRY_MOST: Duration = Duration::from_millis(5);

/// The cgroup in which a sandbox is held by one hierarchy of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The directory in which the sandbox's own group is made.
    pub above: PathBuf,
    /// Of the hierarchy.
    pub version: Version,
    /// Written in this order before anything is in the group.
    pub settings: Vec<Setting>,
    /// The file of the group that counts what was ended for want of memory, if it is one of memory.
    pub oom_counter: Option<String>,
}

/// The two kinds of hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// One hierarchy for one or more controllers.
    V1,
    /// The one hierarchy of all others.
    V2,
}

/// One file of a group and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name in the group's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Whether the group does without where there is no such file.
    pub optional: bool,
}

/// Makes the group `name` below [`Group::above`] and sets it up. What was made stays on an error: see [`remove`].
///
/// # Errors
/// The errno of the first file that refuses.
pub fn make(group: &Group, name: &str) -> io::Result<PathBuf> {
    let dir = group.above.join(name);
    fs::create_dir(&dir)?;
    for setting in &group.settings {
        let file = dir.join(&setting.file);
        match write(&file, &setting.value) {
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(dir)
}

/// Removes a group whose processes have ended; one that is not there is success. Blocks: waits up to
/// a second for the kernel to let go of them.
///
/// # Errors
/// `ResourceBusy` when something still runs in it, and the errno of rmdir.
pub fn remove(dir: &Path) -> io::Result<()> {
    let (deadline, mut pause) = (Instant::now() + REMOVAL, REMOVAL_RETRY);
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                if Instant::now() > deadline {
                    return Err(error);
                }
                thread::sleep(pause);
                pause = (pause * 2).min(REMOVAL_RETRY_MOST);
            }
            other => return other,
        }
    }
}

/// What became of groups whose supervisors do not run any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strays {
    /// How many were removed.
    pub removed: usize,
    /// In how many there is still something: their own sandbox's, which is on its way out, or somebody else's.
    pub left: usize,
}

/// Removes the groups in `above` that are named for a supervisor that does not run any more, unless something is
/// still in them. Blocks.
///
/// # Errors
/// The errno of reading `above`.
pub fn remove_strays(above: &Path) -> io::Result<Strays> {
    let mut strays = Strays::default();
    for entry in fs::read_dir(above)? {
        let name = entry?.file_name();
        if name.to_str().and_then(PidOne::named_lives) != Some(false) {
            continue;
        }
        match fs::remove_dir(above.join(&name)) {
            Ok(()) => strays.removed += 1,
            Err(_) => strays.left += 1,
        }
    }
    Ok(strays)
}

/// The count that a file named by [`Group::oom_counter`] holds. Source: the kernel's
/// Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst, `oom_kill`.
#[must_use]
pub fn oom_kills(text: &str) -> u64 {
    let mut counts = text
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "));
    counts
        .next()
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// The groups of one sandbox, from the supervisor's side. Dropped, they are removed.
pub(crate) struct Groups {
    made: Vec<(Group, PathBuf)>,
}

impl Groups {
    /// The groups of `plan`, not yet made. The name must be nobody else's while this boot lasts.
    pub(crate) fn new(planned: &[Group], name: &str) -> Self {
        let made = planned
            .iter()
            .map(|group| (group.clone(), group.above.join(name)));
        Self {
            made: made.collect(),
        }
    }

    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.made.iter().map(|(_, dir)| dir.clone()).collect()
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        for (group, dir) in &self.made {
            let name = dir.file_name().and_then(|name| name.to_str());
            make(group, name.ok_or(io::ErrorKind::InvalidInput)?)?;
        }
        Ok(())
    }

    /// The one group that a child can be started in, open.
    pub(crate) fn of_version_2(&self) -> io::Result<Option<OwnedFd>> {
        let mut two = self.of(Version::V2);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |dir: &PathBuf| rustix::fs::open(dir, flags, Mode::empty());
        Ok(two.next().map(open).transpose()?)
    }

    /// Moves this process, which must have one thread, into the groups that it could not be started in.
    ///
    /// By `tasks`: a process that moves only itself, and as one thread, waits for nobody, while
    /// `cgroup.procs` stops every fork and exit of the host for milliseconds. Source:
    /// kernel/cgroup/cgroup.c, `cgroup_procs_write_start`.
    pub(crate) fn enter(&self, also_version_2: bool) -> io::Result<()> {
        for dir in self.of(Version::V1) {
            write(&dir.join("tasks"), "0")?;
        }
        if also_version_2 {
            for dir in self.of(Version::V2) {
                write(&dir.join("cgroup.procs"), "0")?;
            }
        }
        Ok(())
    }

    /// The file that counts what was ended for want of memory, if a group limits memory.
    pub(crate) fn oom_counter(&self) -> Option<PathBuf> {
        let mut counters = self
            .made
            .iter()
            .filter_map(|(group, dir)| Some(dir.join(group.oom_counter.as_ref()?)));
        counters.next()
    }

    /// How many processes were ended for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let text = self
            .oom_counter()
            .and_then(|file| fs::read_to_string(file).ok());
        oom_kills(&text.unwrap_or_default())
    }

    /// Has what stands still go on, where that keeps it from dying: a frozen process of version 1. Source: the
    /// kernel's Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
    pub(crate) fn thaw(&self) {
        for dir in self.of(Version::V1) {
            // Where there is no such file, nothing is frozen by it.
            let _ = write(&dir.join("freezer.state"), "THAWED");
        }
    }

    fn of(&self, version: Version) -> impl Iterator<Item = &PathBuf> {
        self.made
            .iter()
            .filter(move |(group, _)| group.version == version)
            .map(|(_, dir)| dir)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for (_, dir) in &self.made {
            // What cannot be removed stands in the sandbox's record, and the server tries again.
            let _ = remove(dir);
        }
    }
}

/// Not `fs::write`: that would create a file where there is none.
fn write(file: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(file)?
        .write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_either_version_is_found() {
        let one = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let two = "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 1\n";
        assert_eq!((oom_kills(one), oom_kills(two), oom_kills("")), (3, 2, 0));
    }

    #[test]
    fn a_setting_that_is_missing_counts_unless_it_is_optional() {
        let dir = tempfile::tempdir().unwrap();
        let setting = |optional| Setting {
            file: "none".to_owned(),
            value: "1".to_owned(),
            optional,
        };
        let mut group = Group {
            above: dir.path().to_owned(),
            version: Version::V2,
            settings: vec![setting(true)],
            oom_counter: None,
        };
        let made = make(&group, "a").unwrap();
        remove(&made).unwrap();
        remove(&made).unwrap();
        group.settings = vec![setting(false)];
        let error = make(&group, "a").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let again = make(&group, "a").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
