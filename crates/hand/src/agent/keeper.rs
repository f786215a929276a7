//! Owns the one process that outlives the server which drives it: a foreign agent loop. It holds what the process has
//! said, and was told, since a server last said that this is safe, so that the next server sees it again from there.
//! It interprets none of it.
//!
//! Who drives it, drives it alone: a later line takes it over, and what belongs to an earlier one reaches nobody.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;

use super::piped::{exited, named};
use super::reaper::{Exit, Reaper};
use super::variables::Variables;
use super::{Sender, tree, workers};
use crate::limits::{CHUNK_BYTES, KEPT_NOTE_BYTES, KEPT_STREAM_BYTES, KEY_CHARS, WINDOW_CHUNKS};
use crate::wire::{self, FromHand, Id, Refusal, Spawn, Stream};

/// The process that is kept, if there is one.
#[derive(Clone)]
pub(crate) struct Keeper {
    reaper: Reaper,
    variables: Variables,
    current: Arc<Mutex<Option<Arc<One>>>>,
}

type Chunks = SyncSender<(u64, Vec<u8>)>;

struct One {
    key: String,
    pid: Pid,
    /// Chunks for its standard input, each with the number of who sent it; none when it has ended.
    stdin: Mutex<Option<Chunks>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    note: String,
    said: Vec<u8>,
    /// What it has said, from `base` on.
    heard: VecDeque<u8>,
    /// Counted from its start.
    base: u64,
    /// Whether a later server can go on from the note: nothing has been dropped since.
    whole: bool,
    silent: bool,
    exit: Option<Exit>,
    driver: Option<Driver>,
    /// How many have driven it.
    drivers: u64,
}

/// Who drives it.
struct Driver {
    sender: Sender,
    id: Id,
    number: u64,
    /// What it has been sent of, counted as `base` is: from `first` to `next`.
    first: u64,
    next: u64,
    /// Chunks that it takes before it acknowledges one.
    credit: usize,
}

/// What the driver is to hear next.
enum News {
    Chunk(Vec<u8>),
    /// It has said all, and ended.
    Over(Exit),
}

impl Keeper {
    pub(crate) fn new(reaper: Reaper, variables: Variables) -> Self {
        Self {
            reaper,
            variables,
            current: Arc::default(),
        }
    }

    /// Starts a process in place of the one that is kept.
    pub(crate) fn start(&self, sender: &Sender, id: Id, key: String, body: &[u8]) {
        if let Err(problem) = self.try_start(sender, id, key, body) {
            let why = Refusal::Invalid;
            sender.send(&FromHand::Refused { id, why, problem }, &[]);
        }
    }

    fn try_start(&self, sender: &Sender, id: Id, key: String, body: &[u8]) -> Result<(), String> {
        if key.is_empty() || key.len() > KEY_CHARS {
            return Err(format!("a process is kept under 1 to {KEY_CHARS} bytes"));
        }
        let spawn: Spawn = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let (program, arguments) = spawn.argv.split_first().ok_or("no program named")?;
        self.end_former();
        let mut command = Command::new(program);
        command.args(arguments).envs(self.variables.now().all);
        command.envs(spawn.env);
        command.current_dir(&spawn.cwd).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        let failed = |error: io::Error| format!("start {program}: {error}");
        let mut started = { self.reaper.spawn(&mut command, || Ok(())) }.map_err(failed)?;
        let (chunks, told) = sync_channel(2 * WINDOW_CHUNKS);
        let one = Arc::new(One {
            key,
            pid: started.pid,
            stdin: Mutex::new(Some(chunks)),
            state: Mutex::new(State::new()),
            changed: Condvar::new(),
        });
        *self.lock() = Some(Arc::clone(&one));
        let ends = (started.child.stdin.take(), started.child.stdout.take());
        let (Some(stdin), Some(stdout)) = ends else {
            self.end(&one);
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let (writer, reader, waiter) = (one.clone(), one.clone(), one.clone());
        let attend = || {
            workers::run(move || waiter.wait(&started.exit))?;
            workers::run(move || writer.feed(stdin, &told))?;
            workers::run(move || reader.hear(stdout))?;
            let number = one.lock().driven_by(sender, id);
            sender.send(&FromHand::Spawned { id }, &[]);
            one.tell(sender, id, number)
        };
        let attended = attend().map_err(|error| format!("attend {program}: {error}"));
        attended.inspect_err(|_| self.end(&one))
    }

    /// Gives the process that was kept under `key` to who asks. One that cannot be given is of no use to anybody.
    pub(crate) fn attach(&self, sender: &Sender, id: Id, key: &str) {
        let refuse = |problem| {
            let why = Refusal::Missing;
            sender.send(&FromHand::Refused { id, why, problem }, &[]);
        };
        let one = self.lock().clone().filter(|one| one.key == key);
        let Some(one) = one else {
            self.end_former();
            return refuse("no process is kept under that key".to_owned());
        };
        let given = {
            let mut state = one.lock();
            state
                .given()
                .map(|kept| (kept, state.driven_by(sender, id)))
        };
        match given {
            Ok((kept, number)) => {
                sender.send(&FromHand::Spawned { id }, &kept);
                if one.tell(sender, id, number).is_err() {
                    // It is heard by nobody: who asks sees it end.
                    self.end(&one);
                }
            }
            Err(problem) => {
                self.end_former();
                refuse(problem);
            }
        }
    }

    /// Whether it is that one.
    pub(crate) fn has(&self, sender: &Sender, id: Id) -> bool {
        self.driven(sender, id).is_some()
    }

    /// The number of the process, if it is kept.
    pub(crate) fn pid(&self) -> Option<i32> {
        let current = self.lock();
        { current.as_ref() }.map(|one| one.pid.as_raw_nonzero().get())
    }

    pub(crate) fn mark(&self, sender: &Sender, id: Id, heard: u64, note: &[u8]) {
        if let Some(one) = self.driven(sender, id) {
            one.lock().mark(heard, note);
            one.changed.notify_all();
        }
    }

    pub(crate) fn stdin(&self, sender: &Sender, id: Id, chunk: Vec<u8>) {
        let Some(one) = self.driven(sender, id) else {
            return;
        };
        let number = {
            let mut state = one.lock();
            state.told(&chunk);
            state.drivers
        };
        let chunks = one.chunks();
        let told = { chunks.as_ref() }.is_none_or(|it| it.try_send((number, chunk)).is_ok());
        drop(chunks);
        if !told {
            // It has not read what earlier servers said: nobody can say what it knows.
            self.end(&one);
        }
    }

    pub(crate) fn ack(&self, sender: &Sender, id: Id) {
        if let Some(one) = self.driven(sender, id) {
            if let Some(driver) = &mut one.lock().driver {
                driver.credit = (driver.credit + 1).min(WINDOW_CHUNKS);
            }
            one.changed.notify_all();
        }
    }

    /// Ends it for good.
    pub(crate) fn kill(&self, sender: &Sender, id: Id) {
        if let Some(one) = self.driven(sender, id) {
            self.end(&one);
        }
    }

    /// Nobody drives it over that line any more: it goes on.
    pub(crate) fn leave(&self, sender: &Sender) {
        if let Some(one) = self.lock().clone() {
            let mut state = one.lock();
            if { state.driver.as_ref() }.is_some_and(|driver| driver.sender.is(sender)) {
                state.driver = None;
            }
            drop(state);
            one.changed.notify_all();
        }
    }

    /// Ends it without waiting for that.
    fn end(&self, one: &Arc<One>) {
        let mut current = self.lock();
        if { current.as_ref() }.is_some_and(|kept| Arc::ptr_eq(kept, one)) {
            *current = None;
        }
        drop(current);
        let ended = Arc::clone(one);
        // Killing waits for the dead, and this thread reads what the server says next.
        if named("kill").spawn(move || ended.kill()).is_err() {
            one.kill();
        }
    }

    /// Ends the one that is kept, and waits for that.
    fn end_former(&self) {
        let former = self.lock().take();
        if let Some(former) = former {
            former.kill();
        }
    }

    fn driven(&self, sender: &Sender, id: Id) -> Option<Arc<One>> {
        let one = self.lock().clone()?;
        let state = one.lock();
        let driver = state.driver.as_ref();
        let is_its = driver.is_some_and(|it| it.id == id && it.sender.is(sender));
        drop(state);
        is_its.then_some(one)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<One>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chunks(&self) -> MutexGuard<'_, Option<Chunks>> {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        // What has ended has no number of its own any more.
        if self.lock().exit.is_none() {
            tree::kill(self.pid);
        }
    }

    /// Tells the driver of that number, in the background, all that the process says.
    fn tell(self: &Arc<Self>, sender: &Sender, id: Id, number: u64) -> io::Result<()> {
        let (one, sender) = (Arc::clone(self), sender.clone());
        workers::run(move || {
            let (stdout, stderr) = (Stream::Stdout, Stream::Stderr);
            sender.send(&FromHand::End { id, stream: stderr }, &[]);
            while let Some(news) = one.news(number) {
                match news {
                    News::Chunk(chunk) => {
                        sender.send(&FromHand::Chunk { id, stream: stdout }, &chunk);
                    }
                    News::Over(exit) => {
                        sender.send(&FromHand::End { id, stream: stdout }, &[]);
                        return exited(&sender, id, exit, false);
                    }
                }
            }
        })
    }

    /// Waits for the next thing that the driver of that number is to hear; none when another drives it.
    fn news(&self, number: u64) -> Option<News> {
        let mut state = self.lock();
        loop {
            if state.driver.as_ref()?.number != number {
                return None;
            }
            if let Some(chunk) = state.next_chunk() {
                return Some(News::Chunk(chunk));
            }
            let all = { state.driver.as_ref() }.is_some_and(|driver| driver.next == state.end());
            if let Some(exit) = state.exit.filter(|_| state.silent && all) {
                return Some(News::Over(exit));
            }
            state = { self.changed.wait(state) }.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes in what it says. With nobody to hear it, it is held up when much is held.
    fn hear(&self, mut stdout: impl Read) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match stdout.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            let mut state = self.lock();
            while !state.has_room() {
                state = { self.changed.wait(state) }.unwrap_or_else(PoisonError::into_inner);
            }
            state.heard.extend(&chunk[..read]);
            drop(state);
            self.changed.notify_all();
        }
        self.lock().silent = true;
        self.changed.notify_all();
    }

    /// Carries to it what it is told, and acknowledges that to whoever said it.
    fn feed(&self, mut stdin: impl Write, chunks: &Receiver<(u64, Vec<u8>)>) {
        let mut closed = false;
        while let Ok((number, chunk)) = chunks.recv() {
            closed = closed || stdin.write_all(&chunk).is_err();
            let driver = {
                let state = self.lock();
                let driver = state.driver.as_ref().filter(|it| it.number == number);
                driver.map(|driver| (driver.sender.clone(), driver.id))
            };
            if let Some((sender, id)) = driver {
                sender.send(&FromHand::StdinAck { id }, &[]);
            }
        }
    }

    fn wait(&self, exit: &Receiver<Exit>) {
        let exit = exit.recv().unwrap_or(Exit::UNKNOWN);
        self.chunks().take();
        self.lock().exit = Some(exit);
        self.changed.notify_all();
    }
}

impl State {
    fn new() -> Self {
        Self {
            note: String::new(),
            said: Vec::new(),
            heard: VecDeque::new(),
            base: 0,
            whole: true,
            silent: false,
            exit: None,
            driver: None,
            drivers: 0,
        }
    }

    fn end(&self) -> u64 {
        self.base + self.heard.len() as u64
    }

    /// From now on that line drives it, from what was marked last on; its number.
    fn driven_by(&mut self, sender: &Sender, id: Id) -> u64 {
        self.drivers += 1;
        self.driver = Some(Driver {
            sender: sender.clone(),
            id,
            number: self.drivers,
            first: self.base,
            next: self.base,
            credit: WINDOW_CHUNKS,
        });
        self.drivers
    }

    /// What is known of it, for who is about to drive it.
    fn given(&self) -> Result<Vec<u8>, String> {
        if !self.whole {
            return Err("more was said to it, or by it, than is kept".to_owned());
        }
        let said = String::from_utf8(self.said.clone()).map_err(|error| error.to_string())?;
        let note = self.note.clone();
        let kept = serde_json::to_vec(&wire::Kept { note, said });
        let kept = kept.map_err(|error| error.to_string())?;
        if kept.len() > crate::limits::BODY_BYTES {
            return Err("more was said to it than a frame holds".to_owned());
        }
        Ok(kept)
    }

    fn mark(&mut self, heard: u64, note: &[u8]) {
        let Some(driver) = &self.driver else { return };
        // No further than it has been sent.
        let to = driver.first.saturating_add(heard).min(driver.next);
        let gone = usize::try_from(to.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.heard.drain(..gone.min(self.heard.len()));
        self.base = self.base.max(to);
        self.said.clear();
        // What has been dropped beyond the mark is missed by whoever comes.
        self.whole = self.base == to && note.len() <= KEPT_NOTE_BYTES;
        self.note = String::from_utf8_lossy(note).into_owned();
    }

    fn told(&mut self, chunk: &[u8]) {
        if self.said.len() + chunk.len() > KEPT_STREAM_BYTES {
            self.said.clear();
            self.whole = false;
        } else if self.whole {
            self.said.extend_from_slice(chunk);
        }
    }

    /// Whether more can be held; what the driver has been sent makes room.
    fn has_room(&mut self) -> bool {
        if self.heard.len() + CHUNK_BYTES <= KEPT_STREAM_BYTES {
            return true;
        }
        let Some(driver) = &self.driver else {
            return false;
        };
        let sent = usize::try_from(driver.next - self.base).unwrap_or(0);
        self.heard.drain(..sent);
        self.base += sent as u64;
        self.whole = self.whole && sent == 0;
        sent > 0
    }

    fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.end();
        let driver = self.driver.as_mut()?;
        if driver.credit == 0 || driver.next >= end {
            return None;
        }
        let from = usize::try_from(driver.next - self.base).ok()?;
        let chunk: Vec<u8> = { self.heard.iter().skip(from).take(CHUNK_BYTES) }
            .copied()
            .collect();
        driver.credit -= 1;
        driver.next += chunk.len() as u64;
        Some(chunk)
    }
}
