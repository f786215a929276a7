//! Owns the thread that carries what all programs print to who asked for it, and tells how they ended. It starts and
//! ends none of them.
//!
//! One thread for all: a program that only waits has none of its own, which the host would count and a pause would have
//! to stop, and what is left to say of a short one goes in one piece.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::super::piped::{Room, Table, ended_as, named};
use super::super::reaper::{Exit, Reaper};
use super::super::{Sender, terminal};
use super::Process;
use crate::limits::CHUNK_BYTES;
use crate::wire::{FromHand, Id, Stream, head};

/// How long the thread waits for another program before it ends.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a stream waits for that of the program, so that both are said at once.
const TOGETHER: Duration = Duration::from_micros(500);

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Courier(Arc<Shared>);

struct Shared {
    reaper: Reaper,
    inbox: Mutex<Inbox>,
    /// Readable when the thread is to look what is new.
    wake: OwnedFd,
}

#[derive(Default)]
struct Inbox {
    new: Vec<Load>,
    /// Whether the thread is there.
    runs: bool,
    /// How often somebody was about to have something carried.
    asked: u64,
}

/// What is carried of one program.
pub(super) struct Load {
    pub(super) id: Id,
    pub(super) sender: Sender,
    pub(super) table: Table<Process>,
    pub(super) process: Arc<Process>,
    pub(super) stdout: Option<OwnedFd>,
    /// None where all it prints comes on one.
    pub(super) stderr: Option<OwnedFd>,
    /// Readable when nothing more than what is there comes on the first, where that does not end by itself.
    pub(super) shown: Option<OwnedFd>,
    /// How it ends, unless somebody else tells that.
    pub(super) end: Option<End>,
    /// What is to be said of it soon.
    pub(super) words: Words,
}

pub(super) struct End {
    /// Readable when it has ended.
    pub(super) ended: OwnedFd,
    pub(super) exit: Receiver<Exit>,
}

/// Frames without a body, one behind the other.
#[derive(Default)]
pub(super) struct Words {
    frames: Vec<u8>,
    since: Option<Instant>,
}

/// What there is to be seen to of a load.
#[derive(Clone, Copy)]
enum Part {
    Stream(Stream),
    /// What is left on its terminal.
    Rest,
    End,
}

impl Courier {
    pub(crate) fn new(reaper: Reaper) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let inbox = Mutex::default();
        let shared = Shared {
            reaper,
            inbox,
            wake,
        };
        Ok(Self(Arc::new(shared)))
    }

    /// There is about to be something to carry.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel makes no thread.
    pub(crate) fn begin(&self) -> io::Result<()> {
        self.with_thread(&mut self.0.inbox())
    }

    /// Carries it from now on.
    ///
    /// # Errors
    /// As [`Courier::begin`].
    pub(super) fn carry(&self, mut load: Load) -> io::Result<()> {
        if load.stderr.is_none() {
            load.is_over(Stream::Stderr);
        }
        let mut inbox = self.0.inbox();
        self.with_thread(&mut inbox)?;
        inbox.new.push(load);
        drop(inbox);
        self.wake();
        Ok(())
    }

    /// Has it look at everything again.
    pub(super) fn wake(&self) {
        // The counter can only be full when it is readable already.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    fn with_thread(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.asked += 1;
        if !inbox.runs {
            let shared = Arc::clone(&self.0);
            named("courier").spawn(move || shared.carry_all())?;
            inbox.runs = true;
        }
        Ok(())
    }
}

impl Shared {
    fn carry_all(&self) {
        let mut loads = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut asked = 0;
        loop {
            let (ready, timed_out) = self.ready(&loads);
            for (at, part) in ready {
                loads[at].see_to(part, &mut chunk, &self.reaper);
            }
            loads.retain_mut(Load::goes_on);
            let mut inbox = self.inbox();
            loads.append(&mut inbox.new);
            let is_wanted = mem::replace(&mut asked, inbox.asked) != inbox.asked;
            if loads.is_empty() && timed_out && !is_wanted {
                inbox.runs = false;
                return;
            }
        }
    }

    /// Waits until there is something to be seen to, by load, or it is time to look; whether it is that.
    fn ready(&self, loads: &[Load]) -> (Vec<(usize, Part)>, bool) {
        let mut parts = Vec::new();
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        for (at, load) in loads.iter().enumerate() {
            for (part, fd) in load.open() {
                parts.push((at, part));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        let wait = match loads {
            [] => Some(PATIENCE),
            loads => loads.iter().filter_map(Load::hurry).min(),
        };
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        // Interrupted: nothing is ready, and it is asked again.
        let timed_out = poll(&mut fds, wait.as_ref()) == Ok(0);
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        let seen = fds[1..].iter().zip(parts);
        let ready = seen.filter(|(fd, _)| !fd.revents().is_empty());
        (ready.map(|(_, part)| part).collect(), timed_out)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// What may have something to be seen to: not a stream that nobody takes a chunk of now.
    fn open(&self) -> impl Iterator<Item = (Part, &OwnedFd)> {
        let streams = [
            (Stream::Stdout, &self.stdout),
            (Stream::Stderr, &self.stderr),
        ];
        let streams = streams.into_iter().filter_map(move |(stream, fd)| {
            let fd = fd.as_ref()?;
            (self.process.piped.room(stream) != Room::None).then_some((Part::Stream(stream), fd))
        });
        let has_room = self.process.piped.room(Stream::Stdout) != Room::None;
        let shown = self.shown.iter().filter(move |_| has_room);
        let rest = shown.map(|fd| (Part::Rest, fd));
        let end = self.end.iter().map(|end| (Part::End, &end.ended));
        streams.chain(rest).chain(end)
    }

    /// How long what is to be said can wait.
    fn hurry(&self) -> Option<Duration> {
        let since = self.words.since?;
        Some(TOGETHER.saturating_sub(since.elapsed()))
    }

    fn see_to(&mut self, part: Part, chunk: &mut [u8], reaper: &Reaper) {
        match part {
            Part::Stream(stream) => self.read(stream, chunk),
            Part::Rest => self.rest(),
            Part::End => self.end(reaper),
        }
    }

    /// Carries one piece.
    fn read(&mut self, stream: Stream, chunk: &mut [u8]) {
        let from = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        let Some(from) = from else { return };
        match rustix::io::read(from, &mut *chunk) {
            Ok(n @ 1..) => {
                if let Some((_, one)) = &self.process.kept {
                    one.printed(stream, &chunk[..n]);
                }
                let piped = &self.process.piped;
                piped.send(&self.sender, self.id, stream, &chunk[..n]);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The end of a terminal is an error to who reads it.
            Ok(_) | Err(_) => self.is_over(stream),
        }
    }

    /// Its terminal is over when nothing is left on it; what is, is read first.
    fn rest(&mut self) {
        if { self.stdout.as_ref() }.is_some_and(|terminal| !terminal::has_more(terminal)) {
            self.is_over(Stream::Stdout);
        }
    }

    /// It has ended.
    fn end(&mut self, reaper: &Reaper) {
        // Whoever does that, what came of it is known afterwards.
        reaper.take_ended();
        let exit = { self.end.as_ref() }.and_then(|end| end.exit.try_recv().ok());
        let exit = exit.unwrap_or(Exit::UNKNOWN);
        self.process.reaped.store(true, Ordering::SeqCst);
        if let Some((_, one)) = &self.process.kept {
            one.ended(exit, false);
        }
        self.part_ended();
        self.end = None;
        self.words.add(&ended_as(self.id, exit, false));
    }

    /// Before it is said: whoever lets go of a process that has ended must not meet it here, and end with it what it left
    /// running.
    fn part_ended(&self) {
        self.process.part_ended(self.id, &self.table);
    }

    fn is_over(&mut self, stream: Stream) {
        self.part_ended();
        match stream {
            Stream::Stdout => (self.stdout, self.shown) = (None, None),
            Stream::Stderr => self.stderr = None,
        }
        let id = self.id;
        self.words.add(&FromHand::End { id, stream });
    }

    /// Says what is to be said now; whether there is more to come.
    fn goes_on(&mut self) -> bool {
        let is_over = self.stdout.is_none() && self.stderr.is_none() && self.end.is_none();
        if is_over || self.hurry().is_some_and(|left| left.is_zero()) {
            self.sender.say(&mem::take(&mut self.words).frames);
        }
        !is_over
    }
}

impl Words {
    fn add(&mut self, word: &FromHand) {
        // One without a body is never over the limit.
        if let Ok(frame) = head(word, 0) {
            self.frames.extend(frame);
            self.since.get_or_insert_with(Instant::now);
        }
    }
}
