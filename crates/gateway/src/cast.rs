//! What sessions are made from as it was understood once, remembered by version. A version never changes, so
//! nothing here grows old; whether a session may still be made from it is the store's answer each time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use contract::agent::SessionAgent;
use contract::environment::EnvironmentDefinition;
use contract::ids::{AgentId, EnvironmentId};
use serde_json::value::RawValue;
use session::policy::ToolRules;

use crate::limits::CASTS_BYTES;

/// A session's copy of an agent.
pub(crate) struct Cast {
    pub(crate) agent: SessionAgent,
    /// The same, as it is stored and shown.
    pub(crate) written: Arc<RawValue>,
    /// What its tools may do.
    pub(crate) rules: ToolRules,
}

/// Agents as sessions get them without overrides, by version.
pub(crate) type Casts = Remembered<(AgentId, u32), Cast>;

/// Environments by revision.
pub(crate) type Settings = Remembered<(EnvironmentId, u32), EnvironmentDefinition>;

/// A bounded memory.
pub(crate) struct Remembered<K, V>(RwLock<Known<K, V>>);

struct Known<K, V> {
    bytes: usize,
    values: HashMap<K, Arc<V>>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Known {
            bytes: 0,
            values: HashMap::new(),
        }))
    }
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// The value, if it is known.
    pub(crate) fn known(&self, key: &K) -> Option<Arc<V>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.values.get(key).cloned()
    }

    /// Remembers a value that is about as large as the `bytes` it was read from.
    pub(crate) fn keep(&self, key: K, value: &Arc<V>, bytes: usize) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Whoever is asked for still comes back at once: no order of use is kept.
        if known.bytes + bytes > CASTS_BYTES {
            known.values.clear();
            known.bytes = 0;
        }
        if known.values.insert(key, Arc::clone(value)).is_none() {
            known.bytes += bytes;
        }
    }
}
