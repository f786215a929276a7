//! What the writer knows without reading it again: the sessions that it wrote last, what sessions may be
//! made from, and how much of what is counted workspaces have. It holds exactly what the transaction under way sees, or nothing: whatever is undone, all of it
//! is forgotten. It answers nobody but the writer.

use std::collections::HashMap;
use std::sync::Arc;

use contract::ids::{SessionId, WorkspaceId};
use serde_json::value::RawValue;

use crate::error::Plenty;
use crate::limits::{WARM_COUNTS, WARM_GROUNDS, WARM_THREADS};
use crate::rules::decided::Before;
use crate::rules::sums::Sums;
use crate::sessions::{Ground, NewSession};

/// What is known.
#[derive(Default)]
pub(super) struct Warm {
    sessions: HashMap<SessionId, Before>,
    /// Threads of those sessions: what they take grows with these.
    threads: usize,
    grounds: HashMap<Ground, Laid>,
    /// As stored: without what the transaction under way adds at its end.
    counts: HashMap<(WorkspaceId, Plenty), i64>,
    /// The last number that a session was given, by the transaction under way too.
    last_number: Option<i64>,
}

/// Where the newest of what sessions are made from stands, of those of one agent, environment and vaults.
pub(super) struct Laid {
    pub(super) num: i64,
    agent: Arc<RawValue>,
    environment: Arc<RawValue>,
}

impl Laid {
    pub(super) fn of(new: &NewSession, num: i64) -> Self {
        Self {
            num,
            agent: Arc::clone(&new.agent),
            environment: Arc::clone(&new.environment),
        }
    }

    /// Whether `new` is made from it.
    pub(super) fn is_of(&self, new: &NewSession) -> bool {
        let same = |a: &Arc<RawValue>, b: &Arc<RawValue>| Arc::ptr_eq(a, b) || a.get() == b.get();
        same(&self.agent, &new.agent) && same(&self.environment, &new.environment)
    }
}

impl Warm {
    /// Takes the session out: whoever changes it puts it back once that is written.
    pub(super) fn take(&mut self, id: SessionId) -> Option<Before> {
        let taken = self.sessions.remove(&id)?;
        self.threads -= threads(&taken);
        Some(taken)
    }

    /// Remembers a session as it was just written.
    pub(super) fn put(&mut self, id: SessionId, session: Before) {
        let more = threads(&session);
        // Whoever is asked for still comes back at once: no order of use is kept.
        if self.threads + more > WARM_THREADS {
            self.sessions.clear();
            self.threads = 0;
        }
        self.threads += more;
        if let Some(before) = self.sessions.insert(id, session) {
            self.threads -= threads(&before);
        }
    }

    /// What sessions may be made from, as [`Self::laid`] was told.
    pub(super) fn ground(&self, ground: &Ground) -> Option<&Laid> {
        self.grounds.get(ground)
    }

    /// Sessions may be made from it, until any of it changes.
    pub(super) fn laid(&mut self, ground: Ground, laid: Laid) {
        if self.grounds.len() == WARM_GROUNDS {
            self.grounds.clear();
        }
        self.grounds.insert(ground, laid);
    }

    /// The last number that a session was given.
    pub(super) fn last_number(&self) -> Option<i64> {
        self.last_number
    }

    /// A session was given it.
    pub(super) fn numbered(&mut self, num: i64) {
        self.last_number = Some(num);
    }

    /// Something that sessions are made from changes.
    pub(super) fn forget_grounds(&mut self) {
        self.grounds.clear();
    }

    /// How much of `what` a workspace has, without what the transaction under way adds.
    pub(super) fn count(&self, workspace: WorkspaceId, what: Plenty) -> Option<i64> {
        self.counts.get(&(workspace, what)).copied()
    }

    /// That is what is stored.
    pub(super) fn counted(&mut self, workspace: WorkspaceId, what: Plenty, n: i64) {
        if self.counts.len() == WARM_COUNTS {
            self.counts.clear();
        }
        self.counts.insert((workspace, what), n);
    }

    /// The transaction has added this.
    pub(super) fn added(&mut self, sums: &Sums) {
        for (key, n) in &sums.counted {
            if let Some(count) = self.counts.get_mut(key) {
                *count += n;
            }
        }
    }

    /// Something was undone.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn threads(session: &Before) -> usize {
    1 + session.state.children.len()
}

#[cfg(test)]
mod tests {
    use contract::ids::{ThreadId, WorkspaceId};
    use session::input::Around;
    use session::policy::ToolRules;
    use session::{Opening, open};

    use super::*;

    fn session(n: u128) -> (SessionId, Before) {
        let id = SessionId::from_bits(n);
        let opening = Opening {
            session: id,
            thread: ThreadId::from_bits(n),
            agent_name: String::new(),
            rules: ToolRules::default(),
            budget: None,
            initial: Vec::new(),
        };
        let session = Before {
            num: 1,
            workspace: WorkspaceId::Default,
            agent: String::new(),
            state: open(opening, &Around::default()).state,
        };
        (id, session)
    }

    #[test]
    fn no_more_threads_are_known_than_may_be() {
        let mut warm = Warm::default();
        for n in 1..=3 * WARM_THREADS as u128 {
            let (id, session) = session(n);
            warm.put(id, session);
            assert!(warm.sessions.len() <= WARM_THREADS && warm.threads == warm.sessions.len());
            assert!(warm.sessions.contains_key(&id), "the newest is known");
        }
        let (id, again) = session(3 * WARM_THREADS as u128);
        warm.put(id, again);
        assert_eq!(warm.threads, warm.sessions.len());
        assert!(warm.take(id).is_some() && warm.take(id).is_none());
        assert_eq!(warm.threads, warm.sessions.len());
    }
}
