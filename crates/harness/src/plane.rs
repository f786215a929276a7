//! What a harness may ask of the session plane. The plane owns the session; a harness only works for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::content::Block;
use contract::ids::{EventId, SessionId};
use model::{Endpoint, Usage};
use sandbox::Sandbox;
use serde_json::value::RawValue;
use session::{Cost, Fact, Newcomer, Step};
use tokio_util::sync::CancellationToken;

use crate::brief::Brief;

/// One entry of a session's transcript, in log order.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the log.
    pub seq: u64,
    /// What it is.
    pub body: EntryBody,
}

/// What stands in a transcript.
#[derive(Debug, Clone)]
pub enum EntryBody {
    /// `user.message`.
    User {
        /// What was said.
        content: Vec<Block>,
    },
    /// `agent.thread_message_received`: what another thread says.
    Thread {
        /// What was said, and by whom if the model is to know.
        content: Vec<Block>,
    },
    /// `system.message`.
    System {
        /// What the application says.
        content: Vec<Block>,
    },
    /// `user.define_outcome`.
    Outcome {
        /// What is to be reached.
        description: String,
        /// How it is judged.
        rubric: String,
    },
    /// `span.outcome_evaluation_end`: what became of an iteration.
    Verdict {
        /// As the contract spells it.
        result: String,
        /// The grader's words, or ours.
        explanation: String,
    },
    /// What stands in place of everything before it, as the harness recorded it.
    Summary {
        /// The harness's own record.
        record: Box<RawValue>,
    },
    /// A model reply, as the harness recorded it.
    Reply {
        /// The harness's own record.
        record: Box<RawValue>,
    },
    /// The result of a call, from the sandbox, the client or the platform.
    Result {
        /// The tool-use event it answers.
        call: EventId,
        /// What the model is told.
        content: Vec<Block>,
        /// Whether it failed.
        is_error: bool,
    },
}

/// What became of a fact.
#[derive(Debug)]
pub struct Taken {
    /// What to do next.
    pub step: Step,
    /// Transcript entries that the commit added.
    pub entries: Vec<Entry>,
}

/// A glimpse of an event that does not exist yet: shown to streams that asked, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// An `agent.message` began.
    Message {
        /// The id it will have.
        id: EventId,
    },
    /// An `agent.thinking` began.
    Thinking {
        /// The id it will have.
        id: EventId,
    },
    /// More text of a message that began.
    Text {
        /// The message.
        id: EventId,
        /// Which of its texts, counted without gap.
        index: usize,
        /// The piece.
        text: String,
    },
}

/// What a harness spends time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// A model request, to its end.
    Model,
    /// A tool call, to its result.
    Tool,
    /// The judgements of one reply.
    Judge,
    /// A request of a grader, to its end.
    Grade,
    /// A question to an advisor, to its answer.
    Advisor,
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// Another runner holds the session, or it is gone: stop at once, report nothing more.
    #[error("the session is held by another runner")]
    Lost,
    /// The server is shutting down and the time for turns is over.
    #[error("the server is shutting down")]
    Stopping,
    /// The store cannot take the fact now.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was stored cannot be read, or what was reported does not fit: a defect.
    #[error("defect: {0}")]
    Bug(String),
}

/// An agent that a coordinator makes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeUp {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its system prompt.
    pub system: Option<String>,
}

/// The session plane as the run of one thread sees it.
#[async_trait]
pub trait Plane: Send + Sync {
    /// Which session it is.
    fn session(&self) -> SessionId;

    /// Whose calls those of this run are, for the sandbox that all threads of the session share: each caller has a
    /// shell of its own. None for the session's primary thread.
    fn caller(&self) -> Option<String> {
        None
    }

    /// The session.
    fn brief(&self) -> &Brief;

    /// Where its model requests go.
    fn endpoint(&self) -> &Endpoint;

    /// What `usage` of the session's model costs at its list price; none if it has none.
    fn price(&self, usage: &Usage) -> Option<Cost>;

    /// What `usage` of that model costs; the same for models beside the session's own.
    fn price_of(&self, _model: &str, usage: &Usage) -> Option<Cost> {
        self.price(usage)
    }

    /// The agent of the coordinator's roster with that name, for a thread of its own.
    fn newcomer(&self, _name: &str) -> Option<Newcomer> {
        None
    }

    /// An agent that the coordinator makes up, for a thread of its own: model and tools are the coordinator's.
    fn made_up(&self, _agent: MadeUp) -> Option<Newcomer> {
        None
    }

    /// Notes that `took` was just spent on something: it goes into the timeline with the next fact.
    fn spent(&self, on: Spent, took: Duration);

    /// Notes that a loop inside the sandbox is there from now on, and `how` that came to be: `started`, `adopted`,
    /// `revived` or `rebuilt`. It goes into binding and timeline with the next fact.
    fn placed(&self, _how: &'static str, _took: Duration) {}

    /// The transcript so far, in log order.
    ///
    /// # Errors
    /// [`PlaneError`].
    async fn transcript(&self) -> Result<Vec<Entry>, PlaneError>;

    /// Stores a fact, fenced by this run's generation, and says what comes next. When it returns the
    /// fact is durable. Cancel safe: no; the fact may be stored or not.
    ///
    /// # Errors
    /// [`PlaneError`].
    async fn report(&self, fact: Fact) -> Result<Taken, PlaneError>;

    /// The session's sandbox if it still runs, also where an earlier server left it; none is started.
    ///
    /// # Errors
    /// Those of [`sandbox::Provider::adopt`].
    async fn left_sandbox(&self) -> Result<Option<Arc<dyn Sandbox>>, sandbox::Error> {
        Ok(None)
    }

    /// Shows a preview to the streams that asked. Never blocks; may shed.
    fn preview(&self, preview: Preview);

    /// The session's sandbox, claimed at the first call.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    async fn sandbox(&self) -> Result<Arc<dyn Sandbox>, sandbox::Error>;

    /// Cancelled when whatever is in flight must end: an interrupt, or the end of a drain.
    fn cancelled(&self) -> CancellationToken;

    /// True if the cause was an interrupt, which is then reported as [`Fact::Interrupted`].
    fn interrupted(&self) -> bool;

    /// A fresh event id.
    fn mint(&self) -> EventId;
}
