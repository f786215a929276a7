//! Owns which host ids live sandboxes use. It maps nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jail::plan::ID_COUNT;
use rustix::fs::{FlockOperation, flock};

use super::dirs::private_dir;
use crate::error::Error;

/// Where the servers of a host tell each other which ranges live sandboxes have: one file each, locked for as long as
/// the sandbox lives. In memory, so that nothing of it outlasts a boot.
pub(super) const OF_THE_HOST: &str = "/run/longhand-ids";

/// A region that no distribution hands out: above what systemd gives to containers and below its
/// id for foreign files.
const FIRST: u32 = 0x7000_0000;
const SLOTS: u32 = 4_094;

const _: () = assert!(FIRST as u64 + SLOTS as u64 * ID_COUNT as u64 <= 0x7FFE_0000);

/// Gives each live sandbox a range of its own. Files on disk carry ids counted from 0, so a
/// sandbox may have another range each time. Counts who has each place: one by right, more only where a
/// sandbox of an earlier server was found in it.
pub(super) struct Ranges {
    used: Mutex<HashMap<u32, u32>>,
    /// Of the directory whose sandboxes these are.
    seed: u32,
    /// The locks that keep other servers of this host away from what is in use.
    locks: Option<PathBuf>,
}

/// A range in use; free again when dropped, and, for other servers, when its lock has gone too.
pub(super) struct Range {
    slot: u32,
    owner: Arc<Ranges>,
    lock: Option<File>,
}

/// A number that two names seldom share (FNV-1a).
pub(super) fn hash(name: &str) -> u32 {
    hash_on(0x811c_9dc5, name)
}

fn hash_on(begun: u32, name: &str) -> u32 {
    name.bytes().fold(begun, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

impl Ranges {
    /// For the sandboxes below `dir`, with the locks of the host in `locks`. Where those cannot be kept, or another
    /// server does not see that directory, two servers of a host can meet on a range, if seldom: see [`Self::take`].
    pub(super) fn of(dir: &Path, locks: Option<&Path>) -> Arc<Self> {
        let locks = locks.and_then(|locks| match private_dir(locks) {
            Ok(()) => Some(locks.to_owned()),
            Err(error) => {
                tracing::info!(%error, "another server of this host may give the same user ids to a sandbox");
                None
            }
        });
        Arc::new(Self {
            used: Mutex::default(),
            seed: hash(&dir.to_string_lossy()),
            locks,
        })
    }

    /// A range that no live sandbox of this host has. Blocks no longer than opening a file in memory.
    ///
    /// Starts looking at a place that depends on the directory and `name`, so that two servers that do not see each
    /// other's locks seldom meet, whatever their sandboxes are called: those that meet share what the kernel counts
    /// for one user, and one that has taken all of it lets the other not even start.
    pub(super) fn take(self: &Arc<Self>, name: &str) -> Result<Range, Error> {
        let start = hash_on(self.seed, name);
        (0..SLOTS)
            .find_map(|step| self.try_take(start.wrapping_add(step) % SLOTS))
            .ok_or_else(|| Error::busy(format!("{SLOTS} sandboxes already run")))
    }

    fn try_take(self: &Arc<Self>, slot: u32) -> Option<Range> {
        match self.used().entry(slot) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(free) => free.insert(1),
        };
        let mut range = Range {
            slot,
            owner: Arc::clone(self),
            lock: None,
        };
        let path = self
            .locks
            .as_ref()
            .map(|locks| locks.join(slot.to_string()));
        let lock = path.and_then(|path| lock(&path).ok());
        if let Some(lock) = lock {
            flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
            range.lock = Some(lock);
        }
        Some(range)
    }

    fn used(&self) -> std::sync::MutexGuard<'_, HashMap<u32, u32>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The range of a sandbox that runs already, whoever else has it. No new one gets it.
    pub(super) fn share(self: &Arc<Self>, base: u32) -> Range {
        let slot = base.wrapping_sub(FIRST) / ID_COUNT;
        *self.used().entry(slot).or_insert(0) += 1;
        Range {
            slot,
            owner: Arc::clone(self),
            // Its supervisor has that.
            lock: None,
        }
    }
}

/// The file of a range's lock, made if it is missing.
fn lock(path: &Path) -> std::io::Result<File> {
    let mut file = OpenOptions::new();
    file.write(true).create(true).truncate(false).mode(0o600);
    file.open(path)
}

impl Range {
    pub(super) fn base(&self) -> u32 {
        FIRST + self.slot * ID_COUNT
    }

    /// What keeps other servers away, for the supervisor: it holds it until the last process of the sandbox has
    /// ended, whatever becomes of this server.
    pub(super) fn hand_over(&mut self) -> Option<File> {
        self.lock.take()
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let mut used = self.owner.used();
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
        let ranges = Ranges::of(Path::new("/a"), None);
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
        let ranges = Ranges::of(Path::new("/a"), None);
        let held: Vec<_> = (0..SLOTS).map(|_| ranges.take("same").unwrap()).collect();
        let bases: HashSet<_> = held.iter().map(Range::base).collect();
        assert_eq!(bases.len(), held.len());
        assert!(ranges.take("other").is_err());
        drop(held);
        assert!(ranges.take("other").is_ok());
    }

    #[test]
    fn sandboxes_of_one_name_in_two_directories_begin_to_look_at_two_places() {
        let [one, other] = ["/tmp/.tmpA/sandboxes", "/tmp/.tmpB/sandboxes"].map(Path::new);
        let (one, other) = (Ranges::of(one, None), Ranges::of(other, None));
        let base = |ranges: &Arc<Ranges>| ranges.take("attacked").unwrap().base();
        assert_ne!(base(&one), base(&other));
    }

    #[test]
    fn two_servers_of_a_host_never_give_the_same_ids_while_a_sandbox_of_either_lives() {
        let locks = tempfile::tempdir().unwrap();
        let locks = locks.path().join("ids");
        let server = || Ranges::of(Path::new("/a"), Some(&locks));
        let (one, other) = (server(), server());
        let mut first = one.take("a").unwrap();
        let base = first.base();
        assert_ne!(other.take("a").unwrap().base(), base);
        let supervisors = first.hand_over().unwrap();
        drop((first, one));
        assert_ne!(
            server().take("a").unwrap().base(),
            base,
            "its server has gone"
        );
        drop(supervisors);
        assert_eq!(other.take("a").unwrap().base(), base);
    }
}
