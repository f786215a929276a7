//! What sandboxes have on this host: processes, mounts, cgroups, files. It removes nothing.

use std::path::Path;

use serde_json::{Value, json};

/// How many there are of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Left {
    pub(super) processes: usize,
    mounts: usize,
    groups: usize,
    files: usize,
}

impl Left {
    /// Of the helper's processes that this one started, and below `dir`.
    pub(super) fn now(dir: &Path) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir_name = dir.to_string_lossy();
        let own = ["sandboxes", "trash"].map(|name| entries(&dir.join(name)));
        Self {
            processes: helpers().len(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(&*dir_name))
                .count(),
            groups: groups(Path::new("/sys/fs/cgroup"), 4),
            files: own.iter().sum(),
        }
    }

    pub(super) fn shown(self) -> Value {
        json!({"processes": self.processes, "mounts": self.mounts, "cgroups": self.groups, "directories": self.files})
    }
}

/// Visible entries of a directory.
fn entries(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let visible = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    entries.filter(visible).count()
}

/// The processes of this host that run the helper: supervisors and hands.
pub(super) fn helpers() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let runs = |pid: &i32| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        program.to_string_lossy().starts_with("/memfd:hand")
    };
    pids.filter(runs).collect()
}

/// Cgroups of sandboxes, some levels down.
fn groups(dir: &Path, levels: usize) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let count = |entry: std::fs::DirEntry| {
        let ours = entry.file_name().to_string_lossy().starts_with("longhand-");
        let below = if levels > 0 {
            groups(&entry.path(), levels - 1)
        } else {
            0
        };
        usize::from(ours) + below
    };
    dirs.map(count).sum()
}
