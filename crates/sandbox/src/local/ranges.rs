//! Owns which host ids live sandboxes use. It maps nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use jail::plan::ID_COUNT;

use crate::error::Error;

/// A region that no distribution hands out: above what systemd gives to containers and below its
/// id for foreign files.
const FIRST: u32 = 0x7000_0000;
const SLOTS: u32 = 4_094;

const _: () = assert!(FIRST as u64 + SLOTS as u64 * ID_COUNT as u64 <= 0x7FFE_0000);

/// Gives each live sandbox a range of its own. Files on disk carry ids counted from 0, so a
/// sandbox may have another range each time. Counts who has each place: one by right, more only where a
/// sandbox of an earlier server was found in it.
#[derive(Default)]
pub(super) struct Ranges(Mutex<HashMap<u32, u32>>);

/// A range in use; free again when dropped.
pub(super) struct Range {
    slot: u32,
    owner: Arc<Ranges>,
}

/// A number that two names seldom share (FNV-1a).
pub(super) fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

impl Ranges {
    /// Starts looking at a place that depends on `name`, so that two servers on a host seldom meet.
    pub(super) fn take(self: &Arc<Self>, name: &str) -> Result<Range, Error> {
        let start = hash(name);
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (0..SLOTS).map(|step| start.wrapping_add(step) % SLOTS);
        let slot = slot.into_iter().find(|slot| !used.contains_key(slot));
        let slot = slot.ok_or_else(|| Error::busy(format!("{SLOTS} sandboxes already run")))?;
        used.insert(slot, 1);
        Ok(Range {
            slot,
            owner: Arc::clone(self),
        })
    }

    /// The range of a sandbox that runs already, whoever else has it. No new one gets it.
    pub(super) fn share(self: &Arc<Self>, base: u32) -> Range {
        let slot = base.wrapping_sub(FIRST) / ID_COUNT;
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *used.entry(slot).or_insert(0) += 1;
        Range {
            slot,
            owner: Arc::clone(self),
        }
    }
}

impl Range {
    pub(super) fn base(&self) -> u32 {
        FIRST + self.slot * ID_COUNT
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let used = self.owner.0.lock();
        let mut used = used.unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut holders) = used.entry(self.slot) {
            *holders.get_mut() -= 1;
            if *holders.get() == 0 {
                holders.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_range_that_was_found_in_use_is_free_only_when_all_have_given_it_back() {
        let ranges = Arc::new(Ranges::default());
        let first = ranges.take("a").unwrap();
        let found = ranges.share(first.base());
        assert_eq!(found.base(), first.base());
        let base = first.base();
        drop(first);
        assert_ne!(ranges.take("a").unwrap().base(), base);
        drop(found);
        assert_eq!(ranges.take("a").unwrap().base(), base);
    }

    #[test]
    fn no_two_live_sandboxes_share_ids_and_a_dead_one_gives_its_back() {
        let ranges = Arc::new(Ranges::default());
        let held: Vec<_> = (0..SLOTS).map(|_| ranges.take("same").unwrap()).collect();
        let bases: HashSet<_> = held.iter().map(Range::base).collect();
        assert_eq!(bases.len(), held.len());
        assert!(ranges.take("other").is_err());
        drop(held);
        assert!(ranges.take("other").is_ok());
    }
}
