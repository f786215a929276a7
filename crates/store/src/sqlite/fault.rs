//! How SQL code fails: with an answer for the caller, or with trouble of the database. The driver's
//! error type ends here.

use rusqlite::ErrorCode;

use crate::error::{Cause, Conflict, Error, Plenty, SubmitError, Thing};

/// What SQL code returns: `E` is the answer for the caller.
pub(crate) enum Fault<E> {
    /// The driver failed.
    Db(rusqlite::Error),
    /// What is stored cannot be understood.
    Bad(Cause),
    /// The operation's own answer.
    Told(E),
}

/// The result of an operation on a database.
pub(crate) type Told<T, E = Error> = Result<T, Fault<E>>;

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

impl<E> From<rusqlite::Error> for Fault<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error)
    }
}

impl<E> From<serde_json::Error> for Fault<E> {
    fn from(error: serde_json::Error) -> Self {
        Self::Bad(error.into())
    }
}

impl From<Error> for Fault<Error> {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl From<Thing> for Fault<Error> {
    fn from(thing: Thing) -> Self {
        Self::Told(Error::NotFound(thing))
    }
}

impl From<Conflict> for Fault<Error> {
    fn from(conflict: Conflict) -> Self {
        Self::Told(Error::Conflict(conflict))
    }
}

impl From<SubmitError> for Fault<SubmitError> {
    fn from(error: SubmitError) -> Self {
        Self::Told(error)
    }
}

impl<E: From<Trouble>> Fault<E> {
    /// The answer for the caller.
    pub(crate) fn settle(self) -> E {
        match self {
            Self::Told(error) => error,
            Self::Bad(cause) => Trouble::Bug(cause).into(),
            Self::Db(error) => {
                let ours = match &error {
                    rusqlite::Error::SqliteFailure(e, _) => matches!(
                        e.code,
                        ErrorCode::ConstraintViolation
                            | ErrorCode::TypeMismatch
                            | ErrorCode::ApiMisuse
                            | ErrorCode::ParameterOutOfRange
                    ),
                    _ => true,
                };
                if ours {
                    Trouble::Bug(error.into()).into()
                } else {
                    Trouble::Unavailable(error.into()).into()
                }
            }
        }
    }
}

/// True if the row collides with a unique index.
pub(crate) fn is_taken(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(e, _)
            if e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
                || e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
    )
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
