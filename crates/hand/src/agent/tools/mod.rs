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

use super::callers::Caller;
use super::calls::Cancel;
use crate::limits::CALLERS;
use crate::wire::{Id, Output, Tool};
pub(super) use bash::Bash;
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

/// Runs one call; of a caller for whom there is no room, only what needs no shell.
pub(crate) fn run(
    caller: Option<&Caller>,
    tool: Tool,
    id: Id,
    input: &[u8],
    cancel: &Cancel,
) -> Outcome {
    let answer = Input::parse(input)
        .map_err(Stop::from)
        .and_then(|input| match tool {
            Tool::Bash => match caller {
                Some(caller) => caller.bash.run(&input, cancel),
                None => Err(no_room().into()),
            },
            Tool::Read => read::run(&input).map_err(Stop::from),
            Tool::Write => write::run(&input).map_err(Stop::from),
            Tool::Edit => edit::run(&input).map_err(Stop::from),
            Tool::Glob => glob::run(&input, cancel),
            Tool::Grep => grep::run(&input, cancel),
        });
    let output = match answer {
        Ok(output) => output,
        // A problem may repeat what was asked, and that may be long too.
        Err(Stop::Problem(problem)) => Output::error(format!("{}: {problem}", name(tool))),
        Err(Stop::Cancelled) => return Outcome::Cancelled,
    };
    let output = match caller {
        Some(caller) => caller.notes().told(output),
        None => output,
    };
    Outcome::Done(spill::spill(tool, id, output))
}

fn no_room() -> String {
    format!(
        "{CALLERS} threads have a shell in this sandbox already, which is the most; there is room again when one of \
         them has ended. The file tools work without one"
    )
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
