//! Owns the bash tool: state of one caller's shell between calls, and the texts of its answers.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::calls::Cancel;
use super::super::clock::Clock;
use super::super::output::Log;
use super::super::reaper::Reaper;
use super::super::shell::{Ended, Shell};
use super::super::tree;
use super::super::variables::Variables;
use super::Stop;
use super::input::Input;
use crate::limits::{BASH_COMMAND_BYTES, BASH_DEFAULT_TIMEOUT, BASH_MAX_TIMEOUT_MS, KEEP_TIME};
use crate::wire::Output;

/// In the caller's directory: commands that bring a shell to where another one was.
const STATE: &str = "shell.sh";

pub(crate) struct Bash {
    reaper: Reaper,
    clock: Clock,
    /// What is kept of the shell for the next sandbox of this name. Its path needs no quoting.
    dir: PathBuf,
    variables: Variables,
    /// Which of them the shell has.
    exported: AtomicU64,
    /// The number of the shell that runs, for who must not wait for a call.
    pid: AtomicI32,
    /// Whether this sandbox has asked for what an earlier one kept.
    asked: AtomicBool,
    /// What goes on in the background prints, of all callers.
    log: Arc<Mutex<Log>>,
    /// Whether this caller knows where that is.
    told: AtomicBool,
    /// Held for a whole call: commands of one shell run one after another.
    held: Mutex<Held>,
}

struct Held {
    state: State,
    /// How often all had been killed when it was looked at last.
    times_ended: u64,
}

enum State {
    /// The next command starts a shell.
    Absent,
    Running(Shell),
    /// A command ran too long: the model has to say that it knows that the shell's state is gone.
    Terminated,
}

impl Bash {
    pub(crate) fn new(
        reaper: Reaper,
        clock: Clock,
        variables: Variables,
        log: Arc<Mutex<Log>>,
        dir: PathBuf,
    ) -> Self {
        Self {
            reaper,
            clock,
            variables,
            exported: AtomicU64::new(0),
            dir,
            pid: AtomicI32::new(0),
            asked: AtomicBool::new(false),
            log,
            told: AtomicBool::new(false),
            held: Mutex::new(Held {
                state: State::Absent,
                times_ended: tree::times_ended(),
            }),
        }
    }

    pub(super) fn run(&self, input: &Input, cancel: &Cancel) -> Result<Output, Stop> {
        let restart = input.flag("restart")?;
        let command = input.optional_text("command")?;
        let timeout = timeout(input)?;
        let mut held = self.lock();
        let Held { state, times_ended } = &mut *held;
        if cancel.is_wanted() {
            return Err(Stop::Cancelled);
        }
        if restart {
            if let State::Running(shell) = state {
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
        let all_ended = tree::times_ended();
        if std::mem::replace(times_ended, all_ended) != all_ended
            && let State::Running(shell) = state
            && shell.has_ended()
        {
            *state = State::Absent;
        }
        if matches!(state, State::Absent) {
            let shell = self.start().map_err(|error| format!("start: {error}"))?;
            *state = State::Running(shell);
        }
        let State::Running(shell) = state else {
            return Err("bash session terminated; restart required"
                .to_owned()
                .into());
        };
        if let Some(ended) = self.export(shell) {
            *state = State::Absent;
            return Ok(self.told(answer(String::new(), ended.0, ended.1)));
        }
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
        let news = self
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .news();
        if let Some(news) = news
            && !self.told.swap(true, Ordering::Relaxed)
        {
            output.add(&news);
        }
        output
    }

    /// The number of the shell, if one was started.
    pub(crate) fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// A shell; the first one of this sandbox goes on where an earlier one was kept.
    fn start(&self) -> io::Result<Shell> {
        let shell = self.begin()?;
        let kept = self.dir.join(STATE);
        if self.asked.swap(true, Ordering::Relaxed) || !kept.exists() {
            return Ok(shell);
        }
        let mut shell = shell;
        let command = format!("builtin source {}", kept.display());
        let ended = shell.run(&command, KEEP_TIME, &Cancel::new()?, &self.clock);
        let _ = fs::remove_file(kept);
        // What it had to say, such as that a directory has gone, nobody asked for.
        let _ = shell.take_output();
        match ended {
            Ended::Command { .. } => {
                // What was kept may have others of those names.
                self.exported.store(0, Ordering::Relaxed);
                Ok(shell)
            }
            Ended::Shell { .. } | Ended::TimedOut | Ended::Cancelled => self.begin(),
        }
    }

    /// Gives the shell the variables that were given since it was started; how it ended, if it did by that.
    fn export(&self, shell: &mut Shell) -> Option<(Option<i32>, Option<i32>)> {
        let given = self.variables.now();
        if self.exported.swap(given.number, Ordering::Relaxed) == given.number {
            return None;
        }
        let ended = shell.run(
            &given.exports(),
            KEEP_TIME,
            &Cancel::new().ok()?,
            &self.clock,
        );
        // A variable that the model has made read-only stays as it is, and says so to nobody.
        let _ = shell.take_output();
        match ended {
            Ended::Command { .. } => None,
            Ended::Shell { exit } => Some((exit.code, exit.signal)),
            Ended::TimedOut | Ended::Cancelled => Some((None, None)),
        }
    }

    fn begin(&self) -> io::Result<Shell> {
        let given = self.variables.now();
        let shell = Shell::start(&self.reaper, &self.log, given.all)?;
        self.exported.store(given.number, Ordering::Relaxed);
        self.pid.store(shell.pid(), Ordering::Relaxed);
        Ok(shell)
    }

    /// Keeps directory and environment of the shell for the next sandbox of this name, if a shell waits
    /// for a command; the directory.
    pub(crate) fn keep(&self) -> Option<String> {
        // One that is held runs a command, which will not see its end.
        let mut held = self.held.try_lock().ok()?;
        let State::Running(shell) = &mut held.state else {
            return None;
        };
        fs::create_dir_all(&self.dir).ok()?;
        let kept = self.dir.join(STATE);
        let _ = fs::remove_file(&kept);
        let command = format!(
            "{{ builtin printf 'builtin cd -- %q\\n' \"$PWD\"; builtin declare -px; }} >{} && builtin printf '%s' \"$PWD\"",
            kept.display()
        );
        let earlier = shell.take_output();
        drop(earlier);
        match shell.run(&command, KEEP_TIME, &Cancel::new().ok()?, &self.clock) {
            Ended::Command { code: 0 } => Some(shell.take_output()),
            _ => None,
        }
    }

    /// Ends the shell with all that descends from it. Waits for a call that is under way.
    pub(crate) fn end(&self) {
        let mut held = self.lock();
        if let State::Running(shell) = &held.state {
            shell.kill();
        }
        held.state = State::Absent;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
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
