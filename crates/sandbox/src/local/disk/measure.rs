//! Owns counting what a sandbox has on the disk, files without a name included. It follows no link and opens
//! no file of a sandbox.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};

/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;
/// Entries after which a walk looks whether it goes too fast.
const STRIDE: u64 = 2_000;
/// Entries a second at most: a walk is to disturb nobody.
const RATE: u64 = 200_000;
/// Processes, and descriptors and mappings of all of them, that are looked at for files without a name.
const PROCESSES: usize = 4_096;
const HANDLES: usize = 100_000;
/// `TMPFS_MAGIC` of linux/magic.h: what is there counts as memory.
const TMPFS: i64 = 0x0102_1994;

/// What a sandbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::local) struct Taken {
    /// Bytes on the disk.
    pub(in crate::local) bytes: u64,
    /// Files and directories.
    pub(in crate::local) files: u64,
}

/// What an image takes.
pub(super) fn image(path: &Path) -> Taken {
    let metadata = fs::symlink_metadata(path);
    Taken {
        bytes: metadata.map_or(0, |m| m.blocks().saturating_mul(BLOCK)),
        files: 0,
    }
}

/// What is below `dir`, and what these processes have open there that has no name any more.
pub(super) fn tree(dir: &Path, processes: &[i32]) -> Taken {
    let mut taken = named(dir);
    let nameless = nameless(processes);
    taken.bytes = taken.bytes.saturating_add(nameless.bytes);
    taken.files = taken.files.saturating_add(nameless.files);
    taken
}

fn named(dir: &Path) -> Taken {
    let (start, mut taken, mut open) = (Instant::now(), Taken::default(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        // What has gone meanwhile takes no room.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            taken.files += 1;
            // A file of several names has its share by each.
            let names = metadata.nlink().max(1);
            let blocks = if metadata.is_dir() {
                open.push(entry.path());
                metadata.blocks()
            } else {
                metadata.blocks() / names
            };
            taken.bytes = taken.bytes.saturating_add(blocks.saturating_mul(BLOCK));
            if taken.files.is_multiple_of(STRIDE) {
                let due = start + Duration::from_micros(taken.files * 1_000_000 / RATE);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }
    taken
}

/// The numbers of a sandbox's processes: those in its group, or below its PID 1.
pub(super) fn processes(group: Option<&Path>, pid_one: i32) -> Vec<i32> {
    let numbers = |text: &str| -> Vec<i32> {
        text.split_whitespace()
            .filter_map(|number| number.parse().ok())
            .take(PROCESSES)
            .collect()
    };
    if let Some(group) = group {
        return numbers(&fs::read_to_string(group).unwrap_or_default());
    }
    // Whoever loses its parent becomes a child of PID 1: none is missing, but for what forks just now.
    let (mut found, mut next) = (vec![pid_one], 0);
    while let Some(pid) = found.get(next).copied().filter(|_| found.len() < PROCESSES) {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(task.path().join("children"));
            found.extend(numbers(&children.unwrap_or_default()));
        }
    }
    found
}

/// Files on a disk that have no name and are open or mapped.
fn nameless(processes: &[i32]) -> Taken {
    let (mut taken, mut known, mut looked) = (Taken::default(), HashSet::new(), 0);
    let places = processes.iter().flat_map(|pid| handles(*pid));
    for place in places {
        looked += 1;
        if looked > HANDLES {
            break;
        }
        let Ok(metadata) = fs::metadata(&place) else {
            continue;
        };
        if metadata.is_file()
            && metadata.nlink() == 0
            && known.insert((metadata.dev(), metadata.ino()))
            && is_on_disk(&place)
        {
            taken.files += 1;
            let bytes = metadata.blocks().saturating_mul(BLOCK);
            taken.bytes = taken.bytes.saturating_add(bytes);
        }
    }
    taken
}

/// What leads to the files that a process has open, and to those without a name that it has mapped.
fn handles(pid: i32) -> Vec<PathBuf> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let open = fs::read_dir(proc.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut handles: Vec<PathBuf> = open.map(|entry| entry.path()).collect();
    let maps = fs::read_to_string(proc.join("maps")).unwrap_or_default();
    // Source: proc_pid_maps(5).
    let mapped = maps.lines().filter(|line| line.ends_with(" (deleted)"));
    let mapped = mapped.filter_map(|line| line.split(' ').next());
    handles.extend(mapped.map(|range| proc.join("map_files").join(range)));
    handles
}

fn is_on_disk(place: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat(CWD, place, flags, Mode::empty());
    let statted = opened.and_then(fstatfs);
    // One that cannot be looked at counts.
    statted.is_ok_and(|stat| stat.f_type != TMPFS) || statted.is_err()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_of_several_names_counts_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![7; 400_000]).unwrap();
        let once = named(dir.path());
        fs::hard_link(dir.path().join("a/b"), dir.path().join("c")).unwrap();
        fs::hard_link(dir.path().join("a/b"), dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("usr")).unwrap();
        let taken = named(dir.path());
        assert!(
            taken.bytes.abs_diff(once.bytes) < 16 << 10,
            "{taken:?} {once:?}"
        );
        assert_eq!((once.files, taken.files), (2, 5));
    }

    #[test]
    fn a_file_without_a_name_is_found_where_it_is_open_and_counted_once() {
        let own = std::process::id().cast_signed();
        let before = nameless(&[own]);
        let mut file = tempfile::tempfile_in(std::env::current_dir().unwrap()).unwrap();
        file.write_all(&vec![7; 4 << 20]).unwrap();
        file.sync_all().unwrap();
        let again = file.try_clone().unwrap();
        let after = nameless(&processes(None, own));
        let more = after.bytes - before.bytes;
        assert!((4 << 20..5 << 20).contains(&more), "{more}");
        drop((file, again));
    }
}
