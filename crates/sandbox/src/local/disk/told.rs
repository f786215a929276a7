//! Owns what a model is told when its sandbox takes too much of the disk. It limits nothing.

use std::sync::atomic::Ordering;

use hand::wire::{Output, Tool};

use super::Guarded;
use crate::local::groups::size;
use crate::provider::ToolCall;
use crate::volume::VOLUMES;

impl Guarded {
    /// The answer to a call that is not made at all while the sandbox takes too much.
    pub(in crate::local) fn refused(&self, call: &ToolCall) -> Option<Output> {
        let writes = matches!(call.name, Tool::Write);
        (writes && self.is_over()).then(|| {
            Output::error(format!(
                "Nothing was written: {}. Remove files with bash first (`du -xh / | sort -h | tail` shows \
                 where they are).",
                self.how_much()
            ))
        })
    }

    /// Why nothing can be written now, if so.
    pub(in crate::local) fn full(&self) -> Option<String> {
        self.is_over().then(|| {
            format!(
                "nothing was written: {}. Remove files first",
                self.how_much()
            )
        })
    }

    /// The answer to a call, and under it that the disk was full, if what ran was ended since the answer
    /// before.
    pub(in crate::local) fn told(&self, mut output: Output) -> Output {
        let ended = self.ended.load(Ordering::SeqCst);
        if self.told.swap(ended, Ordering::SeqCst) >= ended {
            return output;
        }
        let note = if self.host.load(Ordering::SeqCst) {
            "[Disk full: the disk of the machine that this sandbox runs on is nearly full, so what ran in \
             the sandbox, background processes and shell included, was ended. Write less, or try again later.]"
                .to_owned()
        } else {
            let place = match &self.volume {
                Some(volume) => format!("-h {VOLUMES}/{volume}"),
                None => "-xh /".to_owned(),
            };
            format!(
                "[Disk full: {}, so what ran in the sandbox, background processes and shell included, was ended. The \
                 next command starts a new shell. Remove files (`du {place} | sort -h | tail` shows where they \
                 are); until there is room, whatever writes more is ended again.]",
                self.how_much()
            )
        };
        output.is_error = true;
        output.add(&note);
        output
    }

    fn how_much(&self) -> String {
        let taken = self.taken.load(Ordering::SeqCst);
        if taken > self.most.bytes {
            let most = size(self.most.bytes);
            let what = match &self.volume {
                Some(volume) => format!("the files of the volume {volume}"),
                None => "the files of the sandbox".to_owned(),
            };
            return format!("{what} take {} MiB and may take {most}", taken >> 20);
        }
        let place = match &self.volume {
            Some(volume) => format!("the volume {volume}"),
            None => "the sandbox".to_owned(),
        };
        format!(
            "there are more files in {place} than the {} that it may have",
            self.most.files
        )
    }
}
