//! Where a session's time went: one entry a stretch of time that the log does not show by itself, in the
//! order of their ends. It explains; nothing is ever decided by it.
//!
//! Entries are written in the transaction of what they belong to, so that after a crash the timeline
//! tells of exactly what the log tells of. A session keeps its last [`crate::limits::TIMELINE`] entries.

use contract::ids::SessionId;
use contract::time::Micros;
use serde_json::value::RawValue;
use session::Generation;

use crate::error::Error;
use crate::sessions::Scope;
use crate::store::{Store, on_back};

/// What time was spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// The turn waited for a runner.
    Queue,
    /// A sandbox was made ready.
    Sandbox,
    /// A model request, to its end.
    Model,
    /// A tool call, to its result.
    Tool,
    /// A judge decided on calls.
    Judge,
    /// A grader looked at the work: one request and the reading it led to.
    Grade,
    /// A question to an advisor, to its answer.
    Advisor,
    /// A thread rested until somebody else was done: its client, another thread, whoever raises the budget, or time.
    Wait,
}

impl Spent {
    /// The name it is stored and served under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Sandbox => "sandbox",
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Judge => "judge",
            Self::Grade => "grade",
            Self::Advisor => "advisor",
            Self::Wait => "wait",
        }
    }
}

/// A stretch of time, as it is reported.
#[derive(Debug, Clone)]
pub struct Mark {
    /// On what.
    pub spent: Spent,
    /// From when.
    pub at: Micros,
    /// For how many microseconds.
    pub took: i64,
    /// What else is worth knowing; a JSON object.
    pub detail: Box<RawValue>,
}

/// A stretch of time, as it is read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place among the session's entries; grows, and starts above what was dropped.
    pub n: u64,
    /// The turn it belongs to: the place of the event that opened it.
    pub turn: u64,
    /// On what.
    pub spent: String,
    /// From when.
    pub at: Micros,
    /// For how many microseconds.
    pub took: i64,
    /// What else is worth knowing.
    pub detail: Box<RawValue>,
}

/// Where a session runs. What it points to may be gone; it then says what is to be made anew.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The harness, the sandbox and whatever else places the session; a JSON object.
    pub body: Box<RawValue>,
    /// The server that has the session's workspace, where there are several; none leaves it as it was.
    pub host: Option<String>,
}

/// A binding as it is read.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The generation that wrote it.
    pub generation: Generation,
    /// Since when it holds.
    pub since: Micros,
    /// The harness, the sandbox and whatever else places the session.
    pub body: Box<RawValue>,
    /// The server that has the session's workspace, if it has one and there are several.
    pub host: Option<String>,
}

/// What a runner has stored along with an input: in the same transaction, fenced by the same generation.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Where its time went.
    pub marks: Vec<Mark>,
    /// Where the session runs from now on, if that changed.
    pub binding: Option<Binding>,
}

/// The turns that are open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenTurns {
    /// Somebody runs them.
    pub running: u64,
    /// They wait for somebody, or for their next try.
    pub waiting: u64,
}

impl Store {
    /// How many turns are open. Costs as much as there are.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn open_turns(&self) -> Result<OpenTurns, Error> {
        on_back!(self, read, |c| timeline::open_turns(c))
    }

    /// The timeline of a session above `after`, in order, at most `limit` entries.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn timeline(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        let scope = scope.into();
        on_back!(self, read, |c| timeline::list(
            c, scope, session, after, limit
        ))
    }

    /// Where a session runs, or ran last; none before its first turn.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn binding(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
    ) -> Result<Option<Bound>, Error> {
        let scope = scope.into();
        on_back!(self, read, |c| timeline::binding(c, scope, session))
    }
}
