//! Owns how much of the disk layers take, and who may have one more. A layer is walked once, after it was sealed and in the
//! background; what was found is written down beside its parts and kept in mind, so that nothing is walked when somebody
//! asks. It makes and removes no layer.
//!
//! **What counts.** All that a layer holds. One that was merged holds what its parts do, by further names of the same files:
//! beside all of them it counts nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::stack::LayerId;

/// What was found of a layer, beside its parts.
const TAKEN: &str = "taken.json";
/// What a layer was merged of, beside its parts.
const MERGED: &str = "merged.json";
/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;
/// Entries after which a walk looks whether it goes too fast, and how many a second it may take: it is to disturb nobody.
const STRIDE: u64 = 1_000;
const RATE: u64 = 50_000;

/// Bytes that layers may take; 0: as many as there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares {
    /// Those that one sandbox lies on, and those of its snapshots.
    pub one: u64,
    /// All together.
    pub all: u64,
}

/// What one layer takes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Taken {
    bytes: u64,
    /// What it was merged of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    of: Vec<LayerId>,
}

/// What all layers take.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counted: BTreeMap<LayerId, Taken>,
    /// Those that are whole and were not walked yet.
    due: BTreeSet<LayerId>,
    /// Whether somebody walks one.
    walking: bool,
}

impl Ledger {
    /// What is written down of the layers in `dir`.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let ledger = Self::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let read = fs::read(entry.path().join(TAKEN)).ok();
            // What is not understood is counted anew.
            let read = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let (Ok(id), Some(taken)) = (LayerId::try_from(name), read) {
                ledger.state().counted.insert(id, taken);
            }
        }
        Ok(ledger)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these walked when there is time: they are whole.
    pub(super) fn note<'a>(&self, layers: impl IntoIterator<Item = &'a LayerId>) {
        let mut state = self.state();
        for id in layers {
            if !state.counted.contains_key(id) {
                state.due.insert(id.clone());
            }
        }
    }

    /// These have gone.
    pub(super) fn forget(&self, id: &LayerId) {
        let mut state = self.state();
        state.counted.remove(id);
        state.due.remove(id);
    }

    /// Walks those below `dir` that were not, one at a time: whoever finds another at it leaves them to that one. Blocks
    /// for as long as that takes.
    pub(super) fn count(&self, dir: &Path) {
        while let Some(id) = self.next() {
            let layer = dir.join(id.as_str());
            let of = fs::read(layer.join(MERGED)).ok();
            let of = of.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let taken = Taken {
                bytes: walked(&layer),
                of: of.unwrap_or_default(),
            };
            // If it is not written down, it is counted again after the next start.
            let written = serde_json::to_vec(&taken).map_err(io::Error::other);
            let _ = written.and_then(|bytes| fs::write(layer.join(TAKEN), bytes));
            let mut state = self.state();
            state.walking = false;
            // It may have gone, and been forgotten, before it was known.
            if layer.is_dir() {
                state.counted.insert(id, taken);
            }
        }
    }

    /// The next to be walked; none if there is none, or somebody walks already.
    fn next(&self) -> Option<LayerId> {
        let mut state = self.state();
        let next = (!state.walking).then(|| state.due.pop_first()).flatten();
        state.walking |= next.is_some();
        next
    }

    /// Bytes of all layers.
    pub(super) fn all(&self) -> u64 {
        let state = self.state();
        let all = state.counted.iter();
        let own = all.filter(|(_, taken)| !is_among(taken, |id| state.counted.contains_key(id)));
        own.map(|(_, taken)| taken.bytes).sum()
    }

    /// Bytes of these.
    pub(super) fn of(&self, layers: &BTreeSet<LayerId>) -> u64 {
        let state = self.state();
        let found = layers.iter().filter_map(|id| state.counted.get(id));
        let own = found.filter(|taken| !is_among(taken, |id| layers.contains(id)));
        own.map(|taken| taken.bytes).sum()
    }
}

/// Whether all that a layer was merged of is there too.
fn is_among(taken: &Taken, has: impl Fn(&LayerId) -> bool) -> bool {
    !taken.of.is_empty() && taken.of.iter().all(has)
}

/// Writes down in the draft of a layer what it is merged of.
pub(super) fn merged_of(draft: &Path, layers: &[LayerId]) -> io::Result<()> {
    fs::write(draft.join(MERGED), serde_json::to_vec(layers)?)
}

/// Bytes of what is below a directory, a file of several names once. Follows no link; what has gone takes nothing.
fn walked(dir: &Path) -> u64 {
    let (start, mut entries, mut bytes) = (Instant::now(), 0_u64, 0_u64);
    let (mut open, mut named) = (vec![dir.to_owned()], HashSet::new());
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            entries += 1;
            if entries.is_multiple_of(STRIDE) {
                let due = start + Duration::from_micros(entries * 1_000_000 / RATE);
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() > 1 && !named.insert(metadata.ino()) {
                continue;
            }
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
        }
    }
    bytes
}
