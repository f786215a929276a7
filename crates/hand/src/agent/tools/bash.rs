//! Owns the bash tool: state of the shell between calls, and the texts of its answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::super::calls::Cancel;
use super::super::reaper::Reaper;
use super::super::shell::{Ended, Shell};
use super::Stop;
use super::input::Input;
use crate::limits::{BASH_COMMAND_BYTES, BASH_DEFAULT_TIMEOUT, BASH_MAX_TIMEOUT_MS};
use crate::wire::Output;

pub(super) struct Bash {
    reaper: Reaper,
    /// Held for a whole call: commands of one shell run one after another.
    state: Mutex<State>,
}

enum State {
    /// The next command starts a shell.
    Absent,
    Running(Shell),
    /// A command ran too long: the model has to say that it knows that the shell's state is gone.
    Terminated,
}

impl Bash {
    pub(super) fn new(reaper: Reaper) -> Self {
        Self {
            reaper,
            state: Mutex::new(State::Absent),
        }
    }

    pub(super) fn run(&self, input: &Input, cancel: &Cancel) -> Result<Output, Stop> {
        let restart = input.flag("restart")?;
        let command = input.optional_text("command")?;
        let timeout = timeout(input)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if cancel.is_wanted() {
            return Err(Stop::Cancelled);
        }
        if restart {
            if let State::Running(shell) = &*state {
                shell.kill();
            }
            *state = State::Absent;
            return Ok(Output::text("bash session restarted"));
        }
        let command = command.ok_or_else(|| "command is required".to_owned())?;
        if command.contains('\0') {
            return Err("command contains a NUL byte".to_owned().into());
        }
        if command.len() > BASH_COMMAND_BYTES {
            let problem = format!("command is over {BASH_COMMAND_BYTES} bytes; write it to a file");
            return Err(problem.into());
        }
        if matches!(*state, State::Absent) {
            let shell = Shell::start(&self.reaper).map_err(|error| format!("start: {error}"))?;
            *state = State::Running(shell);
        }
        let State::Running(shell) = &mut *state else {
            return Err("bash session terminated; restart required"
                .to_owned()
                .into());
        };
        let ended = shell.run(command, timeout, cancel);
        let text = shell.take_output();
        match ended {
            Ended::Command { code } => Ok(answer(text, Some(code), None)),
            Ended::Shell { exit } => {
                *state = State::Absent;
                Ok(answer(text, exit.code, exit.signal))
            }
            Ended::TimedOut => {
                *state = State::Terminated;
                let seconds = timeout.as_secs_f64();
                Err(format!("bash command timed out after {seconds:.1}s").into())
            }
            Ended::Cancelled => {
                *state = State::Absent;
                Err(Stop::Cancelled)
            }
        }
    }
}

fn timeout(input: &Input) -> Result<Duration, String> {
    match input.count("timeout_ms")? {
        None | Some(0) => Ok(BASH_DEFAULT_TIMEOUT),
        Some(ms) if ms > BASH_MAX_TIMEOUT_MS => {
            Err(format!("timeout_ms must be at most {BASH_MAX_TIMEOUT_MS}"))
        }
        Some(ms) => Ok(Duration::from_millis(ms)),
    }
}

/// A failed command answers with its output alone; only when there is none, with its status.
fn answer(text: String, code: Option<i32>, signal: Option<i32>) -> Output {
    if code == Some(0) {
        return Output::text(text);
    }
    if !text.is_empty() {
        return Output::error(text);
    }
    match (code, signal) {
        (Some(code), _) => Output::error(format!("exit code {code}")),
        (None, Some(signal)) => Output::error(format!("killed by signal {signal}")),
        (None, None) => Output::error("the shell ended"),
    }
}
