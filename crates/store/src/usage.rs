//! What was used, summed by workspace, agent and day, in the transaction that used it: exact after any
//! crash, and kept when a session is deleted.

use contract::ids::{AgentId, WorkspaceId};
use session::Cost;

use crate::error::Error;
use crate::store::{Store, on_back};

/// What an agent used in a workspace on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageDay {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The agent.
    pub agent: AgentId,
    /// The day, counted from the epoch, UTC.
    pub day: i64,
    /// Tokens read that no cache held.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Tokens read from caches.
    pub cache_read: u64,
    /// Tokens cached for five minutes.
    pub cache_5m: u64,
    /// Tokens cached for an hour.
    pub cache_1h: u64,
    /// The list price of the requests that had one.
    pub cost: Cost,
    /// Microseconds of running, counted on the day a turn went idle.
    pub active: u64,
}

impl Store {
    /// Usage of a workspace, or of all, from one day to another, both included; at most `limit` rows, in
    /// the order of day, workspace and agent.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn usage_days(
        &self,
        workspace: Option<WorkspaceId>,
        days: (i64, i64),
        limit: u32,
    ) -> Result<Vec<UsageDay>, Error> {
        on_back!(self, read, |c| usage::days(c, workspace, days, limit))
    }
}
