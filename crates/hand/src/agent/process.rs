//! Owns the processes that the server started and drives over pipes. It interprets none of their bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rustix::process::Pid;

use super::reaper::{Exit, Reaper, Started};
use super::{Sender, tree};
use crate::limits::{CHUNK_BYTES, PROCESSES, WINDOW_CHUNKS};
use crate::wire::{FromHand, Id, Refusal, Spawn, Stream};

/// Stack of a thread that only copies.
const STACK: usize = 128 * 1024;
/// What has to end before a process is forgotten: its two streams and itself.
const PARTS: usize = 3;

type Table = Arc<Mutex<HashMap<Id, Arc<Process>>>>;

pub(crate) struct Processes {
    sender: Sender,
    reaper: Reaper,
    table: Table,
}

struct Process {
    pid: Pid,
    stdin: Mutex<Option<SyncSender<Vec<u8>>>>,
    stdout: Window,
    stderr: Window,
    open: AtomicUsize,
    /// Its number may belong to another process by now.
    reaped: AtomicBool,
}

/// Chunks that may still be sent; a killed process's output is read and dropped instead.
struct Window {
    state: Mutex<Credit>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Credit {
    Left(usize),
    Discard,
}

impl Processes {
    pub(crate) fn new(sender: Sender, reaper: Reaper) -> Self {
        Self {
            sender,
            reaper,
            table: Table::default(),
        }
    }

    pub(crate) fn start(&self, id: Id, body: &[u8]) {
        let started = if self.lock().len() >= PROCESSES {
            let problem = format!("more than {PROCESSES} processes at once");
            Err((Refusal::Busy, problem))
        } else {
            let started = self.try_start(id, body);
            started.map_err(|problem| (Refusal::Invalid, problem))
        };
        if let Err((why, problem)) = started {
            let refused = FromHand::Refused { id, why, problem };
            self.sender.send(&refused, &[]);
        }
    }

    fn try_start(&self, id: Id, body: &[u8]) -> Result<(), String> {
        let spawn: Spawn = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let (program, arguments) = spawn.argv.split_first().ok_or("no program named")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(spawn.env)
            .current_dir(&spawn.cwd)
            .process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = self.reaper.spawn(&mut command, || Ok(()));
        let started = started.map_err(|error| format!("start {program}: {error}"))?;
        let pid = started.pid;
        self.attend(id, started).map_err(|error| {
            tree::kill(pid);
            self.lock().remove(&id);
            format!("attend {program}: {error}")
        })
    }

    /// Announces the process and starts the threads that carry its streams.
    fn attend(&self, id: Id, started: Started) -> io::Result<()> {
        let Started {
            mut child,
            pid,
            pidfd: _,
            exit,
        } = started;
        let (stdin_tx, stdin_rx) = sync_channel(WINDOW_CHUNKS);
        let process = Arc::new(Process {
            pid,
            stdin: Mutex::new(Some(stdin_tx)),
            stdout: Window::new(),
            stderr: Window::new(),
            open: AtomicUsize::new(PARTS),
            reaped: AtomicBool::new(false),
        });
        self.lock().insert(id, Arc::clone(&process));
        self.sender.send(&FromHand::Spawned { id }, &[]);
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let (stdin, stdout, stderr) = (
            child.stdin.take().ok_or_else(missing)?,
            child.stdout.take().ok_or_else(missing)?,
            child.stderr.take().ok_or_else(missing)?,
        );
        let sender = self.sender.clone();
        named("stdin").spawn(move || feed(&sender, id, stdin, &stdin_rx))?;
        self.carry(id, &process, Stream::Stdout, stdout)?;
        self.carry(id, &process, Stream::Stderr, stderr)?;
        let (sender, table) = (self.sender.clone(), Arc::clone(&self.table));
        named("wait").spawn(move || {
            let Exit { code, signal } = exit.recv().unwrap_or(Exit {
                code: None,
                signal: None,
            });
            process.reaped.store(true, Ordering::SeqCst);
            sender.send(&FromHand::Exited { id, code, signal }, &[]);
            process.part_ended(id, &table);
        })?;
        Ok(())
    }

    fn carry(
        &self,
        id: Id,
        process: &Arc<Process>,
        stream: Stream,
        from: impl Read + Send + 'static,
    ) -> io::Result<()> {
        let (sender, table) = (self.sender.clone(), Arc::clone(&self.table));
        let process = Arc::clone(process);
        named("stream").spawn(move || {
            pump(&sender, id, stream, process.window(stream), from);
            process.part_ended(id, &table);
        })?;
        Ok(())
    }

    pub(crate) fn stdin(&self, id: Id, chunk: Vec<u8>) {
        let Some(process) = self.get(id) else { return };
        let stdin = process.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stdin) = &*stdin {
            // Full only if the server ignored its window; gone only if the process closed it.
            let _ = stdin.try_send(chunk);
        }
    }

    pub(crate) fn stdin_end(&self, id: Id) {
        if let Some(process) = self.get(id) {
            process
                .stdin
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
    }

    pub(crate) fn ack(&self, id: Id, stream: Stream) {
        if let Some(process) = self.get(id) {
            process.window(stream).give();
        }
    }

    pub(crate) fn kill(&self, id: Id) {
        let Some(process) = self.get(id) else { return };
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
        process
            .stdin
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        process.stdout.discard();
        process.stderr.discard();
    }

    fn get(&self, id: Id) -> Option<Arc<Process>> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Arc<Process>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn window(&self, stream: Stream) -> &Window {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    fn part_ended(&self, id: Id, table: &Table) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            table
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
        }
    }
}

impl Window {
    fn new() -> Self {
        Self {
            state: Mutex::new(Credit::Left(WINDOW_CHUNKS)),
            changed: Condvar::new(),
        }
    }

    /// Waits for room; false when the output is to be dropped.
    fn take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *state {
                Credit::Left(0) => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Credit::Left(n) => {
                    *state = Credit::Left(n - 1);
                    return true;
                }
                Credit::Discard => return false,
            }
        }
    }

    fn give(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Credit::Left(n) = *state {
            *state = Credit::Left((n + 1).min(WINDOW_CHUNKS));
        }
        self.changed.notify_one();
    }

    fn discard(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Credit::Discard;
        self.changed.notify_one();
    }
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
}

fn feed(sender: &Sender, id: Id, mut stdin: impl Write, chunks: &Receiver<Vec<u8>>) {
    let mut closed = false;
    while let Ok(chunk) = chunks.recv() {
        closed = closed || stdin.write_all(&chunk).is_err();
        sender.send(&FromHand::StdinAck { id }, &[]);
    }
}

fn pump(sender: &Sender, id: Id, stream: Stream, window: &Window, mut from: impl Read) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                if window.take() {
                    sender.send(&FromHand::Chunk { id, stream }, &chunk[..n]);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    sender.send(&FromHand::End { id, stream }, &[]);
}
