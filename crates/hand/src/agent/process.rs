//! Owns the processes that the server started and drives over pipes or a terminal. It interprets none of
//! their bytes.

mod courier;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal as Sig, kill_process_group};

use super::clock::Clock;
use super::kept::{Kept, One};
use super::piped::{Piped, Table, exited, feed, named};
use super::reaper::{Exit, Reaper, Started};
use super::variables::Variables;
use super::{Sender, terminal, tree, workers};
use crate::limits::{CHUNK_BYTES, PROCESSES};
use crate::wire::{FromHand, Id, Refusal, Signal, Size, Spawn, Stream};
pub(crate) use courier::Courier;
use courier::{End, Load, Words};

/// What has to end before a process is forgotten: its two streams and itself.
const PARTS: usize = 3;
/// Where the set-up has put the hand: a volume, which nobody inside can move.
const WORKSPACE: &str = "/workspace";
/// What a terminal takes for the end of its input: Ctrl-D.
const END_OF_INPUT: &[u8] = b"\x04";

pub(crate) struct Processes {
    sender: Sender,
    reaper: Reaper,
    courier: Courier,
    clock: Clock,
    kept: Kept,
    variables: Variables,
    table: Table<Process>,
}

struct Process {
    pid: Pid,
    piped: Piped,
    /// What it reads, until somebody carries something there.
    input: Mutex<Option<Input>>,
    /// The hand's end of its terminal, if it has one.
    terminal: Option<File>,
    /// Its number may belong to another process by now.
    reaped: AtomicBool,
    /// What is known of it when this server has gone.
    kept: Option<(String, Arc<One>)>,
}

/// Where a process's input goes, and what comes for it.
struct Input {
    stdin: File,
    chunks: Receiver<Vec<u8>>,
    /// What is put behind it when nothing more comes.
    last: &'static [u8],
}

/// The hand's ends of a process's streams.
struct Ends {
    stdin: File,
    stdout: OwnedFd,
    /// None where all it prints comes on one.
    stderr: Option<OwnedFd>,
    /// See [`Load::shown`].
    shown: Option<OwnedFd>,
    terminal: Option<File>,
}

impl Processes {
    pub(crate) fn new(
        sender: Sender,
        reaper: Reaper,
        courier: Courier,
        clock: Clock,
        kept: Kept,
        variables: Variables,
    ) -> Self {
        Self {
            sender,
            reaper,
            courier,
            clock,
            kept,
            variables,
            table: Table::default(),
        }
    }

    pub(crate) fn start(&self, id: Id, key: Option<&str>, body: &[u8]) {
        let started = if self.lock().len() >= PROCESSES {
            let problem = format!("more than {PROCESSES} processes at once");
            Err((Refusal::Busy, problem))
        } else {
            self.try_start(id, key, body)
        };
        if let Err((why, problem)) = started {
            let refused = FromHand::Refused { id, why, problem };
            self.sender.send(&refused, &[]);
        }
    }

    fn try_start(&self, id: Id, key: Option<&str>, body: &[u8]) -> Result<(), (Refusal, String)> {
        let invalid = |problem| (Refusal::Invalid, problem);
        let spawn = serde_json::from_slice(body);
        let spawn: Spawn = spawn.map_err(|error| invalid(error.to_string()))?;
        let Some(key) = key else {
            return self.run(id, spawn, None).map_err(invalid);
        };
        let one = self.kept.add(key, &spawn.argv)?;
        let run = self.run(id, spawn, Some((key.to_owned(), one)));
        run.map_err(|problem| {
            self.kept.forget(key);
            invalid(problem)
        })
    }

    fn run(&self, id: Id, spawn: Spawn, kept: Option<(String, Arc<One>)>) -> Result<(), String> {
        let (program, arguments) = spawn.argv.split_first().ok_or("no program named")?;
        let mut command = Command::new(program);
        let given = self.variables.now();
        command.args(arguments).envs(given.all).envs(spawn.env);
        // Where the hand is itself, the cheaper way to start one is open to the standard library.
        if spawn.cwd != WORKSPACE {
            command.current_dir(&spawn.cwd);
        }
        let terminal = match spawn.terminal {
            None => {
                command
                    .process_group(0)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped());
                None
            }
            Some(size) => {
                let given = terminal::give(&mut command, size);
                Some(given.map_err(|error| format!("give {program} a terminal: {error}"))?)
            }
        };
        // Before it: where no thread can be made any more, nothing is started.
        let begun = self.courier.begin();
        begun.map_err(|error| format!("attend {program}: {error}"))?;
        let started = self.reaper.spawn(&mut command, || Ok(()));
        // With it go the hand's copies of the terminal's other end.
        drop(command);
        let started = started.map_err(|error| format!("start {program}: {error}"))?;
        let (pid, limit) = (started.pid, spawn.time_limit_ms.map(Duration::from_millis));
        if let Some((_, one)) = &kept {
            one.runs(pid);
        }
        self.attend(id, started, terminal, kept, limit)
            .map_err(|error| {
                tree::kill(pid);
                self.lock().remove(&id);
                format!("attend {program}: {error}")
            })
    }

    /// Announces the process, and has its streams carried.
    fn attend(
        &self,
        id: Id,
        mut started: Started,
        terminal: Option<File>,
        kept: Option<(String, Arc<One>)>,
        limit: Option<Duration>,
    ) -> io::Result<()> {
        let ends = Ends::of(&mut started, terminal)?;
        let (piped, chunks) = Piped::new(PARTS);
        let last = ends.terminal.as_ref().map_or(&b""[..], |_| END_OF_INPUT);
        let process = Arc::new(Process {
            pid: started.pid,
            piped,
            input: Mutex::new(Some(Input {
                stdin: ends.stdin,
                chunks,
                last,
            })),
            terminal: ends.terminal,
            reaped: AtomicBool::new(false),
            kept,
        });
        self.lock().insert(id, Arc::clone(&process));
        self.sender.send(&FromHand::Spawned { id }, &[]);
        let (exit, ended) = (started.exit, started.ended);
        let end = match limit {
            None => Some(End { ended, exit }),
            Some(limit) => {
                self.wait(id, Arc::clone(&process), exit, limit)?;
                None
            }
        };
        self.courier.carry(Load {
            id,
            sender: self.sender.clone(),
            table: Arc::clone(&self.table),
            process,
            stdout: Some(ends.stdout),
            stderr: ends.stderr,
            shown: ends.shown,
            end,
            words: Words::default(),
        })
    }

    /// Waits for its end, or brings it about when it has run for `limit`: that may take a while, so it is done by a
    /// thread of its own.
    fn wait(
        &self,
        id: Id,
        process: Arc<Process>,
        exit: Receiver<Exit>,
        limit: Duration,
    ) -> io::Result<()> {
        let (sender, table) = (self.sender.clone(), Arc::clone(&self.table));
        let clock = self.clock.clone();
        // A limit beyond what the clock can count is none.
        let deadline = clock.now().checked_add(limit);
        workers::run(move || {
            let ended = until(&exit, &clock, deadline);
            let timed_out = ended.is_none();
            if timed_out {
                tree::kill(process.pid);
            }
            let ended = ended.or_else(|| exit.recv().ok()).unwrap_or(Exit::UNKNOWN);
            process.reaped.store(true, Ordering::SeqCst);
            if let Some((_, one)) = &process.kept {
                one.ended(ended, timed_out);
            }
            process.part_ended(id, &table);
            exited(&sender, id, ended, timed_out);
        })
    }

    pub(crate) fn stdin(&self, id: Id, chunk: Vec<u8>) {
        self.with(id, |process| {
            if !process.piped.stdin(chunk) || !self.feed(id, process) {
                // It is dropped, as if the process had closed it.
                self.sender.send(&FromHand::StdinAck { id }, &[]);
            }
        });
    }

    /// Has somebody carry its input there, which most programs are never given any of. False where there is none to
    /// be had: then its input has ended.
    fn feed(&self, id: Id, process: &Process) -> bool {
        let Some(input) = process.input().take() else {
            return true;
        };
        let sender = self.sender.clone();
        let carry = move || feed(&sender, id, input.stdin, &input.chunks, input.last);
        workers::run(carry).is_ok()
    }

    pub(crate) fn stdin_end(&self, id: Id) {
        self.with(id, |process| {
            process.piped.stdin_end();
            if let Some(mut input) = process.input().take() {
                // It was given nothing before, so there is room. Whoever does not take it has gone.
                let _ = input.stdin.write_all(input.last);
            }
        });
    }

    pub(crate) fn ack(&self, id: Id, stream: Stream) {
        self.with(id, |process| {
            if process.piped.ack(stream) {
                self.courier.wake();
            }
        });
    }

    pub(crate) fn signal(&self, id: Id, signal: Signal) {
        self.with(id, |process| {
            if !process.reaped.load(Ordering::SeqCst) {
                // One that has just ended needs no signal.
                let _ = kill_process_group(process.pid, number(signal));
            }
        });
    }

    pub(crate) fn resize(&self, id: Id, size: Size) {
        self.with(id, |process| {
            if let Some(terminal) = &process.terminal {
                // Whoever looks sees the old size.
                let _ = terminal::resize(terminal, size);
            }
        });
    }

    pub(crate) fn kill(&self, id: Id) {
        self.with(id, |process| {
            if let Some((key, _)) = &process.kept {
                self.kept.forget(key);
            }
            let (pid, reaped) = (process.pid, process.reaped.load(Ordering::SeqCst));
            // Killing waits for the dead, and this thread reads what the server says next.
            let kill = move || {
                if reaped {
                    tree::kill_group(pid)
                } else {
                    tree::kill(pid)
                }
            };
            if named("kill").spawn(kill).is_err() {
                kill();
            }
            self.discard(process);
        });
    }

    /// Whether there is such a process.
    pub(crate) fn has(&self, id: Id) -> bool {
        self.lock().contains_key(&id)
    }

    /// Nobody drives them any more: those without a key end.
    pub(crate) fn leave(&self) {
        let all: Vec<_> = self.lock().iter().map(|(id, p)| (*id, p.clone())).collect();
        for (id, process) in all {
            match process.kept {
                Some(_) => self.discard(&process),
                None => self.kill(id),
            }
        }
    }

    /// Nobody reads what it prints, or says more to it.
    fn discard(&self, process: &Process) {
        process.piped.discard();
        process.input().take();
        self.courier.wake();
    }

    /// What became of the one with that key is known elsewhere.
    pub(crate) fn taken(&self, key: &str) {
        self.kept.forget(key);
    }

    fn with(&self, id: Id, act: impl FnOnce(&Process)) {
        let process = self.lock().get(&id).cloned();
        if let Some(process) = process {
            act(&process);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<Id, Arc<Process>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn input(&self) -> std::sync::MutexGuard<'_, Option<Input>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part_ended(&self, id: Id, table: &Table<Self>) {
        if self.piped.part_ended() {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table.remove(&id);
        }
    }
}

impl Ends {
    fn of(started: &mut Started, terminal: Option<File>) -> io::Result<Self> {
        if let Some(terminal) = terminal {
            return Ok(Self {
                stdin: terminal.try_clone()?,
                stdout: terminal.try_clone()?.into(),
                stderr: None,
                shown: terminal::shown(&started.ended)?,
                terminal: Some(terminal),
            });
        }
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let child = &mut started.child;
        if let Some(stdout) = &child.stdout {
            // As much as one chunk takes; with less it only goes more slowly.
            let _ = rustix::pipe::fcntl_setpipe_size(stdout, CHUNK_BYTES);
        }
        Ok(Self {
            stdin: OwnedFd::from(child.stdin.take().ok_or_else(missing)?).into(),
            stdout: child.stdout.take().ok_or_else(missing)?.into(),
            stderr: Some(child.stderr.take().ok_or_else(missing)?.into()),
            shown: None,
            terminal: None,
        })
    }
}

/// How it ended; `None` when the deadline came first.
fn until(exit: &Receiver<Exit>, clock: &Clock, deadline: Option<Instant>) -> Option<Exit> {
    let Some(deadline) = deadline else {
        return exit.recv().ok();
    };
    while let Some(left) = clock.left(deadline) {
        match exit.recv_timeout(left) {
            Ok(exit) => return Some(exit),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    None
}

fn number(signal: Signal) -> Sig {
    match signal {
        Signal::Interrupt => Sig::INT,
        Signal::Quit => Sig::QUIT,
        Signal::HangUp => Sig::HUP,
        Signal::Terminate => Sig::TERM,
        Signal::Kill => Sig::KILL,
    }
}
