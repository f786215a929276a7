//! Owns finding the cgroup hierarchies that this process is in, and making their controllers usable below. It makes no group of a sandbox.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jail::groups::{Version, remove};
use rustix::io::Errno;

/// What limits are asked of, and what of version 1 has a group stand still.
const CONTROLLERS: [&str; 6] = ["memory", "cpu", "pids", "blkio", "io", FREEZER];
/// Of version 1 only: in version 2 every group can.
pub(super) const FREEZER: &str = "freezer";
/// The group of version 2 that the server moves itself to, so that the one it was in can have others
/// with limits below it.
const OWN: &str = "longhand-server";

/// One hierarchy, and where in it this process is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Which of [`CONTROLLERS`] groups below `home` can be limited by. Of version 2 only after
    /// [`Hierarchy::lend_controllers`].
    pub(super) controllers: BTreeSet<String>,
    /// Where groups are made: below the server's own, so that a limit on the server, which an outer
    /// container or a unit sets, stays one on its sandboxes.
    pub(super) home: PathBuf,
}

/// The hierarchies of `/proc/self/mountinfo` in which `/proc/self/cgroup` says this process is.
/// Source of the formats: proc_pid_mountinfo(5), cgroups(7).
pub(super) fn hierarchies(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((version, controllers, home)) = hierarchy(line, cgroup) else {
            continue;
        };
        // The same one may be mounted twice.
        let known = |other: &Hierarchy| {
            other.version == version && (version == Version::V2 || other.controllers == controllers)
        };
        if !found.iter().any(known) {
            found.push(Hierarchy {
                version,
                controllers,
                home,
            });
        }
    }
    // In a hybrid set-up a controller is in one of the old hierarchies or in the new one.
    found.sort_by_key(|hierarchy| hierarchy.version == Version::V2);
    found
}

fn hierarchy(line: &str, cgroup: &str) -> Option<(Version, BTreeSet<String>, PathBuf)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount_point) = (unescaped(place.next()?), unescaped(place.next()?));
    let mut kind = kind.split(' ');
    let fs_type = kind.next()?;
    let options = kind.nth(1)?;
    let known = |names: &str| -> BTreeSet<String> {
        let names = names.split(',').filter(|name| CONTROLLERS.contains(name));
        names.map(str::to_owned).collect()
    };
    let mut lines = cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let (version, controllers, own) = match fs_type {
        "cgroup2" => {
            let (_, own) = lines.find(|(names, _)| names.is_empty())?;
            (Version::V2, BTreeSet::new(), own)
        }
        "cgroup" => {
            let controllers = known(options);
            if controllers.is_empty() {
                return None;
            }
            let (_, own) = lines.find(|(names, _)| known(names) == controllers)?;
            (Version::V1, controllers, own)
        }
        _ => return None,
    };
    // A container often sees only its own part of the hierarchy.
    let below = Path::new(own).strip_prefix(&root).unwrap_or(Path::new(""));
    let home = Path::new(&mount_point).join(below);
    Some((version, controllers, home))
}

/// Blanks and the like are written as three octal digits.
fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let byte = after.get(..3).and_then(|o| u8::from_str_radix(o, 8).ok());
        let Some(byte) = byte else {
            text.push('\\');
            rest = after;
            continue;
        };
        text.push(char::from(byte));
        rest = &after[3..];
    }
    text + rest
}

impl Hierarchy {
    /// Of version 2: makes as many of the `wanted` controllers usable below `home` as there are. The rule there
    /// is that a group has either processes or groups with limits below it, so if the server is in it,
    /// the server moves to a group of its own, [`OWN`].
    ///
    /// # Errors
    /// What is in the way, in words; then no controller is usable, and the server is where it was.
    pub(super) fn lend_controllers(&mut self, wanted: &[&'static str]) -> Result<(), String> {
        if self.version == Version::V1 {
            return Ok(());
        }
        if self.home.ends_with(OWN) {
            self.home.pop();
        }
        let there = fs::read_to_string(self.home.join("cgroup.controllers")).unwrap_or_default();
        let there: Vec<&str> = wanted
            .iter()
            .copied()
            .filter(|name| there.split_whitespace().any(|other| other == *name))
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let lent = match lend(&self.home, &there) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                lend_from_below(&self.home, &there)
            }
            other => other,
        };
        let home = self.home.display();
        lent.map_err(|error| match error.raw_os_error() {
            Some(errno) if errno == Errno::BUSY.raw_os_error() => {
                format!("other processes are in the server's cgroup {home}")
            }
            _ => format!("the controllers of the cgroup {home} cannot be used below it: {error}"),
        })?;
        self.controllers = there.into_iter().map(str::to_owned).collect();
        Ok(())
    }
}

impl Hierarchy {
    /// Makes a group `name` that holds what is below it to so many bytes of memory together, and makes it the
    /// place where groups are made.
    ///
    /// # Errors
    /// Those of its files; then groups are made where they were.
    pub(super) fn bound_together(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let dir = self.home.join(name);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let bytes = bytes.to_string();
        let (most, with_swap) = match self.version {
            Version::V1 => (
                "memory.limit_in_bytes",
                ("memory.memsw.limit_in_bytes", bytes.as_str()),
            ),
            Version::V2 => ("memory.max", ("memory.swap.max", "0")),
        };
        // Of version 1 neither may be set beyond the other: what was higher before makes way by a second try.
        if write(&dir.join(most), &bytes).is_err() {
            let _ = write(&dir.join(with_swap.0), with_swap.1);
            write(&dir.join(most), &bytes)?;
        }
        // Where nothing counts swap, there is none to be had.
        let _ = write(&dir.join(with_swap.0), with_swap.1);
        if self.version == Version::V2 {
            let names: Vec<&str> = self.controllers.iter().map(String::as_str).collect();
            lend(&dir, &names)?;
        }
        self.home = dir;
        Ok(())
    }
}

fn lend(home: &Path, controllers: &[&str]) -> io::Result<()> {
    let names = controllers.iter().map(|name| format!("+{name}"));
    write(
        &home.join("cgroup.subtree_control"),
        &names.collect::<Vec<_>>().join(" "),
    )
}

fn lend_from_below(home: &Path, controllers: &[&str]) -> io::Result<()> {
    let own = home.join(OWN);
    match fs::create_dir(&own) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    write(&own.join("cgroup.procs"), "0")?;
    let lent = lend(home, controllers);
    if lent.is_err() {
        write(&home.join("cgroup.procs"), "0")?;
        // Another server may have moved there.
        let _ = remove(&own);
    }
    lent
}

fn write(file: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str, cgroup: &str) -> Vec<(Version, Vec<String>, String)> {
        let all = hierarchies(mountinfo, cgroup).into_iter();
        all.map(|h| {
            let controllers = h.controllers.into_iter().collect();
            (h.version, controllers, h.home.display().to_string())
        })
        .collect()
    }

    #[test]
    fn a_hybrid_host_has_the_old_hierarchies_first() {
        let mounts = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu\\040acct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            99 31 0:32 / /again rw,relatime - cgroup cgroup rw,memory\n\
            36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n";
        let own = "4:memory:/outer/one\n1:cpu,cpuacct:/\n0::/system.slice\n";
        let text = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found(mounts, own),
            [
                (
                    Version::V1,
                    text(&["cpu"]),
                    "/sys/fs/cgroup/cpu acct/".to_owned()
                ),
                (
                    Version::V1,
                    text(&["memory"]),
                    "/sys/fs/cgroup/memory/outer/one".to_owned()
                ),
                (
                    Version::V2,
                    vec![],
                    "/sys/fs/cgroup/unified/system.slice".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn a_container_that_sees_only_its_part_is_at_the_top_of_it() {
        let mounts = "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let homes: Vec<_> = found(mounts, "4:memory:/docker/ab/inner\n")
            .into_iter()
            .map(|f| f.2)
            .collect();
        assert_eq!(homes, ["/sys/fs/cgroup/memory/inner"]);
        // A path that does not lie below what is mounted leads nowhere else.
        let homes: Vec<_> = found(mounts, "4:memory:/\n")
            .into_iter()
            .map(|f| f.2)
            .collect();
        assert_eq!(homes, ["/sys/fs/cgroup/memory/"]);
    }

    #[test]
    fn controllers_are_lent_from_below_when_the_server_is_in_the_way() {
        // Whatever controller of version 2 this host has will do.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let all = hierarchies(&mounts, &own);
        let two = all.into_iter().find(|h| h.version == Version::V2);
        let Some(two) = two else { return };
        let controllers = fs::read_to_string(two.home.join("cgroup.controllers")).unwrap();
        let lent = fs::read_to_string(two.home.join("cgroup.subtree_control")).unwrap();
        // One that nobody uses, so that this test can take it back.
        let mut unused = controllers
            .split_whitespace()
            .filter(|name| !lent.contains(name));
        let Some(controller) = unused.next() else {
            return;
        };
        if lend(&two.home, &[controller]).is_err() {
            return;
        }
        let home = two
            .home
            .join(format!("longhand-test-{}", std::process::id()));
        fs::create_dir(&home).unwrap();
        write(&home.join("cgroup.procs"), "0").unwrap();
        let refused = lend(&home, &[controller]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
        lend_from_below(&home, &[controller]).unwrap();
        let lent = fs::read_to_string(home.join("cgroup.subtree_control")).unwrap();
        assert_eq!(lent.trim(), controller);
        let inside = fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(inside.contains(&format!("/{OWN}\n")), "{inside}");
        write(&two.home.join("cgroup.procs"), "0").unwrap();
        remove(&home.join(OWN)).unwrap();
        remove(&home).unwrap();
        let back = format!("-{controller}");
        write(&two.home.join("cgroup.subtree_control"), &back).unwrap();
    }
}
