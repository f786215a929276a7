//! What a simulation needs of a store: the real statements run on the caller's own thread, between a caller
//! and the database stands a [`Line`], and what is decided can be listened to. Nothing shipped enables it.

use std::cell::RefCell;
use std::pin::Pin;

use contract::time::Micros;
use session::{Decision, Input, Refused, State};

use crate::error::Cause;

/// What becomes of a request or an answer on its way: it takes its time, and is lost or arrives. One that
/// never ends is a caller that is no more.
pub type Passage<'a> = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send + 'a>>;

/// The way between one process and the database.
pub trait Line: Send + Sync + std::fmt::Debug {
    /// A request is on its way: what is lost here was never done.
    fn there(&self, writes: bool) -> Passage<'_>;
    /// It was done, and nobody has been told yet.
    fn done(&self);
    /// The answer is on its way: what is lost here was done.
    fn back(&self, writes: bool) -> Passage<'_>;
}

/// What was decided in a transaction.
#[derive(Debug)]
pub enum Decided {
    /// A session was made.
    Opened(Micros, Box<Decision>),
    /// An input was decided.
    Input {
        /// The state that was loaded.
        before: Box<State>,
        /// The input.
        input: Box<Input>,
        /// The caller's time.
        now: Micros,
        /// What became of it.
        decided: Result<Box<Decision>, Refused>,
    },
}

thread_local! {
    static HEARD: RefCell<Option<Vec<Decided>>> = const { RefCell::new(None) };
}

/// Listens to the decisions of this thread from now on, or no more.
pub fn listen(on: bool) {
    HEARD.set(on.then(Vec::new));
}

/// What was heard since the last call.
#[must_use]
pub fn heard() -> Vec<Decided> {
    HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
}

pub(crate) fn tell(decided: impl FnOnce() -> Decided) {
    HEARD.with_borrow_mut(|heard| {
        if let Some(heard) = heard {
            heard.push(decided());
        }
    });
}
