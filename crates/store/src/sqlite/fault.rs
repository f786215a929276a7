//! What the errors of SQLite mean. The driver's error type ends here.

use rusqlite::ErrorCode;

use crate::error::Error;
use crate::rules::fault::{Driver, Trouble};

/// What SQL code returns: `E` is the answer for the caller.
pub(crate) type Fault<E> = crate::rules::fault::Fault<E, rusqlite::Error>;

/// The result of an operation on a database.
pub(crate) type Told<T, E = Error> = Result<T, Fault<E>>;

impl<E> From<rusqlite::Error> for Fault<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Db(error)
    }
}

impl Driver for rusqlite::Error {
    fn settle(self) -> Trouble {
        let ours = match &self {
            Self::SqliteFailure(e, _) => matches!(
                e.code,
                ErrorCode::ConstraintViolation
                    | ErrorCode::TypeMismatch
                    | ErrorCode::ApiMisuse
                    | ErrorCode::ParameterOutOfRange
            ),
            _ => true,
        };
        if ours {
            Trouble::Bug(self.into())
        } else {
            Trouble::Unavailable(self.into())
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
