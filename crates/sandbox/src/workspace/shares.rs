//! Owns who is refused one more layer, and what is told whoever is: which snapshots hold how much. It removes none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::layers::Layers;
use super::ledger::Shares;
use super::manifest::Manifest;
use super::stack::{LayerId, NEXT, STACK, Stack};

/// Snapshots that are named to whoever is refused.
const NAMED: usize = 5;

impl Layers {
    /// Walks the layers that were not walked yet, if anybody is held to a share. Blocks for as long as that takes.
    pub(crate) fn count(&self) {
        if self.shares != Shares::default() {
            self.ledger.count(&self.layers());
        }
    }

    /// Fails when the sandbox in `dir`, which lies on `stack`, may have no further layer. What was not counted yet counts
    /// nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] says what to remove.
    pub(super) fn share(&self, dir: &Path, stack: &Stack) -> io::Result<()> {
        self.share_of_all()?;
        let most = self.shares.one;
        // Where all together take less, nobody has to be asked who has what.
        if most == 0 || self.ledger.all() < most {
            return Ok(());
        }
        let of = dir.file_name().unwrap_or_default().to_string_lossy();
        let all = Manifest::all(&self.manifests())?;
        let (own, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| one.snapshot.sandbox == *of);
        let mut layers: BTreeSet<LayerId> = stack.layers.iter().cloned().collect();
        layers.extend(own.iter().flat_map(|one| one.stack.layers.iter().cloned()));
        let taken = self.ledger.of(&layers);
        if taken < most {
            return Ok(());
        }
        let mut held = self.held_by_sandboxes()?;
        held.extend(others.into_iter().flat_map(|one| one.stack.layers));
        let remove = self.given_back(&own, &held);
        Err(refused(format!(
            "the layers of the sandbox and of its snapshots take {} MiB, and {} MiB is what they may \
             (`sandbox.layers_mib`): {remove}",
            taken >> 20,
            most >> 20
        )))
    }

    /// Fails when there may be no further layer of anybody.
    ///
    /// # Errors
    /// As [`Layers::share`].
    pub(super) fn share_of_all(&self) -> io::Result<()> {
        let most = self.shares.all;
        let taken = self.ledger.all();
        if most == 0 || taken < most {
            return Ok(());
        }
        Err(refused(format!(
            "the layers and snapshots of all sandboxes take {} MiB, and {} MiB is what they may \
             (`sandbox.layers_together_mib`): remove snapshots and sandboxes that nobody needs, or have the operator \
             allow more",
            taken >> 20,
            most >> 20
        )))
    }

    /// Whether the layers of a stack take so much that what is hidden in them should be given back: all that they may,
    /// or much of it since they were merged last.
    pub(super) fn is_heavy(&self, stack: &Stack) -> bool {
        let of = |layers: &[LayerId]| self.ledger.of(&layers.iter().cloned().collect());
        let most = self.shares.one;
        match stack.layers.as_slice() {
            [_, since @ ..] if most > 0 && !since.is_empty() => {
                of(&stack.layers) >= most || of(since) > most / 4
            }
            _ => false,
        }
    }

    /// The layers that any sandbox lies on.
    fn held_by_sandboxes(&self) -> io::Result<BTreeSet<LayerId>> {
        let mut held = BTreeSet::new();
        for entry in fs::read_dir(&self.sandboxes)? {
            let entry = entry?;
            for name in [STACK, NEXT] {
                // What is no sandbox, or has just gone, lies on nothing.
                let stack = Stack::at(&entry.path(), name).ok().flatten();
                held.extend(stack.unwrap_or_default().layers);
            }
        }
        Ok(held)
    }

    /// What removing snapshots would give back: of each what nobody else holds, the most first.
    fn given_back(&self, own: &[Manifest], held: &BTreeSet<LayerId>) -> String {
        let mut found = Vec::new();
        for (at, one) in own.iter().enumerate() {
            let others = own.iter().enumerate().filter(|(other, _)| *other != at);
            let others: BTreeSet<&LayerId> = others.flat_map(|(_, o)| &o.stack.layers).collect();
            let alone = one.stack.layers.iter();
            let alone = alone.filter(|id| !held.contains(*id) && !others.contains(id));
            let bytes = self.ledger.of(&alone.cloned().collect());
            if bytes > 0 {
                found.push((bytes, &one.snapshot.id));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        if found.is_empty() {
            return "remove snapshots of it (`longhand sandbox rm-snapshot`), or files in it: what it lies on itself is \
                    given back when it rests"
                .to_owned();
        }
        let named = found.iter().take(NAMED);
        let named: Vec<_> = named
            .map(|(bytes, id)| format!("{id} gives back {} MiB", bytes >> 20))
            .collect();
        format!(
            "remove snapshots (`longhand sandbox rm-snapshot`): {}",
            named.join(", ")
        )
    }
}

fn refused(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, problem)
}
