//! Owns counting what a sandbox of this host uses: by its cgroups, and by a walk of its files. It limits nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits::DISK_ENTRIES;
use crate::stats::Stats;

/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

/// Blocks: reads a few files of the kernel, and walks the sandbox's directory.
pub(super) fn stats(groups: &[PathBuf], dir: &Path) -> Stats {
    let number = |file: &str| groups.iter().find_map(|group| first(&group.join(file)));
    let cpu = groups.iter().find_map(|group| {
        let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
        let used = text.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
        Some(Duration::from_micros(used.trim().parse().ok()?))
    });
    let (disk_bytes, disk_more) = disk(dir);
    Stats {
        memory_bytes: number("memory.current").or_else(|| number("memory.usage_in_bytes")),
        cpu: cpu.or_else(|| number("cpuacct.usage").map(Duration::from_nanos)),
        processes: number("pids.current"),
        disk_bytes,
        disk_more,
    }
}

fn first(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Bytes below `dir` on the disk, and whether there is more than was looked at. Follows no link.
pub(super) fn disk(dir: &Path) -> (u64, bool) {
    let (mut bytes, mut seen, mut open) = (0_u64, 0, vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        // What has gone meanwhile takes no room.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > DISK_ENTRIES {
                return (bytes, true);
            }
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            // A file of several names is counted once for each: rare, and cheaper than to remember.
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    (bytes, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_by_the_room_they_take_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (before, _) = disk(dir.path());
        assert_eq!(before, 0);
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), vec![7; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("usr")).unwrap();
        let (bytes, more) = disk(dir.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert!(!more);
    }
}
