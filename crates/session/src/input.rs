//! What may happen to a session. Commands come from clients and may be refused; facts come from the
//! runner that holds the session and say what happened under a generation.

use std::collections::BTreeMap;

use contract::client_event::{Confirmation, Rubric, RubricText};
use contract::content::Block;
use contract::event::{Body, Judgement, RefusalDetails, SessionErrorKind};
use contract::ids::{CredentialId, EventId, OutcomeId, SessionId, ThreadId, VaultId};
use contract::patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use crate::around::{Around, Called, Needs, Profile};
use crate::policy::ToolRules;
use crate::state::{Generation, Used};

/// What a new session starts from.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its id.
    pub session: SessionId,
    /// Its primary thread.
    pub thread: ThreadId,
    /// The agent's name.
    pub agent_name: String,
    /// Its tools.
    pub rules: ToolRules,
    /// The cap on its list cost, in cents.
    pub budget: Option<u64>,
    /// Messages to start on, in order; none leaves it idle.
    pub initial: Vec<UserEvent>,
}

/// A user's event as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum UserEvent {
    /// `user.message`.
    Message {
        /// What was said.
        content: Vec<Block>,
    },
    /// `system.message`: said to the model by the application, not by its user.
    System {
        /// Texts.
        content: Vec<Block>,
    },
    /// What one thread says to another: `agent.thread_message_received`. No client sends it.
    Thread {
        /// Who says it.
        from: ThreadId,
        /// Its agent's name; none if it is the primary.
        name: Option<String>,
        /// What is said.
        content: Vec<Block>,
    },
    /// `user.interrupt`.
    Interrupt {
        /// The thread it is for, if not all.
        thread: Option<ThreadId>,
    },
    /// `user.tool_confirmation`.
    ToolConfirmation {
        /// The call it decides.
        call: EventId,
        /// What is decided.
        result: Confirmation,
        /// Why not.
        deny_message: Option<String>,
        /// The thread of the call, if the client names it.
        #[serde(default)]
        thread: Option<ThreadId>,
    },
    /// `user.custom_tool_result`.
    CustomToolResult {
        /// The call it answers.
        call: EventId,
        /// The answer.
        content: Vec<Block>,
        /// Whether the client's tool failed.
        is_error: Option<bool>,
        /// The thread of the call, if the client names it.
        #[serde(default)]
        thread: Option<ThreadId>,
    },
    /// `user.define_outcome`.
    Outcome {
        /// The id it will have.
        outcome: OutcomeId,
        /// What is to be reached.
        description: String,
        /// How it is judged.
        rubric: String,
        /// Most evaluations, from 1; [`crate::limits::ITERATIONS`] if none is said.
        max_iterations: Option<u32>,
    },
}

impl UserEvent {
    /// Bytes of its content, about: what it costs to keep.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let content = match self {
            Self::Message { content }
            | Self::System { content }
            | Self::Thread { content, .. }
            | Self::CustomToolResult { content, .. } => content,
            Self::Outcome {
                description,
                rubric,
                ..
            } => return (description.len() + rubric.len()) as u64,
            Self::Interrupt { .. } | Self::ToolConfirmation { .. } => return 0,
        };
        content.iter().map(|block| block.bytes() as u64).sum()
    }

    /// The call it answers, if it answers one.
    #[must_use]
    pub const fn answers(&self) -> Option<EventId> {
        match self {
            Self::CustomToolResult { call, .. } | Self::ToolConfirmation { call, .. } => {
                Some(*call)
            }
            Self::Message { .. }
            | Self::System { .. }
            | Self::Thread { .. }
            | Self::Interrupt { .. }
            | Self::Outcome { .. } => None,
        }
    }

    /// The event's type on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Message { .. } => "user.message",
            Self::System { .. } => "system.message",
            Self::Thread { .. } => "agent.thread_message_received",
            Self::ToolConfirmation { .. } => "user.tool_confirmation",
            Self::Interrupt { .. } => "user.interrupt",
            Self::CustomToolResult { .. } => "user.custom_tool_result",
            Self::Outcome { .. } => "user.define_outcome",
        }
    }

    /// The event's body on the wire.
    #[must_use]
    pub fn body(self) -> Body {
        match self {
            Self::Message { content } => Body::UserMessage { content },
            Self::System { content } => Body::SystemMessage { content },
            Self::Thread {
                from,
                name,
                content,
            } => Body::ThreadMessageReceived {
                from_session_thread_id: from,
                from_agent_name: name,
                content,
            },
            Self::ToolConfirmation {
                call,
                result,
                deny_message,
                thread,
            } => Body::UserToolConfirmation {
                tool_use_id: call,
                result,
                deny_message,
                session_thread_id: thread,
            },
            Self::Interrupt { thread } => Body::UserInterrupt {
                session_thread_id: thread,
            },
            Self::CustomToolResult {
                call,
                content,
                is_error,
                thread,
            } => Body::UserCustomToolResult {
                custom_tool_use_id: call,
                content,
                is_error,
                session_thread_id: thread,
            },
            Self::Outcome {
                outcome,
                description,
                rubric,
                max_iterations,
            } => Body::UserDefineOutcome {
                outcome_id: outcome,
                description,
                rubric: Rubric::Text(RubricText { content: rubric }),
                max_iterations: max_iterations.and_then(std::num::NonZeroU32::new),
            },
        }
    }
}

/// An event in the inbox: accepted, durable, not yet in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The id it was echoed with and keeps.
    pub id: EventId,
    /// The thread it is for.
    pub thread: ThreadId,
    /// The event.
    pub event: UserEvent,
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Send these events: all or none.
    Send(Vec<UserEvent>),
    /// Change what may change of a session.
    Update(Box<Update>),
    /// End it for good, keep the history.
    Archive,
    /// End one of its threads, keep its history.
    ArchiveThread(ThreadId),
    /// Remove it and its history.
    Delete,
}

/// Changes of a session.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// The title; null clears.
    pub title: Patch<String>,
    /// Metadata keys to set (value) or remove (`None`).
    pub metadata: BTreeMap<String, Option<String>>,
    /// The agent with other tools, if they differ.
    pub agent: Option<AgentChange>,
    /// The cap in cents; null removes it for good.
    pub budget: Patch<u64>,
}

/// The agent of a session with other tools or MCP servers; they hold from the next turn on.
#[derive(Debug, Clone)]
pub struct AgentChange {
    /// The whole agent, as the session shows it.
    pub snapshot: Box<RawValue>,
    /// What its tools' policies say.
    pub rules: ToolRules,
}

/// A tool call as the model asked for it.
#[derive(Debug, Clone)]
pub struct ProposedCall {
    /// The id its tool-use event will have; the harness's record names it.
    pub id: EventId,
    /// The tool's name as the model wrote it.
    pub name: String,
    /// Its input, as the model wrote it: JSON, and whatever else it wrote as a JSON string.
    pub input: Box<RawValue>,
    /// What the judge said of it, if its policy is `auto` and there was a judge to ask.
    pub judgement: Option<Judgement>,
}

impl ProposedCall {
    /// Whether the input is an object. A call whose input is none runs nowhere: nobody knows what it means.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.input.get().trim_start().starts_with('{')
    }
}

/// What may help after a failed model request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: the same request would fail again.
    None,
    /// Time; at least this many microseconds if the provider said so.
    Wait {
        /// The provider's `retry-after`.
        at_least: Option<i64>,
    },
    /// A shorter transcript.
    Compact,
}

/// What a grader says of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grade {
    /// It is what was wanted.
    Satisfied,
    /// It is not yet.
    NeedsRevision,
    /// The rubric does not apply to it, or nobody can tell.
    Failed,
}

/// How a model reply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyEnd {
    /// The model is done, or wants its calls answered.
    Complete,
    /// The model refused.
    Refused(Option<RefusalDetails>),
}

/// What the runner reports.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The model answered.
    Replied {
        /// The request it answers: its `span.model_request_start`.
        span: EventId,
        /// Ids for `agent.thinking` events, one a thinking block.
        thinking: Vec<EventId>,
        /// Id (as previewed) and texts of the `agent.message`, if it said anything.
        message: Option<(EventId, Vec<String>)>,
        /// The calls it wants, in order.
        calls: Vec<ProposedCall>,
        /// The exact reply for the transcript; opaque here, private.
        record: Box<RawValue>,
        /// What it used.
        used: Used,
        /// How it ended.
        end: ReplyEnd,
        /// The transcript should be compacted before the next request.
        crowded: bool,
    },
    /// The transcript was condensed.
    Compacted {
        /// The request it answers: its `span.model_request_start`.
        span: EventId,
        /// What stands in its place; opaque here, private.
        record: Box<RawValue>,
        /// What it used.
        used: Used,
    },
    /// The model request failed.
    RequestFailed {
        /// The request it answers: its `span.model_request_start`, or the `span.outcome_evaluation_start`
        /// for a request of the grader.
        span: EventId,
        /// Which error.
        kind: SessionErrorKind,
        /// What happened and what to do.
        message: String,
        /// What it used all the same.
        used: Used,
        /// What may help.
        remedy: Remedy,
    },
    /// The grader is still at work: either a request of it is in flight, or one has ended and another is to
    /// follow.
    Grading {
        /// The evaluation: its `span.outcome_evaluation_start`.
        start: EventId,
        /// As the step named it: a fact that is repeated is refused.
        beat: u32,
        /// What a request that ended has used; none while one is in flight.
        used: Option<Used>,
    },
    /// The grader has come to a verdict.
    Graded {
        /// The evaluation: its `span.outcome_evaluation_start`.
        start: EventId,
        /// The verdict.
        grade: Grade,
        /// Why, for the agent and for the client.
        explanation: String,
        /// What its last request has used.
        used: Used,
    },
    /// A started call has its result.
    Finished {
        /// The call.
        call: EventId,
        /// What the model is told.
        content: Vec<Block>,
        /// Whether it failed.
        is_error: bool,
    },
    /// A coordinator's call about its threads.
    Delegated {
        /// The call.
        call: EventId,
        /// What it wants.
        order: Order,
    },
    /// An advisor has answered, or could not be asked.
    Advised {
        /// The call.
        call: EventId,
        /// The advice, or why there is none.
        content: Vec<Block>,
        /// Whether there is none.
        is_error: bool,
        /// What its request has used.
        used: Used,
    },
    /// Hosts of a credential are forbidden by the environment's networking. The turn goes on without.
    HostUnreachable {
        /// The credential.
        credential: CredentialId,
        /// Its vault.
        vault: VaultId,
        /// Which hosts, and what to do.
        message: String,
    },
    /// A program in the sandbox has asked the session's model, which has ended. Nothing of the turn rests on it, so it
    /// counts whoever holds the session now, and whatever stands still meanwhile.
    UsedInside {
        /// What it has used.
        used: Used,
        /// Whether it failed, or was cut.
        is_error: bool,
    },
    /// Threads may have become due while the session was held: whatever is due begins.
    TakeUp,
    /// How a started call ended cannot be found out.
    Lost {
        /// The call.
        call: EventId,
    },
    /// The runner has stopped what it did because an interrupt waits.
    Interrupted {
        /// What an open request had used.
        used: Used,
    },
}

/// What a coordinator wants of its threads.
#[derive(Debug, Clone)]
pub enum Order {
    /// To know who is there.
    List {
        /// The agents it may begin threads of, in words.
        roster: String,
    },
    /// To say something to a thread.
    Tell {
        /// Which.
        thread: ThreadId,
        /// What.
        content: Vec<Block>,
    },
    /// To begin a thread.
    Begin {
        /// Of whom.
        agent: Box<Newcomer>,
        /// Its task.
        content: Vec<Block>,
    },
}

/// The agent of a thread that is to begin, as the session plane has looked it up.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Its name.
    pub name: String,
    /// What its tools' policies say.
    pub rules: ToolRules,
    /// The whole agent, as the thread shows it.
    pub snapshot: Box<RawValue>,
}

/// Whether the runner wants to go on after this fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Open the next step in the same commit.
    Go,
    /// The server is draining: leave the next step unopened, so that whoever takes the session next
    /// finds nothing in flight.
    Halt,
}

/// One input.
#[derive(Debug, Clone)]
pub enum Input {
    /// From a client.
    Command(Command),
    /// A runner takes the session: the generation goes up, and whatever a lost runner had in flight is
    /// settled.
    Claim,
    /// From the runner of `generation`.
    Fact {
        /// The generation it was made under.
        generation: Generation,
        /// The thread it happened in.
        thread: ThreadId,
        /// What happened.
        fact: Box<Fact>,
        /// Whether to open the next step.
        pace: Pace,
    },
}
