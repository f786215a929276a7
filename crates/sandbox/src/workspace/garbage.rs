//! Owns finding the layers that nobody refers to any more. It removes nothing itself, and makes nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::hold::Hold;
use super::layers::{DRAFT, Layers};
use super::manifest::Manifest;
use super::stack::{LayerId, NEXT, STACK, Stack};

impl Layers {
    /// Whether the end of the sandbox in `dir` may leave something that nobody refers to, or an earlier one has: looking
    /// takes longer the more sandboxes there are, and most refer to nothing.
    pub(crate) fn leaves(&self, dir: &Path) -> bool {
        let refers = |name| match Stack::at(dir, name) {
            Ok(stack) => stack.is_some_and(|stack| !stack.layers.is_empty()),
            Err(_) => true,
        };
        self.owed.load(Ordering::SeqCst) || refers(STACK) || refers(NEXT)
    }

    /// Gives to `trash` what nobody refers to; false while somebody makes something, so that nobody knows.
    pub(crate) fn collect(&self, trash: impl Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
        let collected = self.try_collect(trash);
        if !matches!(collected, Ok(true)) {
            self.owed.store(true, Ordering::SeqCst);
        }
        collected
    }

    fn try_collect(&self, trash: impl Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
        let Some(_alone) = Hold::alone(&self.lock())? else {
            return Ok(false);
        };
        // Before looking: what is left meanwhile is owed.
        self.owed.store(false, Ordering::SeqCst);
        let (mut wanted, mut announced) = (HashSet::new(), HashSet::new());
        for manifest in Manifest::all(&self.manifests())? {
            wanted.extend(manifest.stack.layers);
        }
        for entry in fs::read_dir(&self.sandboxes)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                trash(&entry.path())?;
                continue;
            }
            for name in [STACK, NEXT] {
                let stack = Stack::at(&entry.path(), name);
                // No sandbox: a file of the provider's.
                if entry.file_type()?.is_dir() {
                    let layers = stack?.unwrap_or_default().layers;
                    announced.extend(layers.last().filter(|_| name == NEXT).cloned());
                    wanted.extend(layers);
                }
            }
        }
        for entry in fs::read_dir(self.layers())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = LayerId::try_from(name).ok();
            if id.as_ref().is_some_and(|id| wanted.contains(id)) {
                continue;
            }
            trash(&entry.path())?;
            if let Some(id) = id {
                self.ledger.forget(&id);
            }
        }
        // Nobody seals meanwhile: what is referred to and not announced is whole.
        self.ledger.note(wanted.difference(&announced));
        Ok(true)
    }
}
