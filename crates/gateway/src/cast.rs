//! Agents as sessions get them without overrides, remembered by version. A version never changes, so
//! nothing here grows old; whether a session may still be made from it is the store's answer each time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use contract::agent::SessionAgent;
use contract::ids::AgentId;
use serde_json::value::RawValue;

use crate::limits::CASTS_BYTES;

/// A session's copy of an agent.
pub(crate) struct Cast {
    pub(crate) agent: SessionAgent,
    /// The same, as it is stored.
    pub(crate) written: Box<RawValue>,
}

/// What is remembered.
#[derive(Default)]
pub(crate) struct Casts(RwLock<Known>);

#[derive(Default)]
struct Known {
    bytes: usize,
    casts: HashMap<(AgentId, u32), Arc<Cast>>,
}

impl Casts {
    /// The copy of this version, if it is known.
    pub(crate) fn known(&self, agent: AgentId, version: u32) -> Option<Arc<Cast>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.casts.get(&(agent, version)).cloned()
    }

    /// Remembers the copy of this version.
    pub(crate) fn keep(&self, agent: AgentId, version: u32, cast: &Arc<Cast>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let bytes = cast.written.get().len();
        // Whoever is asked for still comes back at once: no order of use is kept.
        if known.bytes + bytes > CASTS_BYTES {
            *known = Known::default();
        }
        let before = known.casts.insert((agent, version), Arc::clone(cast));
        if before.is_none() {
            known.bytes += bytes;
        }
    }
}
