//! How much memory a process holds, by the kernel's word (proc(5)).

use serde_json::{Value, json};

use crate::Wrong;

/// Bytes that a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// All that is resident, pages of mapped files among it.
    pub(crate) resident: u64,
    /// Its own: what the kernel cannot take back by dropping pages of files.
    pub(crate) own: u64,
}

impl Held {
    /// Of the process `pid` now.
    pub(crate) fn by(pid: i32) -> Result<Self, Wrong> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64, Wrong> {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(number.ok_or("no such field in /proc")?.parse::<u64>()? * 1024)
        };
        Ok(Self {
            resident: field("VmRSS:")?,
            own: field("RssAnon:")?,
        })
    }

    /// In megabytes.
    pub(crate) fn shown(self) -> Value {
        json!({"resident_mb": megabytes(self.resident), "own_mb": megabytes(self.own)})
    }
}

/// Megabytes with one digit.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}
