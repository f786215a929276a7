//! Threads of a session beside its primary: rows and lists. When one begins and ends is the core's to say; what one
//! that has not ended does and uses stands in the session's state.

use contract::ids::{SessionId, ThreadId};
use contract::time::Micros;
use serde_json::value::RawValue;
use session::{Status, Totals};

use crate::error::Error;
use crate::sessions::Scope;
use crate::store::{Store, on_back};

/// A thread beside the primary.
#[derive(Debug, Clone)]
pub struct ThreadRow {
    /// Which of the session's threads, from 1.
    pub n: u64,
    /// Its id.
    pub id: ThreadId,
    /// Its agent as the thread shows it; none if it is an advisor's.
    pub agent: Option<Box<RawValue>>,
    /// Its status.
    pub status: Status,
    /// What it has used, if it has ended.
    pub totals: Option<Totals>,
    /// When it began.
    pub created_at: Micros,
    /// When its status last changed.
    pub updated_at: Micros,
    /// Archived since.
    pub archived_at: Option<Micros>,
}

impl Store {
    /// Threads of a session beside its primary with a number above `after`, oldest first, at most `limit`; in one of
    /// `statuses`, or in any if there are none.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn threads(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
        after: u64,
        limit: u32,
        statuses: Vec<Status>,
    ) -> Result<Vec<ThreadRow>, Error> {
        let scope = scope.into();
        on_back!(self, read, |c| threads::list(
            c, scope, session, after, limit, &statuses
        ))
    }

    /// One thread beside the primary, if the session has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn thread(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
        thread: ThreadId,
    ) -> Result<Option<ThreadRow>, Error> {
        let scope = scope.into();
        on_back!(self, read, |c| threads::get(c, scope, session, thread))
    }
}
