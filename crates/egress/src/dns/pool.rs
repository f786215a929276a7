//! Virtual addresses: which name a connection to one of them means. It must never let an address mean
//! another name while a client may still hold it for the old one.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits;
use crate::name::Name;

/// The first of the virtual IPv4 addresses: 198.18.0.0/15 is for benchmarks (RFC 2544), so nobody reaches
/// anything real there.
const V4: u32 = 0xc612_0000;
/// The first of the virtual IPv6 addresses: a prefix of fd00::/8 that was drawn once.
const V6: u128 = 0xfd6c_6e67_6864_0000_0000_0000_0000_0000;

/// The addresses that stand for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// For A.
    pub v4: Ipv4Addr,
    /// For AAAA.
    pub v6: Ipv6Addr,
}

/// Every address stands for a name that was asked for lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a sandbox may use {} names within {} seconds",
    limits::POOL_NAMES,
    limits::POOL_REUSE_AFTER
)]
pub struct Full;

/// The names of one sandbox. At most [`limits::POOL_NAMES`]; the one that was used longest ago makes room,
/// and only [`limits::POOL_REUSE_AFTER`] after its last use.
#[derive(Debug)]
pub struct Pool {
    slots: Vec<Slot>,
    by_name: HashMap<Name, u32>,
    by_use: BTreeSet<(u64, u32)>,
    most: usize,
}

#[derive(Debug)]
struct Slot {
    name: Name,
    used: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self::with_most(limits::POOL_NAMES)
    }
}

impl Pool {
    /// A pool of at most `most` names, and never more than [`limits::POOL_NAMES`].
    #[must_use]
    pub fn with_most(most: usize) -> Self {
        Self {
            slots: Vec::new(),
            by_name: HashMap::new(),
            by_use: BTreeSet::new(),
            most: most.min(limits::POOL_NAMES),
        }
    }

    /// The addresses of `name`, the same ones as long as it is in use. `now` is in seconds of any steady
    /// clock.
    ///
    /// # Errors
    /// [`Full`].
    pub fn assign(&mut self, name: &Name, now: u64) -> Result<Virtual, Full> {
        if let Some(slot) = self.by_name.get(name).copied() {
            self.touch(slot, now);
            return Ok(address(slot));
        }
        let slot = if self.slots.len() < self.most {
            let slot = u32::try_from(self.slots.len()).map_err(|_| Full)?;
            self.slots.push(Slot {
                name: name.clone(),
                used: now,
            });
            slot
        } else {
            self.reuse(name, now)?
        };
        self.by_name.insert(name.clone(), slot);
        self.by_use.insert((now, slot));
        Ok(address(slot))
    }

    /// The name that `ip` stands for, which counts as a use of it: call it for each connection. `None` for
    /// what is no virtual address, or one that stands for nothing.
    pub fn name_of(&mut self, ip: IpAddr, now: u64) -> Option<Name> {
        let slot = slot_of(ip)?;
        let name = self.slots.get(slot as usize)?.name.clone();
        self.touch(slot, now);
        Some(name)
    }

    /// Whether `ip` is in one of the virtual ranges, in use or not.
    #[must_use]
    pub fn is_virtual(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => v4.to_bits() & 0xfffe_0000 == V4,
            IpAddr::V6(v6) => v6.to_bits() >> 32 == V6 >> 32,
        }
    }

    fn touch(&mut self, slot: u32, now: u64) {
        if let Some(held) = self.slots.get_mut(slot as usize) {
            self.by_use.remove(&(held.used, slot));
            held.used = held.used.max(now);
            self.by_use.insert((held.used, slot));
        }
    }

    fn reuse(&mut self, name: &Name, now: u64) -> Result<u32, Full> {
        let (used, slot) = self.by_use.first().copied().ok_or(Full)?;
        if now.saturating_sub(used) < limits::POOL_REUSE_AFTER {
            return Err(Full);
        }
        let held = self.slots.get_mut(slot as usize).ok_or(Full)?;
        self.by_use.remove(&(used, slot));
        self.by_name.remove(&held.name);
        *held = Slot {
            name: name.clone(),
            used: now,
        };
        Ok(slot)
    }
}

/// Slot 0 has the address that ends in 1: the first of a range is often taken for the range itself.
fn address(slot: u32) -> Virtual {
    Virtual {
        v4: Ipv4Addr::from_bits(V4 + slot + 1),
        v6: Ipv6Addr::from_bits(V6 + u128::from(slot) + 1),
    }
}

fn slot_of(ip: IpAddr) -> Option<u32> {
    if !Pool::is_virtual(ip) {
        return None;
    }
    let place = match ip {
        IpAddr::V4(v4) => v4.to_bits() - V4,
        IpAddr::V6(v6) => u32::try_from(v6.to_bits() - V6).ok()?,
    };
    place.checked_sub(1)
}
