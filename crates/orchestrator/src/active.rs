//! The handle on a session that this server runs now: under which generation it is held, how each of its threads is
//! told that what it has in flight must end, and why.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::ids::ThreadId;
use session::{Generation, State, Thread};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The handle on a running session.
#[derive(Clone)]
pub(crate) struct Active {
    /// Cancelled when all that is in flight must end.
    cancel: CancellationToken,
    /// Cancelled when somebody else holds the session.
    lost: CancellationToken,
    /// The generation it was claimed under; 0 before that, which no claim makes.
    generation: Arc<AtomicU64>,
    threads: Arc<Mutex<Threads>>,
    /// A client opened a turn beside those that run.
    news: Arc<Notify>,
    /// Cancelled, and made anew, when what programs in the sandbox have asked the model must end.
    inside: Arc<Mutex<CancellationToken>>,
}

/// What is known of the threads that run.
#[derive(Default)]
struct Threads {
    running: HashMap<ThreadId, Working>,
    /// The turn of a thread that an interrupt is for, also if it is not known here yet.
    interrupted: HashMap<ThreadId, u64>,
}

/// The handle on one thread's run.
#[derive(Clone)]
pub(crate) struct Working {
    /// Cancelled when what is in flight must end.
    pub(crate) cancel: CancellationToken,
    interrupted: Arc<AtomicBool>,
    turn: u64,
}

impl Working {
    fn interrupt(&self) {
        // The flag stands before anyone can see the cancellation.
        self.interrupted.store(true, Ordering::Release);
        self.cancel.cancel();
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }
}

impl Active {
    pub(crate) fn new(stopping: &CancellationToken) -> Self {
        let cancel = stopping.child_token();
        Self {
            inside: Arc::new(Mutex::new(cancel.child_token())),
            cancel,
            lost: CancellationToken::new(),
            generation: Arc::default(),
            threads: Arc::default(),
            news: Arc::default(),
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        // The maps are whole between any two statements: a panic elsewhere does not spoil them.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was claimed: its lease is renewed from now on.
    pub(crate) fn hold(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Release);
    }

    /// What it was claimed under.
    pub(crate) fn held(&self) -> Option<Generation> {
        let generation = self.generation.load(Ordering::Acquire);
        (generation != 0).then_some(Generation(generation))
    }

    /// A thread begins to work on a step, as the session stood when the step was given out.
    pub(crate) fn work(&self, thread: &Thread) -> Working {
        let working = Working {
            cancel: self.cancel.child_token(),
            interrupted: Arc::default(),
            turn: thread.turn,
        };
        let mut threads = self.threads();
        let told = threads.interrupted.remove(&thread.id);
        if thread.interrupting || told == Some(thread.turn) {
            working.interrupt();
        }
        threads.running.insert(thread.id, working.clone());
        working
    }

    /// Somebody changed the session beside its runner: interrupts reach the threads that they are for, and turns that
    /// were opened are taken up. An interrupt names its turn, so that none reaches the next.
    pub(crate) fn hear(&self, state: &State) {
        let mut threads = self.threads();
        for thread in state.threads().filter(|thread| thread.interrupting) {
            match threads.running.get(&thread.id) {
                Some(working) if working.turn == thread.turn => working.interrupt(),
                Some(_) | None => {
                    threads.interrupted.insert(thread.id, thread.turn);
                }
            }
        }
        if state.threads().any(|thread| thread.interrupting) {
            self.cut_inside();
        }
        if state.threads().any(|t| t.is_open() && !t.is_in_flight()) {
            self.news.notify_one();
        }
    }

    /// Cancelled when what a program in the sandbox asks the model from now on must end. Whose program it is cannot be
    /// said: an interrupt of any thread ends what all of them have asked.
    pub(crate) fn inside(&self) -> CancellationToken {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.child_token()
    }

    /// Ends what programs in the sandbox have asked the model by now.
    pub(crate) fn cut_inside(&self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *inside, self.cancel.child_token()).cancel();
    }

    /// Waits until somebody has opened a turn beside those that run. Cancel safe.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Somebody else holds the session: whatever this run has in flight ends, and nothing comes of it.
    pub(crate) fn lose(&self) {
        // It stands before anyone can see the cancellation.
        self.lost.cancel();
        self.cancel.cancel();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until it is lost. Cancel safe.
    pub(crate) async fn until_lost(&self) {
        self.lost.cancelled().await;
    }
}
