//! How SQL code fails: with an answer for the caller, or with trouble of the database. What the driver's own
//! errors mean, each back end says of its own.

use crate::error::{Cause, Conflict, Error, Plenty, SubmitError, Thing};

/// The error of a driver.
pub(crate) trait Driver {
    /// The answer to a caller whose statement failed with it.
    fn settle(self) -> Trouble;
}

/// What SQL code returns: `E` is the answer for the caller, `D` the driver's error.
pub(crate) enum Fault<E, D> {
    /// The driver failed.
    Db(D),
    /// What is stored cannot be understood.
    Bad(Cause),
    /// The operation's own answer.
    Told(E),
}

/// Trouble that every operation can have.
pub(crate) enum Trouble {
    /// Try later, or see the log.
    Unavailable(Cause),
    /// A broken invariant.
    Bug(Cause),
    /// The workspace has all it may have of something.
    Full {
        /// Of what.
        what: Plenty,
        /// The cap.
        limit: u64,
    },
}

impl Trouble {
    pub(crate) fn closed() -> Self {
        Self::Unavailable("the store is closed".into())
    }
}

impl<E, D> From<serde_json::Error> for Fault<E, D> {
    fn from(error: serde_json::Error) -> Self {
        Self::Bad(error.into())
    }
}

impl<D> From<Error> for Fault<Error, D> {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl<D> From<Thing> for Fault<Error, D> {
    fn from(thing: Thing) -> Self {
        Self::Told(Error::NotFound(thing))
    }
}

impl<D> From<Conflict> for Fault<Error, D> {
    fn from(conflict: Conflict) -> Self {
        Self::Told(Error::Conflict(conflict))
    }
}

impl<D> From<SubmitError> for Fault<SubmitError, D> {
    fn from(error: SubmitError) -> Self {
        Self::Told(error)
    }
}

impl<E: From<Trouble>, D: Driver> Fault<E, D> {
    /// The answer for the caller.
    pub(crate) fn settle(self) -> E {
        match self {
            Self::Told(error) => error,
            Self::Bad(cause) => Trouble::Bug(cause).into(),
            Self::Db(error) => error.settle().into(),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unavailable(cause) => Self::Unavailable(cause),
            Trouble::Bug(cause) => Self::Bug(cause),
            Trouble::Full { what, limit } => Self::Full { what, limit },
        }
    }
}

impl From<Trouble> for SubmitError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unavailable(cause) => Self::Unavailable(cause),
            Trouble::Bug(cause) => Self::Bug(cause),
            Trouble::Full { what, limit } => Self::Full { what, limit },
        }
    }
}
