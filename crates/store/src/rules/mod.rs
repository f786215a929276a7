//! What both back ends do in the same way: how values are stored, what a decision writes, what is told after a
//! commit, how a list is walked. It knows no driver and no statement, and must never hold SQL.

pub(crate) mod change;
pub(crate) mod decided;
pub(crate) mod fault;
pub(crate) mod master;
pub(crate) mod outcomes;
pub(crate) mod sums;
pub(crate) mod told;
pub(crate) mod usage;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::time::Duration;

use contract::ids::WorkspaceId;
use contract::time::Micros;
use serde_json::value::to_raw_value;
use session::{State, Status, Waited};

use crate::error::{Error, Thing};
use crate::sessions::{Resolved, Scope};
use crate::timeline::{Mark, Spent};

/// A place or count as a database holds it; the log of a session never gets near the bound.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).expect("fewer than 2^63 of anything")
}

pub(crate) fn map_text(map: &BTreeMap<String, String>) -> Result<String, serde_json::Error> {
    serde_json::to_string(map)
}

/// The name a status is stored under.
pub(crate) const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Idle => "idle",
        Status::Running => "running",
        Status::Rescheduling => "rescheduling",
        Status::Terminated => "terminated",
    }
}

/// The status that is stored under a name.
pub(crate) fn status_named(name: &str) -> Result<Status, String> {
    let all = [
        Status::Idle,
        Status::Running,
        Status::Rescheduling,
        Status::Terminated,
    ];
    let found = all.into_iter().find(|status| status_name(*status) == name);
    found.ok_or_else(|| format!("unknown status {name}"))
}

/// Whether a row of `workspace` may be seen.
pub(crate) fn within(scope: Scope, workspace: WorkspaceId) -> bool {
    match scope {
        Scope::Any => true,
        Scope::Workspace(wanted) => wanted == workspace,
    }
}

/// Refuses to make a session of what was archived.
pub(crate) fn usable(resolved: &Resolved) -> Result<(), Error> {
    if resolved.agent.archived_at.is_some() {
        return Err(Error::Archived(Thing::Agent));
    }
    if resolved.environment.archived_at.is_some() {
        return Err(Error::Archived(Thing::Environment(resolved.environment.id)));
    }
    let mut vaults = resolved.vaults.iter();
    match vaults.find(|v| v.vault.archived_at.is_some()) {
        Some(view) => Err(Error::Archived(Thing::Vault(view.vault.id))),
        None => Ok(()),
    }
}

/// When a lease taken at `now` ends.
pub(crate) fn until(now: Micros, ttl: Option<Duration>) -> Option<i64> {
    ttl.map(|t| {
        now.0
            .saturating_add(i64::try_from(t.as_micros()).unwrap_or(i64::MAX))
    })
}

/// Microseconds: no run is due later than this after it was put back, and no lease is longer. One that seems
/// to be was written by a clock that has been set back since: it is due now, and holds nobody off.
pub(crate) const FARTHEST: i64 = session::limits::LONGEST_RETRY_AFTER + 1_000_000;

/// How long a run has waited since it was due.
pub(crate) fn queued(due_at: Micros, now: Micros) -> Mark {
    Mark {
        spent: Spent::Queue,
        at: due_at,
        took: (now.0 - due_at.0).max(0),
        detail: serde_json::value::RawValue::NULL.to_owned(),
    }
}

/// A wait of a thread, with whom it was for.
pub(crate) fn waiting(state: &State, waited: &Waited) -> serde_json::Result<Mark> {
    let mut detail = serde_json::json!({"waited_for": waited.on.name()});
    if waited.thread != state.primary.id {
        detail["session_thread_id"] = waited.thread.to_string().into();
    }
    if let Some(whom) = waited.whom {
        detail["waited_for_session_thread_id"] = whom.to_string().into();
    }
    Ok(Mark {
        spent: Spent::Wait,
        at: waited.since,
        // The clock may have gone back.
        took: (waited.until.0 - waited.since.0).max(0),
        detail: to_raw_value(&detail)?,
    })
}
