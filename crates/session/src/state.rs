//! What a session is between two inputs: small, independent of the length of its history, stored as
//! one row. It holds no content: what was said stands in the log.
//!
//! The row is written with every input, so what has the value that a new session has is left out of it.

use contract::event::{CacheCreation, ModelUsage, SessionUsage};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

use crate::money::{Budget, Cost, ListCost};
use crate::outcome::Outcome;
pub(crate) use crate::thread::asked;
pub use crate::thread::{Advising, Call, CallKind, Effort, Phase, Rest, Stage, Thread, WaitsOn};

/// Counts how often the right to run a session was taken. A fact carries the generation it was made
/// under; a stale one is refused in the transaction that would have stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// The state of one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which session.
    pub session: SessionId,
    /// Its primary thread. What is true of one line of work stands there, what is true of all of them here.
    pub primary: Thread,
    /// The threads that the primary has begun and that have not ended, oldest first; at most
    /// [`crate::limits::THREADS`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub children: Vec<Thread>,
    /// Threads that were ever begun beside the primary, advisors included.
    #[serde(default, skip_serializing_if = "is_default")]
    pub begun: u32,
    /// Microseconds that threads ran which have ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ended_active: i64,
    /// The advisor that is being asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub advising: Option<Advising>,
    /// Archived: accepts nothing any more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub archived: bool,
    /// The current right to write.
    pub generation: Generation,
    /// The place of the next event in the log.
    pub next_seq: u64,
    /// `processed_at` of the last event, or the creation: the next one is later.
    pub last_at: Micros,
    /// Events in the inbox, of all threads.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waiting: u32,
    /// Bytes of their contents.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waiting_bytes: u64,
    /// What it may cost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Budget,
    /// What it has used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub totals: Totals,
    /// What it works towards: the outcome that has no final evaluation yet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outcome: Option<Outcome>,
    /// An outcome was defined and waits in the inbox.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outcome_waits: bool,
    /// Outcomes that were ever defined.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outcomes: u32,
}

/// Whether a field is left out of the row.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The status the contract shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for input.
    Idle,
    /// A turn is open.
    Running,
    /// A turn waits for its next try.
    Rescheduling,
    /// Archived or failed for good.
    Terminated,
}

/// What a session has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Tokens read that no cache held.
    #[serde(skip_serializing_if = "is_default")]
    pub input: u64,
    /// Tokens written.
    #[serde(skip_serializing_if = "is_default")]
    pub output: u64,
    /// Tokens read from caches.
    #[serde(skip_serializing_if = "is_default")]
    pub cache_read: u64,
    /// Tokens cached for five minutes.
    #[serde(skip_serializing_if = "is_default")]
    pub cache_5m: u64,
    /// Tokens cached for an hour.
    #[serde(skip_serializing_if = "is_default")]
    pub cache_1h: u64,
    /// The list price of the requests that had one.
    #[serde(skip_serializing_if = "is_default")]
    pub cost: Cost,
    /// Some request had a price.
    #[serde(skip_serializing_if = "is_default")]
    pub priced: bool,
    /// Some request had none: what all of them cost is not known.
    #[serde(skip_serializing_if = "is_default")]
    pub unpriced: bool,
    /// Microseconds of closed turns.
    #[serde(skip_serializing_if = "is_default")]
    pub active: i64,
    /// When the open turn began to run.
    #[serde(skip_serializing_if = "is_default")]
    pub running_since: Option<Micros>,
}

/// What one model request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Its tokens, as the span shows them.
    pub usage: ModelUsage,
    /// Of the cache creation, tokens kept for an hour.
    pub cache_1h: u64,
    /// Its list price; none if its model has none.
    pub cost: Option<Cost>,
}

impl Totals {
    pub(crate) fn add(&mut self, used: &Used) {
        let tokens = &used.usage;
        self.input += tokens.input_tokens;
        self.output += tokens.output_tokens;
        self.cache_read += tokens.cache_read_input_tokens;
        self.cache_1h += used.cache_1h;
        self.cache_5m += tokens
            .cache_creation_input_tokens
            .saturating_sub(used.cache_1h);
        match used.cost {
            Some(cost) => {
                self.cost = self.cost.plus(cost);
                self.priced = true;
            }
            // A request that never reached its model costs nothing at any price.
            None => self.unpriced |= *tokens != ModelUsage::default(),
        }
    }

    /// Starts or stops the clock of running time.
    pub(crate) fn run(&mut self, running: bool, now: Micros) {
        match (running, self.running_since) {
            (true, None) => self.running_since = Some(now),
            (false, Some(since)) => {
                self.active += (now.0 - since.0).max(0);
                self.running_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Counts running time up to `last_at`, and again from `now` on.
    pub(crate) fn restart(&mut self, last_at: Micros, now: Micros) {
        if let Some(since) = self.running_since {
            self.active += (last_at.0.min(now.0) - since.0).max(0);
            self.running_since = Some(now);
        }
    }

    fn active(&self, now: Micros) -> i64 {
        let open = self
            .running_since
            .map_or(0, |since| (now.0 - since.0).max(0));
        self.active + open
    }

    /// Seconds with a running thread, the open turn included.
    #[must_use]
    pub fn active_seconds(&self, now: Micros) -> f64 {
        Micros(self.active(now)).seconds_since(Micros(0))
    }

    /// What it costs at list prices, running time included.
    #[must_use]
    pub fn list_cost(&self, now: Micros) -> ListCost {
        ListCost::of(self.cost, self.active(now))
    }

    /// As the contract spells it.
    #[must_use]
    pub fn usage(&self, now: Micros) -> SessionUsage {
        let created = CacheCreation {
            ephemeral_5m_input_tokens: self.cache_5m,
            ephemeral_1h_input_tokens: self.cache_1h,
        };
        SessionUsage {
            active_seconds: self.active_seconds(now),
            cache_creation: (created != CacheCreation::default()).then_some(created),
            cache_read_input_tokens: self.cache_read,
            input_tokens: self.input,
            list_cost: (self.priced && !self.unpriced).then(|| self.list_cost(now).shown()),
            output_tokens: self.output,
            server_tool_use: None,
        }
    }
}

impl State {
    /// The status the contract shows: the fold of the threads. It is committed with, or before, the event
    /// that announces it.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.archived {
            return Status::Terminated;
        }
        let is = |status| self.threads().any(|thread| thread.status() == status);
        if is(Status::Running) {
            Status::Running
        } else if is(Status::Rescheduling) {
            Status::Rescheduling
        } else {
            Status::Idle
        }
    }

    /// The primary thread, then the others, oldest first.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        std::iter::once(&self.primary).chain(&self.children)
    }

    pub(crate) fn threads_mut(&mut self) -> impl Iterator<Item = &mut Thread> {
        std::iter::once(&mut self.primary).chain(&mut self.children)
    }

    /// Seconds that threads ran, each counted by itself, open turns included.
    #[must_use]
    pub fn threads_active_seconds(&self, now: Micros) -> f64 {
        let live = self.threads().map(|thread| thread.totals.active(now));
        Micros(self.ended_active + live.sum::<i64>()).seconds_since(Micros(0))
    }

    /// True while a turn is open: exactly then the session has a row among the runs.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.status(), Status::Running | Status::Rescheduling)
    }

    /// True while a runner holds the session.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.threads().any(Thread::is_in_flight)
    }

    /// When the open turns want a runner, at the earliest.
    #[must_use]
    pub fn due_at(&self, now: Micros) -> Micros {
        let due = self.threads().filter_map(|thread| thread.due_at(now));
        due.min().unwrap_or(now)
    }

    /// True once nothing more may be spent.
    #[must_use]
    pub fn is_spent(&self, now: Micros) -> bool {
        match self.budget {
            Budget::Limit { cents, .. } => {
                self.totals.unpriced || self.totals.list_cost(now).reaches(cents)
            }
            Budget::None | Budget::Removed => false,
        }
    }

    /// The events an idle session waits for, by thread, in the order of the calls.
    #[must_use]
    pub fn blocked_on(&self) -> Vec<EventId> {
        let blocked = self.threads().flat_map(|thread| match &thread.phase {
            Phase::Blocked { calls } => asked(calls),
            _ => Vec::new(),
        });
        blocked.collect()
    }

    /// The model request that is of the primary that is in flight, by its `span.model_request_start`.
    #[must_use]
    pub const fn asking(&self) -> Option<EventId> {
        match self.primary.phase {
            Phase::Requesting { span } | Phase::Compacting { span } => Some(span),
            _ => None,
        }
    }

    /// The thread of that id, if it has not ended.
    #[must_use]
    pub fn thread(&self, id: ThreadId) -> Option<&Thread> {
        self.threads().find(|thread| thread.id == id)
    }

    /// The thread that a call which is not done belongs to.
    #[must_use]
    pub fn owner(&self, call: EventId) -> Option<&Thread> {
        self.threads()
            .find(|thread| thread.calls().iter().any(|c| c.id == call))
    }
}

/// Names a turn wherever it leaves a trace: timeline, logs, audit. Distinct as far as session ids are.
#[must_use]
pub const fn trace(session: SessionId, turn: u64) -> u128 {
    // A session's id is never zero, and no turn reaches its upper half.
    session.bits() ^ turn as u128
}
