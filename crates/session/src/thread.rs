//! One line of work within a session: where its turn stands, what it has tried, which calls are open. What it may do
//! next is not decided here.

use contract::ids::{EventId, ThreadId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

use crate::policy::ToolRules;
use crate::state::{Status, Totals, is_default};

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
    #[serde(default, skip_serializing_if = "is_default")]
    pub turn: u64,
    /// An interrupt waits in the inbox, or was placed while a runner was still at work here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interrupting: bool,
    /// Events of the inbox that are for this thread.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waiting: u32,
    /// Since when it rests, and for whom it waits; none while it runs, or if it waits for nobody.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rest: Option<Rest>,
    /// What it has used; its running time is its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub totals: Totals,
    /// What keeps the open turn from going on for ever.
    #[serde(default, skip_serializing_if = "is_default")]
    pub effort: Effort,
    /// The transcript has outgrown the model's comfort: it is compacted before the next request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub crowded: bool,
    /// The last compaction's place in the log: the model is shown nothing before it. 0: everything.
    #[serde(default, skip_serializing_if = "is_default")]
    pub history_from: u64,
}

/// A thread that rests because somebody else is at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Since when.
    pub since: Micros,
    /// For whom it waits.
    pub on: WaitsOn,
}

/// For whom a thread waits that rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsOn {
    /// The client owes it answers.
    Client,
    /// The budget is spent.
    Budget,
    /// A request failed, and is tried again.
    Retry,
    /// Other threads of the session are at work.
    Threads,
}

impl WaitsOn {
    /// The name it is served under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Budget => "budget",
            Self::Retry => "retry",
            Self::Threads => "thread",
        }
    }
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
#[serde(default)]
pub struct Effort {
    /// Rounds of tool calls.
    #[serde(skip_serializing_if = "is_default")]
    pub rounds: u32,
    /// Times the turn was taken up after a loss, since its last progress.
    #[serde(skip_serializing_if = "is_default")]
    pub recoveries: u32,
    /// Model requests that failed in a row.
    #[serde(skip_serializing_if = "is_default")]
    pub failures: u32,
    /// When the first of them failed.
    #[serde(skip_serializing_if = "is_default")]
    pub failing_since: Option<Micros>,
    /// Compactions in a row without a word from the model.
    #[serde(skip_serializing_if = "is_default")]
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

/// The calls that wait for the client.
pub(crate) fn asked(calls: &[Call]) -> Vec<EventId> {
    let asked = calls.iter().filter(|c| c.stage == Stage::Asked);
    asked.map(|c| c.id).collect()
}
