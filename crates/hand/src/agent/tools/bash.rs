//! Owns the bash tool: state of the shell between calls, and the texts of its answers.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::calls::Cancel;
use super::super::clock::Clock;
use super::super::notes::KEPT;
use super::super::output::Log;
use super::super::reaper::Reaper;
use super::super::shell::{Ended, Shell};
use super::super::tree;
use super::Stop;
use super::input::Input;
use crate::limits::{BASH_COMMAND_BYTES, BASH_DEFAULT_TIMEOUT, BASH_MAX_TIMEOUT_MS, KEEP_TIME};
use crate::wire::Output;

/// In [`KEPT`]: commands that bring a shell to where another one was.
const STATE: &str = "shell.sh";

pub(super) struct Bash {
    reaper: Reaper,
    clock: Clock,
    /// The number of the shell that runs, for who must not wait for a call.
    pid: AtomicI32,
    /// Whether this sandbox has asked for what an earlier one kept.
    asked: AtomicBool,
    /// What goes on in the background prints.
    log: Arc<Mutex<Log>>,
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
    pub(super) fn new(reaper: Reaper, clock: Clock) -> Self {
        Self {
            reaper,
            clock,
            pid: AtomicI32::new(0),
            asked: AtomicBool::new(false),
            log: Arc::new(Mutex::new(Log::new())),
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
        if tree::take_ended()
            && let State::Running(shell) = &*state
            && shell.has_ended()
        {
            *state = State::Absent;
        }
        if matches!(*state, State::Absent) {
            let shell = self.start().map_err(|error| format!("start: {error}"))?;
            *state = State::Running(shell);
        }
        let State::Running(shell) = &mut *state else {
            return Err("bash session terminated; restart required"
                .to_owned()
                .into());
        };
        let ended = shell.run(command, timeout, cancel, &self.clock);
        let text = shell.take_output();
        match ended {
            Ended::Command { code } => Ok(self.told(answer(text, Some(code), None))),
            Ended::Shell { exit } => {
                *state = State::Absent;
                Ok(self.told(answer(text, exit.code, exit.signal)))
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

    /// With what is to be heard of the background.
    fn told(&self, mut output: Output) -> Output {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = log.news() {
            output.add(&news);
        }
        output
    }

    /// The number of the shell, if one was started.
    pub(super) fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// A shell; the first one of this sandbox goes on where an earlier one was kept.
    fn start(&self) -> io::Result<Shell> {
        let shell = self.begin()?;
        let kept = Path::new(KEPT).join(STATE);
        if self.asked.swap(true, Ordering::Relaxed) || !kept.exists() {
            return Ok(shell);
        }
        let mut shell = shell;
        let command = format!("builtin source {KEPT}/{STATE}");
        let ended = shell.run(&command, KEEP_TIME, &Cancel::new()?, &self.clock);
        let _ = fs::remove_file(kept);
        // What it had to say, such as that a directory has gone, nobody asked for.
        let _ = shell.take_output();
        match ended {
            Ended::Command { .. } => Ok(shell),
            Ended::Shell { .. } | Ended::TimedOut | Ended::Cancelled => self.begin(),
        }
    }

    fn begin(&self) -> io::Result<Shell> {
        let shell = Shell::start(&self.reaper, &self.log)?;
        self.pid.store(shell.pid(), Ordering::Relaxed);
        Ok(shell)
    }

    /// Keeps directory and environment of the shell for the next sandbox of this name, if a shell waits
    /// for a command; the directory.
    pub(super) fn keep(&self) -> Option<String> {
        // One that is held runs a command, which will not see its end.
        let mut state = self.state.try_lock().ok()?;
        let State::Running(shell) = &mut *state else {
            return None;
        };
        fs::create_dir_all(KEPT).ok()?;
        let _ = fs::remove_file(Path::new(KEPT).join(STATE));
        let command = format!(
            "{{ builtin printf 'builtin cd -- %q\\n' \"$PWD\"; builtin declare -px; }} >{KEPT}/{STATE} && builtin printf '%s' \"$PWD\""
        );
        let earlier = shell.take_output();
        drop(earlier);
        match shell.run(&command, KEEP_TIME, &Cancel::new().ok()?, &self.clock) {
            Ended::Command { code: 0 } => Some(shell.take_output()),
            _ => None,
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
