//! Owns threads that do one thing after another. Nobody waits for the kernel to make one, as a rule, and some
//! stand ready when no more can be made, because what runs in the sandbox has taken all that there are. It
//! knows nothing of what they do.

use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::limits::{WORKERS_RESERVED, WORKERS_WAITING};

/// How long one that is not reserved waits before it ends.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long those that have just been given work may take to come back before others are made in their place.
const COME_BACK: Duration = Duration::from_millis(20);
/// Stack of one: it may go down a tree of directories. Only what is used of it is memory.
const STACK: usize = 1024 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// What one that waits is told.
enum Word {
    Work(Job),
    /// Fewer than are to wait do: look whether they come back, and otherwise make others in their place.
    Fewer,
}

/// One that waits: where it hears that.
type Waiting = Arc<SyncSender<Word>>;

static IDLE: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

/// Makes those that are reserved, so that they are there before anything else runs in the sandbox.
///
/// # Errors
/// `WouldBlock` when the kernel makes no thread.
pub(crate) fn reserve() -> io::Result<()> {
    (0..WORKERS_RESERVED).try_for_each(|_| start(None))
}

/// Makes as many as there are fewer than are to wait, so that nobody who has work for one waits for the kernel. Not
/// at once: what a short program takes is given back, and each thread of each sandbox costs the host something
/// whenever it makes another sandbox.
fn fill() {
    let fewer = WORKERS_RESERVED.saturating_sub(idle().len());
    // If there is none to be had now, those that work come back.
    let _ = (0..fewer).try_for_each(|_| start(None));
}

/// Does it on a thread of its own, beside everything else.
///
/// # Errors
/// `WouldBlock` when none waits and the kernel makes no other.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (waiting, left, other) = {
        let mut idle = idle();
        (idle.pop(), idle.len(), idle.first().cloned())
    };
    let Some(worker) = waiting else {
        return start(Some(Box::new(job)));
    };
    // It ends only after it has taken itself off the list, so it is there, and what it has not heard yet it hears soon.
    worker
        .send(Word::Work(Box::new(job)))
        .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
    match other {
        // Full: it is about to look.
        Some(other) if left < WORKERS_RESERVED => drop(other.try_send(Word::Fewer)),
        Some(_) => {}
        // That was the last.
        None => fill(),
    }
    Ok(())
}

fn start(first: Option<Job>) -> io::Result<()> {
    let thread = thread::Builder::new().name("work".into()).stack_size(STACK);
    thread.spawn(move || work(first)).map(drop)
}

fn work(first: Option<Job>) {
    if let Some(job) = first {
        job();
    }
    let (next, words) = sync_channel(2);
    let next = Arc::new(next);
    while wait_in_line(&next)
        && let Some(job) = take(&words, &next)
    {
        job();
    }
}

/// Puts this thread on the list, unless enough are there.
fn wait_in_line(next: &Waiting) -> bool {
    let mut idle = idle();
    let room = idle.len() < WORKERS_WAITING;
    if room {
        idle.push(Arc::clone(next));
    }
    room
}

/// The next job; `None` when there was none for long, enough others wait, and nobody is about to give one.
fn take(words: &Receiver<Word>, next: &Waiting) -> Option<Job> {
    let mut patience = PATIENCE;
    loop {
        match words.recv_timeout(patience) {
            Ok(Word::Work(job)) => return Some(job),
            Ok(Word::Fewer) => {
                patience = COME_BACK;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if mem::replace(&mut patience, PATIENCE) == COME_BACK {
            fill();
        } else if is_over(next) {
            return None;
        }
    }
}

/// Takes one off the list that has waited for long, if enough others are there. One that is not on it is about to be
/// told what is to be done.
fn is_over(next: &Waiting) -> bool {
    let mut idle = idle();
    let place = idle.iter().position(|other| Arc::ptr_eq(other, next));
    let place = place.filter(|_| idle.len() > WORKERS_RESERVED);
    place.map(|place| idle.remove(place)).is_some()
}

fn idle() -> MutexGuard<'static, Vec<Waiting>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::time::Instant;

    use super::*;

    #[test]
    fn jobs_run_side_by_side_and_threads_are_used_again() {
        let (tx, ids) = sync_channel(1000);
        for _ in 0..20 {
            // Each round needs four at once.
            let barrier = Arc::new(Barrier::new(5));
            for _ in 0..4 {
                let (barrier, tx) = (Arc::clone(&barrier), tx.clone());
                run(move || {
                    tx.send(thread::current().id()).unwrap();
                    barrier.wait();
                })
                .unwrap();
            }
            barrier.wait();
            let deadline = Instant::now() + Duration::from_secs(10);
            while idle().len() < WORKERS_WAITING.min(4) {
                assert!(Instant::now() < deadline, "they do not come back");
                thread::yield_now();
            }
        }
        drop(tx);
        let (mut used, mut jobs) = (HashSet::new(), 0);
        for id in ids.iter() {
            used.insert(id);
            jobs += 1;
        }
        assert_eq!(jobs, 80);
        assert!(used.len() < 40, "{} threads", used.len());
    }
}
