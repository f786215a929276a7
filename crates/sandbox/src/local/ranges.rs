//! Owns which host ids live sandboxes use. It maps nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use jail::plan::ID_COUNT;

use crate::error::Error;

/// A region that no distribution hands out: above what systemd gives to containers and below its
/// id for foreign files.
const FIRST: u32 = 0x7000_0000;
const SLOTS: u32 = 4_094;

const _: () = assert!(FIRST as u64 + SLOTS as u64 * ID_COUNT as u64 <= 0x7FFE_0000);

/// Gives each live sandbox a range of its own. Files on disk carry ids counted from 0, so a
/// sandbox may have another range each time.
#[derive(Default)]
pub(super) struct Ranges(Mutex<HashSet<u32>>);

/// A range in use; free again when dropped.
pub(super) struct Range {
    slot: u32,
    owner: Arc<Ranges>,
}

impl Ranges {
    /// Starts looking at a place that depends on `name`, so that two servers on a host seldom meet.
    pub(super) fn take(self: &Arc<Self>, name: &str) -> Result<Range, Error> {
        let start = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (0..SLOTS).map(|step| start.wrapping_add(step) % SLOTS);
        let slot = slot.into_iter().find(|slot| !used.contains(slot));
        let slot = slot.ok_or_else(|| Error::busy(format!("{SLOTS} sandboxes already run")))?;
        used.insert(slot);
        Ok(Range {
            slot,
            owner: Arc::clone(self),
        })
    }
}

impl Range {
    pub(super) fn base(&self) -> u32 {
        FIRST + self.slot * ID_COUNT
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        self.owner
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
