//! Processes of a sandbox as the host sees them, found by what the kernel says of their mounts. It starts none.

use std::fs;
use std::io;
use std::process::Command;

/// The host's numbers of the processes in that sandbox whose command line holds `program`.
#[must_use]
pub fn processes(sandbox: &str, program: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    pids.filter(|pid| {
        let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let holds = |file, text| String::from_utf8_lossy(&of(file)).contains(text);
        // Its workspace is mounted from a directory of the sandbox's name.
        holds("cmdline", program) && holds("mountinfo", sandbox)
    })
    .collect()
}

/// The parent of a process.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent?.trim().parse().ok()
}

/// `kill -9`.
///
/// # Errors
/// There is no such process.
pub fn kill(pid: i32) -> io::Result<()> {
    signal(pid, "KILL")
}

/// Sends it a signal, by its name.
///
/// # Errors
/// There is no such process.
pub fn signal(pid: i32, name: &str) -> io::Result<()> {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}
