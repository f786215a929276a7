//! Owns the six tools: input in, answer out. A mistake of the model is an answer, never a failure of the hand.

mod bash;
mod edit;
mod glob;
mod grep;
mod input;
mod paths;
mod read;
mod rules;
mod spill;
mod walk;
mod write;

use std::sync::Arc;

use super::calls::Cancel;
use super::clock::Clock;
use super::notes::Notes;
use super::reaper::Reaper;
use crate::wire::{Id, Output, Tool};
use bash::Bash;
use input::Input;
pub(super) use paths::explain;

/// How a call ended.
pub(crate) enum Outcome {
    /// With an answer, good or bad.
    Done(Output),
    /// Because it was cancelled.
    Cancelled,
}

/// Why a tool has no good answer.
enum Stop {
    /// What to tell the model, after the tool's name.
    Problem(String),
    Cancelled,
}

impl From<String> for Stop {
    fn from(problem: String) -> Self {
        Self::Problem(problem)
    }
}

pub(crate) struct Tools {
    bash: Bash,
    notes: Arc<Notes>,
}

impl Tools {
    pub(crate) fn new(reaper: Reaper, clock: Clock, notes: Arc<Notes>) -> Self {
        Self {
            bash: Bash::new(reaper, clock),
            notes,
        }
    }

    pub(crate) fn shell(&self) -> Option<i32> {
        self.bash.pid()
    }

    pub(crate) fn keep_shell(&self) -> Option<String> {
        self.bash.keep()
    }

    pub(crate) fn run(&self, tool: Tool, id: Id, input: &[u8], cancel: &Cancel) -> Outcome {
        let answer = Input::parse(input)
            .map_err(Stop::from)
            .and_then(|input| match tool {
                Tool::Bash => self.bash.run(&input, cancel),
                Tool::Read => read::run(&input).map_err(Stop::from),
                Tool::Write => write::run(&input).map_err(Stop::from),
                Tool::Edit => edit::run(&input).map_err(Stop::from),
                Tool::Glob => glob::run(&input, cancel),
                Tool::Grep => grep::run(&input, cancel),
            });
        match answer {
            Ok(output) => Outcome::Done(spill::spill(tool, id, self.notes.told(output))),
            // A problem may repeat what was asked, and that may be long too.
            Err(Stop::Problem(problem)) => {
                let output = Output::error(format!("{}: {problem}", name(tool)));
                Outcome::Done(spill::spill(tool, id, self.notes.told(output)))
            }
            Err(Stop::Cancelled) => Outcome::Cancelled,
        }
    }
}

fn name(tool: Tool) -> &'static str {
    match tool {
        Tool::Bash => "bash",
        Tool::Read => "read",
        Tool::Write => "write",
        Tool::Edit => "edit",
        Tool::Glob => "glob",
        Tool::Grep => "grep",
    }
}
