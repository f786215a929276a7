//! What the errors of a PostgreSQL server mean. The driver's error type ends here.

use tokio_postgres::error::SqlState;

use crate::error::{Cause, Error};
use crate::rules::fault::{Driver, Trouble};

/// How one statement fails.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server or the way to it.
    Db(tokio_postgres::Error),
    /// What is stored cannot be understood.
    Bad(Cause),
}

/// The result of one statement.
pub(super) type Read<T> = Result<T, Failed>;

/// What SQL code returns: `E` is the answer for the caller.
pub(crate) type Fault<E> = crate::rules::fault::Fault<E, tokio_postgres::Error>;

/// The result of an operation on a database.
pub(crate) type Told<T, E = Error> = Result<T, Fault<E>>;

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Db(error)
    }
}

impl<E> From<Failed> for Fault<E> {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Db(error) => Self::Db(error),
            Failed::Bad(cause) => Self::Bad(cause),
        }
    }
}

impl Driver for tokio_postgres::Error {
    fn settle(self) -> Trouble {
        if is_ours(&self) {
            Trouble::Bug(told(self))
        } else {
            Trouble::Unavailable(told(self))
        }
    }
}

/// True if the statement or its values are wrong, which no later attempt cures: classes 22 (data), 23
/// (integrity) and 42 (syntax, types, names), and values that were refused before they were sent.
fn is_ours(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => ["22", "23", "42"]
            .iter()
            .any(|c| code.code().starts_with(c)),
        None => std::error::Error::source(error)
            .is_some_and(|s| s.is::<tokio_postgres::types::WrongType>()),
    }
}

/// An error of the server or of the way to it, in one line: the driver's own text names neither the
/// server's message nor what lies below.
pub(super) fn told(error: tokio_postgres::Error) -> Cause {
    let text = match error.as_db_error() {
        Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        None => match std::error::Error::source(&error) {
            Some(below) => format!("{error}: {below}"),
            None => error.to_string(),
        },
    };
    text.into()
}

/// What is behind the trouble of getting a connection.
pub(super) fn why(trouble: Trouble) -> Cause {
    match trouble {
        Trouble::Unavailable(cause) | Trouble::Bug(cause) => cause,
        Trouble::Full { .. } => "there is no room".into(),
    }
}

/// True if the row collides with a unique index.
pub(super) fn is_taken(failed: &Failed) -> bool {
    has_code(failed, &SqlState::UNIQUE_VIOLATION)
}

/// True if other rows refer to the one that was to go.
pub(super) fn is_referred_to(failed: &Failed) -> bool {
    has_code(failed, &SqlState::FOREIGN_KEY_VIOLATION)
}

fn has_code(failed: &Failed, code: &SqlState) -> bool {
    matches!(failed, Failed::Db(error) if error.code() == Some(code))
}
