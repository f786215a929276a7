//! Owns the streams between the server and what it started: their windows, and when all of it is over. It
//! interprets none of their bytes.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::Sender;
use super::reaper::Exit;
use crate::limits::{CHUNK_BYTES, WINDOW_CHUNKS};
use crate::wire::{FromHand, Id, Stream};

/// Stack of a thread that only copies.
const STACK: usize = 128 * 1024;

/// What runs, by its number.
pub(crate) type Table<T> = Arc<Mutex<HashMap<Id, Arc<T>>>>;

/// The streams of one thing that runs.
pub(crate) struct Piped {
    stdin: Mutex<Option<SyncSender<Vec<u8>>>>,
    stdout: Window,
    stderr: Window,
    /// How many of its parts have not ended.
    open: AtomicUsize,
}

/// Chunks that may still be sent; the output of what was killed is read and dropped instead.
struct Window {
    state: Mutex<Credit>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Credit {
    Left(usize),
    Discard,
}

/// What would become of a chunk now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It would wait.
    None,
    /// It is sent, or dropped because nobody wants it.
    Some,
}

impl Piped {
    /// Something that is over when `parts` of it have ended, and where its input comes out.
    pub(crate) fn new(parts: usize) -> (Self, Receiver<Vec<u8>>) {
        let (stdin, chunks) = sync_channel(WINDOW_CHUNKS);
        let piped = Self {
            stdin: Mutex::new(Some(stdin)),
            stdout: Window::new(),
            stderr: Window::new(),
            open: AtomicUsize::new(parts),
        };
        (piped, chunks)
    }

    /// Whether somebody carries it there, or will.
    pub(crate) fn stdin(&self, chunk: Vec<u8>) -> bool {
        // Full only if the server ignored its window; gone only if the other side closed it.
        let input = self.input();
        { input.as_ref() }.is_some_and(|stdin| stdin.try_send(chunk).is_ok())
    }

    pub(crate) fn stdin_end(&self) {
        self.input().take();
    }

    /// Whether there was no room before.
    pub(crate) fn ack(&self, stream: Stream) -> bool {
        self.window(stream).give()
    }

    pub(crate) fn room(&self, stream: Stream) -> Room {
        match *self.window(stream).lock() {
            Credit::Left(0) => Room::None,
            Credit::Left(_) | Credit::Discard => Room::Some,
        }
    }

    /// No more of it goes to the server.
    pub(crate) fn discard(&self) {
        self.stdin_end();
        self.stdout.discard();
        self.stderr.discard();
    }

    /// Whether that was the last part.
    pub(crate) fn part_ended(&self) -> bool {
        self.open.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Sends a chunk when there is room; drops it when nobody wants it.
    pub(crate) fn send(&self, sender: &Sender, id: Id, stream: Stream, chunk: &[u8]) {
        if self.window(stream).take() {
            sender.send(&FromHand::Chunk { id, stream }, chunk);
        }
    }

    /// Carries `from` to its end, which the caller says; each piece is `seen` before.
    pub(crate) fn pump(
        &self,
        sender: &Sender,
        id: Id,
        stream: Stream,
        mut from: impl Read,
        seen: impl Fn(&[u8]),
    ) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => break Ok(()),
                Ok(n) => {
                    seen(&chunk[..n]);
                    self.send(sender, id, stream, &chunk[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        }
    }

    fn input(&self) -> std::sync::MutexGuard<'_, Option<SyncSender<Vec<u8>>>> {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn window(&self, stream: Stream) -> &Window {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
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
        let mut state = self.lock();
        loop {
            match *state {
                Credit::Left(0) => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Credit::Left(n) => {
                    *state = Credit::Left(n - 1);
                    return true;
                }
                Credit::Discard => return false,
            }
        }
    }

    /// Whether there was none.
    fn give(&self) -> bool {
        let mut state = self.lock();
        let before = *state;
        if let Credit::Left(n) = before {
            *state = Credit::Left((n + 1).min(WINDOW_CHUNKS));
        }
        self.changed.notify_one();
        before == Credit::Left(0)
    }

    fn discard(&self) {
        *self.lock() = Credit::Discard;
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Credit> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries what comes in to `stdin`, and `last` behind it when nothing more comes.
pub(crate) fn feed(
    sender: &Sender,
    id: Id,
    mut stdin: impl Write,
    chunks: &Receiver<Vec<u8>>,
    last: &[u8],
) {
    let mut closed = false;
    while let Ok(chunk) = chunks.recv() {
        closed = closed || stdin.write_all(&chunk).is_err();
        sender.send(&FromHand::StdinAck { id }, &[]);
    }
    if !closed && !last.is_empty() {
        // Whoever does not take it has gone.
        let _ = stdin.write_all(last);
    }
}

/// Says how it ended.
pub(crate) fn exited(sender: &Sender, id: Id, exit: Exit, timed_out: bool) {
    sender.send(&ended_as(id, exit, timed_out), &[]);
}

pub(crate) fn ended_as(id: Id, exit: Exit, timed_out: bool) -> FromHand {
    let Exit { code, signal } = exit;
    FromHand::Exited {
        id,
        code,
        signal,
        timed_out,
    }
}

/// A thread that only copies.
pub(crate) fn named(name: &str) -> thread::Builder {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
}
