//! What becomes true after an input: stored whole, in one transaction, or not at all.

use contract::event::Event;
use contract::ids::{EventId, OutcomeId, ThreadId};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::input::{Profile, Waiting};
use crate::outcome::Standing;
use crate::state::{Generation, State, Totals, WaitsOn};

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
    /// What stands in place of the transcript so far, at the place of its
    /// `agent.thread_context_compacted`.
    Summary,
    /// Which call an advisor has answered, at the place of its `agent.thread_message_received`.
    Advice,
}

impl RecordKind {
    /// The name it is stored under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::CallStarted => "call_started",
            Self::Summary => "summary",
            Self::Advice => "advice",
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

/// What an endpoint may be told of by a webhook (behaviours §21), as far as it has a cause in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Webhook {
    /// A turn began.
    StatusRunStarted,
    /// The session went idle.
    StatusIdled,
    /// The budget was reached; once for each value of it.
    BudgetReached,
    /// A turn waits for its next try.
    StatusRescheduled,
    /// The session is over.
    StatusTerminated,
    /// Title, metadata, agent or budget changed.
    Updated,
    /// The session is gone.
    Deleted,
    /// A grader was done with an iteration, or will not come to it.
    OutcomeEvaluationEnded,
    /// A thread was begun beside the primary.
    ThreadCreated(ThreadId),
    /// It went idle.
    ThreadIdled(ThreadId),
    /// It has ended.
    ThreadTerminated(ThreadId),
}

impl Webhook {
    /// Its type on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StatusRunStarted => "session.status_run_started",
            Self::StatusIdled => "session.status_idled",
            Self::BudgetReached => "session.budget_reached",
            Self::StatusRescheduled => "session.status_rescheduled",
            Self::StatusTerminated => "session.status_terminated",
            Self::Updated => "session.updated",
            Self::Deleted => "session.deleted",
            Self::OutcomeEvaluationEnded => "session.outcome_evaluation_ended",
            Self::ThreadCreated(_) => "session.thread_created",
            Self::ThreadIdled(_) => "session.thread_idled",
            Self::ThreadTerminated(_) => "session.thread_terminated",
        }
    }
}

/// What the runner does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make (or, for a foreign loop, allow) the model request of this span.
    Request {
        /// Its `span.model_request_start`.
        span: EventId,
    },
    /// Make the model request of this span that condenses the transcript.
    Compact {
        /// Its `span.model_request_start`.
        span: EventId,
    },
    /// Compare the work with the rubric of the open outcome: this evaluation. Also the permission to make
    /// the grader's next request.
    Grade {
        /// Its `span.outcome_evaluation_start`.
        start: EventId,
        /// What the next [`crate::Fact::Grading`] must name.
        beat: u32,
    },
    /// Run (or allow) this call: it is recorded as started.
    Execute {
        /// Its tool-use event.
        call: EventId,
    },
    /// Find out how this call ended, or will: it was started under a runner that is lost, and goes on if its
    /// sandbox does. It is not run again.
    Recover {
        /// Its tool-use event.
        call: EventId,
    },
    /// Nothing: the turn is over, waits for the client, or was put down.
    Rest,
}

/// Where an outcome stands from now on: what the session's object shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Which of the session's outcomes, from 1.
    pub n: u32,
    /// Its id.
    pub id: OutcomeId,
    /// What is to be reached; said once, when it was defined.
    pub description: Option<String>,
    /// Which iteration, from 0.
    pub iteration: u32,
    /// Where it stands.
    pub standing: Standing,
    /// The grader's words, if they are new.
    pub explanation: Option<String>,
    /// When it was final.
    pub completed_at: Option<Micros>,
}

/// A thread that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Which.
    pub id: ThreadId,
    /// Whose it is.
    pub agent: ThreadOf,
}

/// Whose a thread is.
#[derive(Debug, Clone)]
pub enum ThreadOf {
    /// An agent's, as the thread shows it.
    Agent(Box<RawValue>),
    /// An advisor's.
    Advisor,
}

/// A thread that has ended: its state leaves the session's.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedThread {
    /// Which.
    pub id: ThreadId,
    /// What it has used.
    pub totals: Totals,
    /// When.
    pub at: Micros,
    /// Whether its client archived it; otherwise it failed, or has said what it had to say.
    pub archived: bool,
}

/// A wait of a thread that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Which thread waited.
    pub thread: ThreadId,
    /// For whom.
    pub on: WaitsOn,
    /// The thread that it waited for, if it was one whose word ended the wait.
    pub whom: Option<ThreadId>,
    /// Since when.
    pub since: Micros,
    /// Until when.
    pub until: Micros,
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
    /// The agent as the session shows it, if it changed.
    pub agent: Option<Box<RawValue>>,
    /// Where outcomes stand, in order: the last word on each counts.
    pub evaluations: Vec<Evaluation>,
    /// What endpoints may be told, in order.
    pub webhooks: Vec<Webhook>,
    /// Threads that were begun, in order.
    pub begun: Vec<Begun>,
    /// Threads that have ended, in order.
    pub ended: Vec<EndedThread>,
    /// Waits that are over, in order.
    pub waits: Vec<Waited>,
    /// The session is to be removed; streams get `events` and end.
    pub deleted: bool,
    /// For the runner of the thread that the input was about; of the primary, if it was about none.
    pub step: Step,
    /// What is to be begun in other threads.
    pub others: Vec<(ThreadId, Step)>,
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
        /// `archive`, `delete` or `update`.
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
    /// The budget is spent and this event would have the model asked.
    #[error(
        "Invalid {kind} event at events[{index}]: the session has reached its budget; only `user.tool_confirmation`, `user.tool_result`, `user.custom_tool_result`, or `user.interrupt` may be sent until `budget` is raised or removed"
    )]
    BudgetReached {
        /// The offending event's place in the request.
        index: usize,
        /// Its type.
        kind: &'static str,
    },
    /// An answer to no call of this session.
    #[error(
        "events[{index}].{field}: `{field}` \"{id}\" does not match any `{wanted}` event in this session"
    )]
    UnknownCall {
        /// The offending event's place in the request.
        index: usize,
        /// The field that names the call.
        field: &'static str,
        /// The type of event it should name.
        wanted: &'static str,
        /// The id it names.
        id: EventId,
    },
    /// A confirmation of a call that needs none.
    #[error(
        "events[{index}].tool_use_id: `tool_use_id` \"{id}\" does not wait for a confirmation: its `evaluated_permission` is not `ask`"
    )]
    NotAsked {
        /// The offending event's place in the request.
        index: usize,
        /// The call.
        id: EventId,
    },
    /// A second confirmation, or one of a call that an interrupt has closed.
    #[error("events[{index}].tool_use_id: `tool_use_id` \"{id}\" has already been resolved")]
    Resolved {
        /// The offending event's place in the request.
        index: usize,
        /// The call.
        id: EventId,
    },
    /// An outcome while another is open.
    #[error(
        "Invalid user.define_outcome event at events[{index}]: a session works on one outcome at a time; send the next one after the final `span.outcome_evaluation_end` of this one, or interrupt it"
    )]
    OutcomeOpen {
        /// The offending event's place in the request.
        index: usize,
    },
    /// An answer that names another thread than that of its call.
    #[error(
        "events[{index}].session_thread_id: the call {call} is not of thread \"{thread}\"; leave the field out, an answer finds its thread by its call"
    )]
    OtherThread {
        /// The offending event's place in the request.
        index: usize,
        /// The call.
        call: EventId,
        /// The thread it names.
        thread: ThreadId,
    },
    /// An answer to a call of a thread that has ended.
    #[error("events[{index}]: the thread of the call {call} is terminated and takes no more input")]
    ThreadEnded {
        /// The offending event's place in the request.
        index: usize,
        /// The call.
        call: EventId,
    },
    /// A thread must not be running for this.
    #[error(
        "Cannot archive thread while it is running. Send an interrupt event with its `session_thread_id` or wait for the thread to go idle."
    )]
    ThreadRunning,
    /// The primary thread ends with its session.
    #[error("The primary thread cannot be archived by itself. Archive the session instead.")]
    PrimaryThread,
    /// No such thread.
    #[error("Thread not found.")]
    NoThread,
    /// More outcomes than a session may have.
    #[error(
        "Invalid user.define_outcome event at events[{index}]: a session has at most {limit} outcomes. Start another session."
    )]
    TooManyOutcomes {
        /// The offending event's place in the request.
        index: usize,
        /// How many it may have.
        limit: u32,
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
    /// What waits already is too large.
    #[error(
        "The events that wait in this session are too large together (at most {limit} bytes). Wait for the turn to take them."
    )]
    InboxLarge {
        /// How many bytes may wait.
        limit: u64,
    },
    /// The update would leave too many metadata pairs.
    #[error("metadata: at most {limit} pairs may remain after an update")]
    TooManyPairs {
        /// How many may remain.
        limit: usize,
    },
    /// A budget for a session that was made without one, or whose budget was removed.
    #[error("budget: cannot be added to a session that has none (budget_create_only)")]
    BudgetCreateOnly,
    /// A cap that is spent already.
    #[error(
        "`budget.max_list_cost` must be greater than the session's consumed list cost (budget_not_raised)"
    )]
    BudgetNotRaised,
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
