//! What a session is between two inputs: small, independent of the length of its history, stored as
//! one row. It holds no content: what was said stands in the log.

use contract::event::{CacheCreation, ModelUsage, SessionUsage};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

use crate::money::{Budget, Cost, ListCost};
use crate::outcome::{Outcome, OutcomeStage};
use crate::policy::ToolRules;

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
    #[serde(default)]
    pub children: Vec<Thread>,
    /// Threads that were ever begun beside the primary, advisors included.
    #[serde(default)]
    pub begun: u32,
    /// Microseconds that threads ran which have ended.
    #[serde(default)]
    pub ended_active: i64,
    /// The advisor that is being asked.
    #[serde(default)]
    pub advising: Option<Advising>,
    /// Archived: accepts nothing any more.
    pub archived: bool,
    /// The current right to write.
    pub generation: Generation,
    /// The place of the next event in the log.
    pub next_seq: u64,
    /// `processed_at` of the last event, or the creation: the next one is later.
    pub last_at: Micros,
    /// Events in the inbox, of all threads.
    pub waiting: u32,
    /// Bytes of their contents.
    pub waiting_bytes: u64,
    /// What it may cost.
    pub budget: Budget,
    /// What it has used.
    pub totals: Totals,
    /// What it works towards: the outcome that has no final evaluation yet.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// An outcome was defined and waits in the inbox.
    #[serde(default)]
    pub outcome_waits: bool,
    /// Outcomes that were ever defined.
    #[serde(default)]
    pub outcomes: u32,
}

/// One line of work: an agent with a transcript of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Which.
    pub id: ThreadId,
    /// The agent's name, repeated on every thread event.
    pub agent_name: String,
    /// Which tools there are and what each policy says.
    pub rules: ToolRules,
    /// Where the turn stands.
    pub phase: Phase,
    /// The place of the event that opened the last turn; it names the turn. 0: there was none.
    pub turn: u64,
    /// An interrupt waits in the inbox, or was placed while a runner was still at work here.
    pub interrupting: bool,
    /// Events of the inbox that are for this thread.
    #[serde(default)]
    pub waiting: u32,
    /// What it has used; its running time is its own.
    #[serde(default)]
    pub totals: Totals,
    /// What keeps the open turn from going on for ever.
    pub effort: Effort,
    /// The transcript has outgrown the model's comfort: it is compacted before the next request.
    pub crowded: bool,
    /// The last compaction's place in the log: the model is shown nothing before it. 0: everything.
    pub history_from: u64,
}

/// An advisor that is being asked: a thread that answers once and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advising {
    /// Its thread.
    pub thread: ThreadId,
    /// The call that asks it.
    pub call: EventId,
}

/// What the open turn has tried, so that nothing is tried for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Effort {
    /// Rounds of tool calls.
    pub rounds: u32,
    /// Times the turn was taken up after a loss, since its last progress.
    pub recoveries: u32,
    /// Model requests that failed in a row.
    pub failures: u32,
    /// When the first of them failed.
    pub failing_since: Option<Micros>,
    /// Compactions in a row without a word from the model.
    pub compactions: u32,
}

/// Where the turn of a thread stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum Phase {
    /// No turn is open.
    Idle,
    /// The turn waits for answers that the client owes.
    Blocked {
        /// The calls of the reply that are not done.
        calls: Vec<Call>,
    },
    /// The budget ran out in the middle of the turn; the next step would be a model request.
    Paused,
    /// A turn is open; the next step is a model request that has not begun.
    Due,
    /// A model request is in flight.
    Requesting {
        /// Its `span.model_request_start`.
        span: EventId,
    },
    /// A model request that condenses the transcript is in flight.
    Compacting {
        /// Its `span.model_request_start`.
        span: EventId,
    },
    /// A grader is at work on the open outcome.
    Grading {
        /// Its `span.outcome_evaluation_start`.
        start: EventId,
    },
    /// Calls of one reply are being worked off, in order.
    Acting {
        /// The calls of the reply, done ones included.
        calls: Vec<Call>,
    },
    /// A model request failed and is tried again.
    Retrying {
        /// Not before.
        due_at: Micros,
    },
}

impl Phase {
    /// Its name, for messages and for the state table of `docs/session.md`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Blocked { .. } => "blocked",
            Self::Paused => "paused",
            Self::Due => "due",
            Self::Requesting { .. } => "requesting",
            Self::Compacting { .. } => "compacting",
            Self::Grading { .. } => "grading",
            Self::Acting { .. } => "acting",
            Self::Retrying { .. } => "retrying",
        }
    }
}

/// One tool call of the current reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its tool-use event.
    pub id: EventId,
    /// The place of that event in the log.
    pub seq: u64,
    /// The tool, as the model wrote it.
    pub name: String,
    /// Who runs it.
    pub kind: CallKind,
    /// How far it is.
    pub stage: Stage,
}

/// Who runs a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    /// The sandbox.
    Sandbox,
    /// The client.
    Custom,
    /// The session itself: a call of a coordinator about its threads.
    Team,
    /// Another model. No event shows the call; its advice does.
    Advisor,
}

impl CallKind {
    /// Whether a call that was lost with its runner may begin again: nothing of it exists before its result.
    pub(crate) const fn is_repeatable(self) -> bool {
        matches!(self, Self::Team | Self::Advisor)
    }
}

/// How far a call is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The client owes its result or its confirmation.
    Asked,
    /// It may run, and nobody has started it.
    Ready,
    /// The client said no; the model is not told yet.
    Denied {
        /// The client's words.
        message: Option<String>,
    },
    /// Recorded as started: from here on its effects may exist.
    Started,
    /// Its result stands in the log.
    Done,
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
pub struct Totals {
    /// Tokens read that no cache held.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Tokens read from caches.
    pub cache_read: u64,
    /// Tokens cached for five minutes.
    pub cache_5m: u64,
    /// Tokens cached for an hour.
    pub cache_1h: u64,
    /// The list price of the requests that had one.
    pub cost: Cost,
    /// Some request had a price.
    pub priced: bool,
    /// Some request had none: what all of them cost is not known.
    pub unpriced: bool,
    /// Microseconds of closed turns.
    pub active: i64,
    /// When the open turn began to run.
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

impl Thread {
    /// The calls of the current reply that are not all done.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        match &self.phase {
            Phase::Blocked { calls } | Phase::Acting { calls } => calls,
            Phase::Idle
            | Phase::Paused
            | Phase::Due
            | Phase::Requesting { .. }
            | Phase::Compacting { .. }
            | Phase::Grading { .. }
            | Phase::Retrying { .. } => &[],
        }
    }

    pub(crate) fn calls_mut(&mut self) -> &mut [Call] {
        match &mut self.phase {
            Phase::Blocked { calls } | Phase::Acting { calls } => calls,
            Phase::Idle
            | Phase::Paused
            | Phase::Due
            | Phase::Requesting { .. }
            | Phase::Compacting { .. }
            | Phase::Grading { .. }
            | Phase::Retrying { .. } => &mut [],
        }
    }

    /// The call that runs.
    #[must_use]
    pub fn started(&self) -> Option<&Call> {
        self.calls().iter().find(|c| c.stage == Stage::Started)
    }

    /// True while its runner has something to do that it has not reported. Exactly while some thread is in
    /// flight a runner holds the session.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        match &self.phase {
            Phase::Requesting { .. } | Phase::Compacting { .. } | Phase::Grading { .. } => true,
            Phase::Acting { .. } => self.started().is_some(),
            Phase::Idle
            | Phase::Blocked { .. }
            | Phase::Paused
            | Phase::Due
            | Phase::Retrying { .. } => false,
        }
    }

    /// True while a turn is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.status(), Status::Running | Status::Rescheduling)
    }

    /// From when on it can be taken up, if a turn is open and nobody works on it: `now`, or after a pause
    /// between two tries.
    #[must_use]
    pub fn due_at(&self, now: Micros) -> Option<Micros> {
        match self.phase {
            Phase::Retrying { due_at } => Some(due_at),
            _ if self.is_open() && !self.is_in_flight() => Some(now),
            _ => None,
        }
    }

    /// Its status, were it alone.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.phase {
            Phase::Idle | Phase::Blocked { .. } | Phase::Paused => Status::Idle,
            Phase::Due
            | Phase::Requesting { .. }
            | Phase::Compacting { .. }
            | Phase::Grading { .. }
            | Phase::Acting { .. } => Status::Running,
            Phase::Retrying { .. } => Status::Rescheduling,
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

    /// Panics if the state contradicts itself: storing it would corrupt the session.
    pub fn check(&self) {
        for thread in self.threads() {
            self.check_thread(thread);
        }
        self.check_team();
        self.check_outcome();
        assert_eq!(
            self.status() == Status::Running,
            self.totals.running_since.is_some(),
            "the clock of running time is not in step with the status"
        );
    }

    fn check_thread(&self, thread: &Thread) {
        let capped = matches!(self.budget, Budget::Limit { .. });
        let started = thread.calls().iter().filter(|c| c.stage == Stage::Started);
        assert!(started.count() <= 1, "two calls of one thread run at once");
        assert!(
            !self.archived || !thread.is_open(),
            "an archived session has an open turn"
        );
        match &thread.phase {
            Phase::Idle => assert!(
                thread.waiting == 0 || capped || thread.interrupting || self.is_open(),
                "an idle session leaves input waiting"
            ),
            Phase::Blocked { calls } => {
                assert!(
                    !asked(calls).is_empty() || thread.interrupting,
                    "a session waits for no answer"
                );
                assert!(
                    thread.interrupting
                        || calls.iter().all(|c| matches!(
                            c.stage,
                            Stage::Asked | Stage::Ready | Stage::Denied { .. }
                        )),
                    "a session that waits holds a call that runs or is done"
                );
            }
            Phase::Paused => assert!(capped, "paused without a budget"),
            _ => {}
        }
        assert!(
            thread.status() != Status::Idle || !thread.interrupting || self.is_in_flight(),
            "an idle session leaves an interrupt waiting"
        );
        assert_eq!(
            thread.status() == Status::Running,
            thread.totals.running_since.is_some(),
            "the clock of a thread is not in step with its status"
        );
    }

    /// What holds between threads.
    fn check_team(&self) {
        assert!(
            self.children.len() <= crate::limits::THREADS,
            "more threads than there may be"
        );
        let mut seen = std::collections::BTreeSet::new();
        assert!(
            self.threads().all(|thread| seen.insert(thread.id)),
            "two threads have one id"
        );
        let waiting = self.threads().map(|thread| thread.waiting).sum::<u32>();
        assert_eq!(
            self.waiting, waiting,
            "what waits is not what waits for the threads"
        );
        let asks = |call: &Call| call.kind == CallKind::Advisor && call.stage == Stage::Started;
        let asking = self.primary.calls().iter().find(|c| asks(c));
        assert_eq!(
            asking.map(|c| c.id),
            self.advising.map(|a| a.call),
            "the advisor is asked by nobody, or the question by none"
        );
        let own = |call: &Call| !call.kind.is_repeatable();
        let children = &mut self.children.iter();
        assert!(
            children.all(|t| t.calls().iter().all(own)),
            "a thread other than the primary leads others"
        );
    }
}

impl State {
    fn check_outcome(&self) {
        let phase = &self.primary.phase;
        assert!(
            !self.outcome_waits || self.waiting > 0,
            "an outcome waits in an empty inbox"
        );
        let Some(outcome) = &self.outcome else {
            assert!(!matches!(phase, Phase::Grading { .. }), "nothing is graded");
            return;
        };
        // Its agent may rest while its threads work, or while the budget keeps their answers from it.
        let delegated =
            self.primary.waiting > 0 || self.children.iter().any(|t| t.phase != Phase::Idle);
        assert!(
            (*phase != Phase::Idle || delegated) && !self.archived,
            "an idle session leaves an outcome without its evaluation"
        );
        assert!(
            outcome.iteration < outcome.max_iterations,
            "an outcome has had more iterations than it may"
        );
        let fits = match (phase, &outcome.stage) {
            (Phase::Grading { start }, OutcomeStage::Grading { start: open, .. }) => start == open,
            (Phase::Due | Phase::Retrying { .. } | Phase::Paused, _) => true,
            (Phase::Grading { .. }, _) => false,
            (_, stage) => *stage == OutcomeStage::Working,
        };
        assert!(fits, "phase and outcome contradict one another");
    }
}

/// Names a turn wherever it leaves a trace: timeline, logs, audit. Distinct as far as session ids are.
#[must_use]
pub const fn trace(session: SessionId, turn: u64) -> u128 {
    // A session's id is never zero, and no turn reaches its upper half.
    session.bits() ^ turn as u128
}

/// The calls that wait for the client.
pub(crate) fn asked(calls: &[Call]) -> Vec<EventId> {
    let asked = calls.iter().filter(|c| c.stage == Stage::Asked);
    asked.map(|c| c.id).collect()
}
