//! What a session is between two inputs: small, independent of the length of its history, stored as
//! one row. It holds no content: what was said stands in the log.

use contract::event::{CacheCreation, ModelUsage, SessionUsage, StopReason};
use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

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
    /// Its primary thread.
    pub thread: ThreadId,
    /// The agent's name, repeated on every thread event.
    pub agent_name: String,
    /// Which tools there are and what each policy says.
    pub rules: ToolRules,
    /// Where the turn stands.
    pub phase: Phase,
    /// Archived: accepts nothing any more.
    pub archived: bool,
    /// The current right to write.
    pub generation: Generation,
    /// The place of the next event in the log.
    pub next_seq: u64,
    /// `processed_at` of the last event, or the creation: the next one is later.
    pub last_at: Micros,
    /// User events in the inbox.
    pub waiting: u32,
    /// An interrupt waits in the inbox.
    pub interrupting: bool,
    /// Rounds of tool calls in the open turn.
    pub rounds: u32,
    /// Times the open turn was taken up after a loss, since its last progress.
    pub recoveries: u32,
    /// What the session has used.
    pub totals: Totals,
}

/// Where the turn stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub enum Phase {
    /// No turn is open. `blocked` are the calls whose answers the client owes.
    Idle {
        /// Calls that wait for the client; empty unless the last stop was `requires_action`.
        blocked: Vec<Call>,
    },
    /// A turn is open; the next step is a model request that has not begun.
    Due,
    /// A model request is in flight.
    Requesting {
        /// Its `span.model_request_start`.
        span: EventId,
    },
    /// Calls of one reply are being worked off, in order.
    Acting {
        /// The calls of the reply, done ones included.
        calls: Vec<Call>,
    },
}

/// One tool call of the current reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its tool-use event.
    pub id: EventId,
    /// The place of that event in the log.
    pub seq: u64,
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
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nobody has started it (or, for a custom call, answered it).
    Waiting,
    /// Recorded as started: from here on its effects may exist.
    Started,
    /// Its result stands in the log.
    Done,
}

/// The status the contract shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Microseconds of closed turns.
    pub active: i64,
    /// When the open turn began.
    pub running_since: Option<Micros>,
}

impl Totals {
    pub(crate) fn add(&mut self, used: &ModelUsage, cache_1h: u64) {
        self.input += used.input_tokens;
        self.output += used.output_tokens;
        self.cache_read += used.cache_read_input_tokens;
        self.cache_1h += cache_1h;
        self.cache_5m += used.cache_creation_input_tokens.saturating_sub(cache_1h);
    }

    /// Seconds with a running thread, the open turn included.
    #[must_use]
    pub fn active_seconds(&self, now: Micros) -> f64 {
        let open = self
            .running_since
            .map_or(0, |since| (now.0 - since.0).max(0));
        Micros(self.active + open).seconds_since(Micros(0))
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
            output_tokens: self.output,
        }
    }
}

impl State {
    /// The status the contract shows. It is committed with, or before, the event that announces it.
    #[must_use]
    pub const fn status(&self) -> Status {
        match (&self.phase, self.archived) {
            (_, true) => Status::Terminated,
            (Phase::Idle { .. }, false) => Status::Idle,
            (Phase::Due | Phase::Requesting { .. } | Phase::Acting { .. }, false) => {
                Status::Running
            }
        }
    }

    /// True while a turn is open: exactly then the session has a row among the runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.status(), Status::Running)
    }

    /// The events an idle session waits for, in the order of the calls.
    #[must_use]
    pub fn blocked_on(&self) -> Vec<EventId> {
        match &self.phase {
            Phase::Idle { blocked } => blocked
                .iter()
                .filter(|c| c.stage == Stage::Waiting)
                .map(|c| c.id)
                .collect(),
            Phase::Due | Phase::Requesting { .. } | Phase::Acting { .. } => Vec::new(),
        }
    }

    /// Panics if the state contradicts itself: storing it would corrupt the session.
    pub fn check(&self) {
        match &self.phase {
            Phase::Idle { blocked } => {
                assert!(
                    self.totals.running_since.is_none(),
                    "an idle session accrues running time"
                );
                assert!(
                    blocked.iter().all(|c| c.kind == CallKind::Custom),
                    "an idle session holds a call that nobody runs"
                );
                assert!(
                    self.waiting == 0 || !blocked.is_empty(),
                    "an idle session leaves input waiting"
                );
                assert!(
                    !self.interrupting,
                    "an idle session leaves an interrupt waiting"
                );
            }
            Phase::Acting { calls } => {
                let started = calls.iter().filter(|c| c.stage == Stage::Started).count();
                assert!(started <= 1, "two calls of one thread run at once");
                assert!(!self.archived, "an archived session acts");
            }
            Phase::Due | Phase::Requesting { .. } => {
                assert!(!self.archived, "an archived session runs");
            }
        }
        if self.is_running() {
            assert!(
                self.totals.running_since.is_some(),
                "a running session accrues no time"
            );
        }
    }
}

/// The last stop reason of an idle session that waits for its client, if it does.
#[must_use]
pub fn requires_action(event_ids: Vec<EventId>) -> StopReason {
    StopReason::RequiresAction { event_ids }
}
