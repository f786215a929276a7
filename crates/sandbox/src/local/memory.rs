//! Owns what a model is told when a sandbox ran out of memory. It limits nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hand::wire::{Output, Tool};
use jail::groups::oom_kills;
use jail::plan::Live;

use super::groups::size;
use crate::limits::SHOWN_COMMAND_CHARS;
use crate::provider::ToolCall;

/// Bytes of the kernel's file of counts.
const COUNTS_BYTES: usize = 1024;

/// Bytes that the kernel may ask for at once, and so how much is free when a limit is met.
const CHARGED_AHEAD: u64 = 4 << 20;

/// The memory of one running sandbox.
pub(super) struct Memory {
    /// Counts what the kernel ended; none where no cgroup limits memory.
    counter: Option<File>,
    /// The group that it is of.
    group: Option<PathBuf>,
    most: u64,
    /// How many of those the model has heard of.
    told: AtomicU64,
}

impl Memory {
    /// Of a sandbox that runs. Blocks no longer than opening a file that is not on a disk.
    pub(super) fn of(live: &Live) -> Self {
        let counter = live.oom_counter.as_ref();
        Self {
            counter: counter.and_then(|file| File::open(file).ok()),
            group: counter.and_then(|file| file.parent()).map(Path::to_owned),
            most: live.limits.memory.most,
            told: AtomicU64::new(0),
        }
    }

    /// The answer to a call, and under it that memory ran out, if it did since the answer before.
    pub(super) fn told(&self, call: &ToolCall, mut output: Output) -> Output {
        let kills = self.news(self.count());
        if kills == 0 {
            return output;
        }
        let whose = if self.is_its_own() {
            "the sandbox reached its limit of"
        } else {
            "all sandboxes of this host together took what they may, this one at most"
        };
        let note = format!(
            "[Out of memory: {whose} {}, and the kernel ended {} of it{}. \
             Files in /tmp and /dev/shm count as memory. Use less at a time, or work on files below \
             /workspace.]",
            size(self.most),
            processes(kills),
            during(call),
        );
        output.add(&note);
        output
    }

    /// The answer to a call during which the sandbox ended, if that was for want of memory: `kills` is
    /// the last count.
    pub(super) fn ended(&self, call: &ToolCall, kills: u64) -> Option<Output> {
        if self.news(kills) == 0 {
            return None;
        }
        Some(Output::error(format!(
            "The sandbox ran out of memory (its limit is {}) and was ended{}. What the call had done \
             until then stays done; files in /tmp and all processes are gone, the other files are there. \
             The next call starts a new one: use less memory at a time.",
            size(self.most),
            during(call),
        )))
    }

    /// Whether the sandbox ever came to its own limit: else it was that of all together. Sources:
    /// `memory.max_usage_in_bytes` of version 1, `memory.peak` of version 2 (Linux 5.19); the counts of failures
    /// of version 1 stay 0 on newer kernels. Where nothing says, it was its own.
    fn is_its_own(&self) -> bool {
        let Some(dir) = &self.group else { return true };
        let peak = ["memory.max_usage_in_bytes", "memory.peak"]
            .into_iter()
            .find_map(|file| std::fs::read_to_string(dir.join(file)).ok());
        let peak = peak.and_then(|peak| peak.trim().parse::<u64>().ok());
        peak.is_none_or(|peak| peak.saturating_add(CHARGED_AHEAD) >= self.most)
    }

    /// How many more than anybody was told of.
    fn news(&self, kills: u64) -> u64 {
        kills.saturating_sub(self.told.fetch_max(kills, Ordering::Relaxed))
    }

    fn count(&self) -> u64 {
        let mut counts = [0; COUNTS_BYTES];
        let read = self
            .counter
            .as_ref()
            .and_then(|file| file.read_at(&mut counts, 0).ok());
        let counts = String::from_utf8_lossy(&counts[..read.unwrap_or(0)]);
        oom_kills(&counts)
    }
}

fn processes(kills: u64) -> String {
    if kills == 1 {
        "a process".to_owned()
    } else {
        format!("{kills} processes")
    }
}

/// Which call it was; a command by its first characters.
fn during(call: &ToolCall) -> String {
    let command = call.input.get("command").and_then(|c| c.as_str());
    match (call.name, command) {
        (Tool::Bash, Some(command)) => {
            let mut shown: String = command.chars().take(SHOWN_COMMAND_CHARS).collect();
            if shown.len() < command.len() {
                shown.push('…');
            }
            format!(" during (or shortly before) the command `{shown}`")
        }
        _ => " before this call ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hand::wire::Content;
    use serde_json::json;

    use super::*;

    fn memory() -> Memory {
        Memory {
            counter: None,
            group: None,
            most: 1 << 30,
            told: AtomicU64::new(2),
        }
    }

    fn call(name: Tool) -> ToolCall {
        ToolCall {
            name,
            input: json!({"command": "x".repeat(300)}),
            caller: None,
        }
    }

    #[test]
    fn what_was_told_once_is_not_told_again() {
        let memory = memory();
        assert_eq!(memory.news(2), 0);
        assert_eq!(memory.news(5), 3);
        assert_eq!(memory.news(5), 0);
        // An older count than the last one.
        assert_eq!(memory.news(4), 0);
    }

    #[test]
    fn an_end_that_memory_had_no_part_in_is_not_explained_by_it() {
        let memory = memory();
        assert_eq!(memory.ended(&call(Tool::Read), 2), None);
        let output = memory.ended(&call(Tool::Bash), 3).unwrap();
        assert!(output.is_error);
        let Some(Content::Text { text }) = output.content.first() else {
            panic!("{output:?}")
        };
        assert!(text.contains("its limit is 1 GiB"), "{text}");
        assert!(text.contains(&format!("`{}…`", "x".repeat(200))), "{text}");
    }
}
