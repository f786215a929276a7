//! What was read and is remembered until it changes. It never outlives a change that was answered: the
//! writer forgets before it answers, and a read that began before a change does not bring the old back.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A bounded memory. A change forgets everything: changes are rare beside reads.
#[derive(Debug)]
pub(crate) struct Known<K, V> {
    inner: RwLock<Inner<K, V>>,
    /// The weight it may hold.
    most: usize,
}

#[derive(Debug)]
struct Inner<K, V> {
    /// Counts changes.
    epoch: u64,
    weight: usize,
    values: HashMap<K, V>,
}

/// When a value was asked for that was not known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch(u64);

impl<K: Eq + Hash, V: Clone> Known<K, V> {
    /// A memory that holds values of `most` together, in whatever unit [`Self::put`] weighs them.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            inner: RwLock::new(Inner {
                epoch: 0,
                weight: 0,
                values: HashMap::new(),
            }),
            most,
        }
    }

    /// The value, or what [`Self::put`] wants to be shown with the one that is now read.
    pub(crate) fn get(&self, key: &K) -> Result<V, Epoch> {
        let inner = self.shared();
        inner.values.get(key).cloned().ok_or(Epoch(inner.epoch))
    }

    /// Remembers what was read since `epoch`, unless anything changed since.
    pub(crate) fn put(&self, epoch: Epoch, key: K, value: V, weight: usize) {
        let mut inner = self.alone();
        if inner.epoch != epoch.0 || weight > self.most {
            return;
        }
        // Whoever is asked for still comes back at once: no order of use is kept.
        if inner.weight + weight > self.most {
            inner.values.clear();
            inner.weight = 0;
        }
        if inner.values.insert(key, value).is_none() {
            inner.weight += weight;
        }
    }

    /// Forgets everything, and what is being read just now.
    pub(crate) fn forget(&self) {
        let mut inner = self.alone();
        inner.epoch += 1;
        inner.weight = 0;
        inner.values.clear();
    }

    fn shared(&self) -> RwLockReadGuard<'_, Inner<K, V>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, Inner<K, V>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_began_before_a_change_brings_nothing_back() {
        let known = Known::new(10);
        let before = known.get(&1).expect_err("nothing is known");
        known.forget();
        known.put(before, 1, "old", 1);
        let after = known.get(&1).expect_err("the old one was not remembered");
        known.put(after, 1, "new", 1);
        assert_eq!(known.get(&1).ok(), Some("new"));
        known.forget();
        assert!(known.get(&1).is_err());
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let known = Known::new(10);
        for key in 0..100 {
            let epoch = known.get(&key).expect_err("not asked before");
            known.put(epoch, key, (), 3);
            assert!(known.get(&key).is_ok(), "the newest is known");
            assert!(known.shared().values.len() <= 3);
        }
        let epoch = known.get(&100).expect_err("not asked before");
        known.put(epoch, 100, (), 11);
        assert!(known.get(&100).is_err(), "too large to be kept");
    }
}
