//! What becomes true after an input: stored whole, in one transaction, or not at all.

use contract::event::Event;
use contract::ids::{EventId, ThreadId};
use serde_json::value::RawValue;

use crate::input::{Profile, Waiting};
use crate::state::{Generation, State};

/// An event with its place in the log.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its place; gapless per session, from 1.
    pub seq: u64,
    /// The thread it belongs to.
    pub thread: ThreadId,
    /// Whether the session's own list and stream show it.
    pub on_primary: bool,
    /// The event.
    pub event: Event,
}

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// An exact model reply, at the place of its `span.model_request_end`.
    Reply,
    /// A call was started, at the place of its tool-use event.
    CallStarted,
}

impl RecordKind {
    /// The name it is stored under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::CallStarted => "call_started",
        }
    }
}

/// A private record: what an exact transcript or a recovery needs and the log never shows.
#[derive(Debug, Clone)]
pub struct Record {
    /// The place of the event it belongs to.
    pub seq: u64,
    /// What it is of.
    pub kind: RecordKind,
    /// Opaque here.
    pub body: Box<RawValue>,
}

/// An effect that someone must carry out: a row, written with the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Somebody must take the session and run it.
    Run,
    /// The runner must stop what it does: an interrupt waits.
    Stop,
}

/// What the runner does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make (or, for a foreign loop, allow) the model request of this span.
    Request {
        /// Its `span.model_request_start`.
        span: EventId,
    },
    /// Run (or allow) this call: it is recorded as started.
    Execute {
        /// Its tool-use event.
        call: EventId,
    },
    /// Nothing: the turn is over, waits for the client, or was put down.
    Rest,
}

/// What becomes true.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The state after it.
    pub state: State,
    /// Events for the log, in order.
    pub events: Vec<Placed>,
    /// Events that wait: into the inbox, and announced once on the stream with `processed_at` null.
    pub queued: Vec<Waiting>,
    /// Inbox events that took their place or were flushed.
    pub drained: Vec<EventId>,
    /// Private records.
    pub records: Vec<Record>,
    /// Effects.
    pub intents: Vec<Intent>,
    /// The sender's events as accepted, for the reply.
    pub echo: Vec<Event>,
    /// The profile, if it changed.
    pub profile: Option<Profile>,
    /// The session is to be removed; streams get `events` and end.
    pub deleted: bool,
    /// For the runner.
    pub step: Step,
}

/// Why an input was refused. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session is archived or over.
    #[error("Session is archived and no longer accepts events.")]
    Archived,
    /// The session must not be running for this.
    #[error(
        "Cannot {what} session while it is running. Send an interrupt event or wait for the session to complete."
    )]
    Running {
        /// `archive` or `delete`.
        what: &'static str,
    },
    /// The session waits for answers and this event is none.
    #[error(
        "Invalid {kind} event at events[{index}]: waiting on responses to events [{}]; only `user.tool_confirmation`, `user.custom_tool_result`, `user.tool_result`, or `user.interrupt` may be sent",
        list(waiting_on)
    )]
    WaitingOn {
        /// The offending event's place in the request.
        index: usize,
        /// Its type.
        kind: &'static str,
        /// What the session waits for.
        waiting_on: Vec<EventId>,
    },
    /// An answer to no call of this session.
    #[error(
        "events[{index}].custom_tool_use_id: `custom_tool_use_id` \"{id}\" does not match any `agent.custom_tool_use` event in this session"
    )]
    UnknownCall {
        /// The offending event's place in the request.
        index: usize,
        /// The id it names.
        id: EventId,
    },
    /// An interrupt for a thread the session does not have.
    #[error(
        "events[{index}].session_thread_id: thread \"{thread}\" is not a thread of this session"
    )]
    UnknownThread {
        /// The offending event's place in the request.
        index: usize,
        /// The thread it names.
        thread: ThreadId,
    },
    /// Too much waits already.
    #[error(
        "Too many events wait in this session (at most {limit}). Wait for the turn to take them."
    )]
    InboxFull {
        /// How many may wait.
        limit: u32,
    },
    /// The update would leave too many metadata pairs.
    #[error("metadata: at most {limit} pairs may remain after an update")]
    TooManyPairs {
        /// How many may remain.
        limit: usize,
    },
    /// A fact of a generation that no longer holds the session.
    #[error("generation {} no longer holds the session: {} does", given.0, held.0)]
    Stale {
        /// The fact's generation.
        given: Generation,
        /// The current one.
        held: Generation,
    },
    /// A fact that does not fit where the turn stands: repeated, late, or a defect of the runner.
    #[error("{fact} does not fit a session that is {phase}")]
    OutOfPlace {
        /// What was reported.
        fact: &'static str,
        /// Where the turn stands.
        phase: &'static str,
    },
    /// There is no open turn to take.
    #[error("the session has no open turn")]
    NothingToRun,
}

fn list(ids: &[EventId]) -> String {
    ids.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
