//! What a batch of writes has told to the rest of the process once its commit is durable, and never before.

use std::sync::atomic::Ordering;

use contract::ids::SessionId;
use tokio::sync::oneshot;

use super::fault::Trouble;
use super::sums::Sum;
use crate::feed::{Changed, Item};
use crate::store::Shared;

/// What is told to the rest of the process once the commit is durable.
pub(crate) enum Note {
    /// Something appears on the session's streams.
    Items(SessionId, Vec<Item>),
    /// The session is gone.
    End(SessionId),
    /// A run became due.
    Wake,
    /// The session's runner must hear what has changed: an interrupt, or a turn that a client opened beside its own.
    Stop(SessionId),
    /// What a session is made of was updated.
    Updated(SessionId),
    /// A deleted session left events to sweep.
    Trash,
    /// A key or a workspace changed: none is remembered.
    Keys,
    /// Something that sessions are made from changed: none of it is remembered.
    Grounds,
    /// A secret was replaced or removed: the log that still has it is emptied soon.
    Wiped,
}

/// What the writes of one transaction have said and counted so far.
#[derive(Default)]
pub(crate) struct Talk {
    notes: Vec<Note>,
    /// Bytes of events written.
    pub(crate) bytes: usize,
    /// Events written.
    pub(crate) events: u64,
    /// What is added to shared rows at the end.
    sums: Vec<Sum>,
}

/// How much was said and counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    notes: usize,
    bytes: usize,
    events: u64,
    sums: usize,
}

impl Talk {
    /// Has `note` told after the commit.
    pub(crate) fn tell(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// What was said and counted so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            notes: self.notes.len(),
            bytes: self.bytes,
            events: self.events,
            sums: self.sums.len(),
        }
    }

    /// Has `sum` added to its row just before the commit.
    pub(crate) fn add(&mut self, sum: Sum) {
        self.sums.push(sum);
    }

    /// What is to be added to shared rows so far.
    pub(crate) fn sums(&self) -> &[Sum] {
        &self.sums
    }

    /// Forgets what was said and counted since.
    pub(crate) fn untell(&mut self, tally: Tally) {
        self.notes.truncate(tally.notes);
        self.sums.truncate(tally.sums);
        (self.bytes, self.events) = (tally.bytes, tally.events);
    }

    /// What was said so far, in order.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What was said, in order.
    pub(crate) fn into_notes(self) -> Vec<Note> {
        self.notes
    }
}

/// What is left to the writer after its notes were told.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Chores {
    /// A deleted session left events to sweep.
    pub(crate) trash: bool,
    /// A secret was replaced or removed.
    pub(crate) wiped: bool,
}

impl Shared {
    /// Tells what was committed to everyone in this process whom it concerns.
    pub(crate) fn publish(&self, notes: Vec<Note>) -> Chores {
        let (mut chores, mut wake) = (Chores::default(), false);
        for note in notes {
            match note {
                Note::Items(session, items) => self.feed.publish(session, &items, &self.counters),
                Note::End(session) => {
                    self.feed.end(session);
                    self.signals.deleted();
                }
                Note::Wake => wake = true,
                Note::Stop(session) => self.signals.stop(session),
                Note::Updated(session) => self.feed.changed(Changed::Session(session)),
                Note::Trash => chores.trash = true,
                Note::Keys => self.keys.forget(),
                Note::Grounds => self.grounds.forget(),
                Note::Wiped => chores.wiped = true,
            }
        }
        if wake {
            self.signals.wake.notify_one();
        }
        chores
    }

    /// Counts one transaction of `jobs` writes, of which `kept` stand.
    pub(crate) fn count(&self, jobs: u64, kept: u64, events: u64) {
        let counters = &self.counters;
        if kept > 0 {
            counters.commits.fetch_add(1, Ordering::Relaxed);
            counters.max_batch.fetch_max(kept, Ordering::Relaxed);
        }
        counters.jobs.fetch_add(kept, Ordering::Relaxed);
        counters.refused.fetch_add(jobs - kept, Ordering::Relaxed);
        counters.events.fetch_add(events, Ordering::Relaxed);
    }
}

/// Answers the caller of a write: what it did, and the number of the commit or why there was none. A caller that
/// is gone loses nothing but the answer: what it wrote stands.
pub(crate) fn answer<T, E: From<Trouble>>(
    done: Option<Result<T, E>>,
    commit: Result<u64, &str>,
    reply: oneshot::Sender<Result<(T, u64), E>>,
) {
    let answer = match (done, commit) {
        (Some(Err(error)), _) => Err(error),
        (Some(Ok(done)), Ok(commit)) => Ok((done, commit)),
        (_, Err(why)) => Err(Trouble::Unavailable(why.into()).into()),
        (None, Ok(_)) => Err(Trouble::closed().into()),
    };
    let _ = reply.send(answer);
}

/// What a write said that panicked.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a write panicked".to_owned())
}
