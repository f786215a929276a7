//! Owns the directory of layers and snapshots, and every change of what lies under a sandbox. It decides nothing about
//! sandboxes: who calls has their lock where it says so.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jail::image::{LAYOUT, SEALED, STATE, WORKS};
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use rustix::io::Errno;
use tokio::sync::Semaphore;

use super::copy::{Copier, Files, attributes, open_dir};
use super::directories::{is_like, like, make_all, private};
use super::hold::Hold;
use super::ledger::{self, Ledger, Shares};
use super::manifest::Manifest;
use super::merge::Merger;
use super::reached::reached;
use super::stack::{LayerId, NEXT, STACK, Stack};
use crate::limits::{ARCHIVES_AT_ONCE, LAYERS_MANY, LAYERS_MOST, SNAPSHOTS};
use crate::snapshot::{NewSnapshot, Snapshot, SnapshotId};

/// What the names of workspaces begin with that are not whole yet: no sandbox has such a name.
const DRAFT: &str = ".new-";
/// What the session has given: it stays with the sandbox, whatever becomes of the workspace.
const GIVEN: &str = "uploads";
/// Which volumes it has: a file that is never changed in place.
pub(crate) const HELD: &str = "volumes.json";
/// What is written down of a sandbox beside its files.
const KEPT: &str = "diary";

/// The layers and snapshots of one directory of sandboxes. All of it blocks.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(super) home: PathBuf,
    pub(super) sandboxes: PathBuf,
    /// Whether sandboxes have ids of their own: layers are marked for who mounts them.
    pub(super) own_ids: bool,
    /// Exports and imports that may begin.
    pub(super) travellers: Arc<Semaphore>,
    pub(super) shares: Shares,
    pub(super) ledger: Ledger,
}

/// A layer that is what several are together, and stays there while this does.
#[derive(Debug)]
pub(crate) struct Merged {
    whole: Stack,
    id: LayerId,
    _hold: Hold,
}

/// A workspace that was in another's way: for the trash.
#[derive(Debug)]
pub(crate) struct Replaced(pub(crate) PathBuf);

impl Layers {
    /// Those kept in `home`, a private directory on the same file system as the sandboxes in `sandboxes`.
    pub(crate) fn open(home: PathBuf, sandboxes: PathBuf, own_ids: bool) -> io::Result<Self> {
        let mut new = Self {
            home,
            sandboxes,
            own_ids,
            travellers: Arc::new(Semaphore::new(ARCHIVES_AT_ONCE)),
            shares: Shares::default(),
            ledger: Ledger::default(),
        };
        for dir in [new.layers(), new.manifests()] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        new.ledger = Ledger::open(&new.layers())?;
        Ok(new)
    }

    /// The same, which may take so much of the disk.
    pub(crate) fn with_shares(self, shares: Shares) -> Self {
        Self { shares, ..self }
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.home.join("layers")
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.home.join("manifests")
    }

    pub(super) fn hold(&self) -> io::Result<Hold> {
        Hold::shared(&self.lock())
    }

    /// The directories of the sealed layers of the sandbox in `dir`, uppermost first, once what was begun there is
    /// finished. Its lock is held.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] names a layer that has gone.
    pub(crate) fn of(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.settle(dir)?;
        let stack = Stack::of(dir)?;
        if !stack.layers.is_empty() {
            make_all(dir, &WORKS)?;
        }
        let paths = stack.layers.iter().rev().map(|id| {
            let path = self.layers().join(id.as_str());
            match path.is_dir() {
                true => Ok(path),
                false => Err(lost(id)),
            }
        });
        paths.collect()
    }

    /// Makes the sandbox `to` with the files that the one in `from` has. The lock of `from` is held, and nothing runs
    /// in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is a sandbox `to`.
    pub(crate) fn fork(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _hold = self.hold()?;
        let stack = self.seal(from)?;
        self.publish(&stack, to)
    }

    /// The same of one in which nothing moves but much may run: its files are copied.
    ///
    /// # Errors
    /// As [`Layers::fork`]; [`io::ErrorKind::TimedOut`] at the deadline.
    pub(crate) fn fork_live(&self, from: &Path, to: &Path, deadline: Instant) -> io::Result<()> {
        let _hold = self.hold()?;
        if to.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let stack = self.copy(from, deadline)?;
        self.flush()?;
        self.publish(&stack, to)
    }

    /// Keeps what the sandbox in `dir` has. Its lock is held, and nothing runs in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] for a name that is taken; [`io::ErrorKind::QuotaExceeded`] when there are as
    /// many as may be.
    pub(crate) fn snapshot(&self, dir: &Path, of: &str, new: NewSnapshot) -> io::Result<Snapshot> {
        let _hold = self.hold()?;
        self.room(of)?;
        let stack = self.seal(dir)?;
        self.keep(stack, of, new, false)
    }

    /// The same of one in which nothing moves but much may run.
    ///
    /// # Errors
    /// As [`Layers::snapshot`]; [`io::ErrorKind::TimedOut`] at the deadline.
    pub(crate) fn snapshot_live(
        &self,
        dir: &Path,
        of: &str,
        new: NewSnapshot,
        deadline: Instant,
    ) -> io::Result<Snapshot> {
        let _hold = self.hold()?;
        self.room(of)?;
        let stack = self.copy(dir, deadline)?;
        self.keep(stack, of, new, true)
    }

    /// Has the sandbox `to` have what a snapshot has. Its lock is held if it is there. What it had is for the trash.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such snapshot; [`io::ErrorKind::AlreadyExists`] when the sandbox
    /// has come to be meanwhile.
    pub(crate) fn restore(&self, from: &SnapshotId, to: &Path) -> io::Result<Option<Replaced>> {
        let _hold = self.hold()?;
        let manifest = Manifest::read(&self.manifests(), from)?;
        let manifest = manifest.ok_or(io::ErrorKind::NotFound)?;
        if !to.exists() {
            self.publish(&manifest.stack, to)?;
            return Ok(None);
        }
        let draft = self.draft(&manifest.stack)?;
        if to.join(GIVEN).exists() {
            fs::remove_dir(draft.join(GIVEN))?;
            Copier::new(Files::Linked, None).tree(&to.join(GIVEN), &draft.join(GIVEN))?;
        }
        match fs::copy(to.join(KEPT), draft.join(KEPT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::hard_link(to.join(HELD), draft.join(HELD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        reached("draft whole");
        // By a rename: how much there is inside, and how deep, is not ours to say. Whoever dies between the two loses
        // it, and it is made from the log anew.
        let (known, new) = (to.join(STATE), draft.join(STATE));
        match renameat_with(CWD, &known, CWD, &new, RenameFlags::EXCHANGE) {
            // An older build has made this sandbox.
            Err(Errno::NOENT) => {}
            other => other?,
        }
        reached("state moved");
        renameat_with(CWD, &draft, CWD, to, RenameFlags::EXCHANGE)?;
        reached("exchanged");
        Ok(Some(Replaced(draft)))
    }

    /// Every snapshot, the oldest first.
    pub(crate) fn snapshots(&self) -> io::Result<Vec<Snapshot>> {
        let all = Manifest::all(&self.manifests())?;
        let mut all: Vec<Snapshot> = all.into_iter().map(|one| one.snapshot).collect();
        all.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(all)
    }

    /// Removes a snapshot; false if there is none. What it referred to is garbage unless others do.
    pub(crate) fn remove(&self, id: &SnapshotId) -> io::Result<bool> {
        let _hold = self.hold()?;
        Manifest::remove(&self.manifests(), id)
    }

    /// Gives to `trash` what nobody refers to; false while somebody makes something, so that nobody knows.
    pub(crate) fn collect(&self, trash: impl Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
        let Some(_alone) = Hold::alone(&self.lock())? else {
            return Ok(false);
        };
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

    /// Whether the sandbox in `dir` has so many layers, or such heavy ones, that they should be merged.
    pub(crate) fn is_deep(&self, dir: &Path) -> bool {
        Stack::of(dir).is_ok_and(|stack| stack.layers.len() > LAYERS_MANY || self.is_heavy(&stack))
    }

    /// Makes one layer of all those of the sandbox in `dir`, which may run meanwhile: nothing of it changes. None if
    /// there is nothing to merge.
    pub(crate) fn merge(&self, dir: &Path) -> io::Result<Option<Merged>> {
        let hold = self.hold()?;
        let whole = Stack::of(dir)?;
        if whole.layers.len() < 2 {
            return Ok(None);
        }
        let id = self.merged(&whole)?;
        Ok(Some(Merged {
            whole,
            id,
            _hold: hold,
        }))
    }

    /// Has the sandbox in `dir` lie on what was merged, if it still has the layers that this was made of. Its lock is
    /// held, and nothing runs in it.
    pub(crate) fn lay_on(&self, dir: &Path, merged: Merged) -> io::Result<()> {
        self.settle(dir)?;
        let Stack { template, layers } = Stack::of(dir)?;
        if template == merged.whole.template
            && let Some(since) = layers.strip_prefix(merged.whole.layers.as_slice())
        {
            let layers = [&[merged.id], since].concat();
            Stack { template, layers }.put(dir, STACK)?;
            reached("merged");
        }
        Ok(())
    }

    /// The layer that is what those of a stack are together.
    fn merged(&self, stack: &Stack) -> io::Result<LayerId> {
        let id = LayerId::merged(&stack.layers);
        let layer = self.layers().join(id.as_str());
        if !layer.is_dir() {
            let draft = self.layers().join(LayerId::fresh()?.as_str());
            private(&draft)?;
            for (name, _) in SEALED {
                let parts: Vec<PathBuf> = stack
                    .layers
                    .iter()
                    .rev()
                    .map(|id| self.part(id, name))
                    .collect();
                let parts: Vec<&Path> = parts.iter().map(PathBuf::as_path).collect();
                // Below the layers of the root lies the template.
                let mut merger = Merger::new(name == SEALED[0].0, self.own_ids);
                merger.merge(&parts, &draft.join(name))?;
                reached("part merged");
            }
            ledger::merged_of(&draft, &stack.layers)?;
            // It has to be on the disk before anybody gives up what it was made from.
            self.flush()?;
            match fs::rename(&draft, &layer) {
                // Somebody else has merged the same.
                Err(_) if layer.is_dir() => {}
                other => other?,
            }
            reached("layer merged");
        }
        Ok(id)
    }

    fn part(&self, layer: &LayerId, name: &str) -> PathBuf {
        self.layers().join(layer.as_str()).join(name)
    }

    /// Seals what the sandbox in `dir` has written since its last seal; its stack.
    pub(super) fn seal(&self, dir: &Path) -> io::Result<Stack> {
        self.settle(dir)?;
        let mut stack = Stack::of(dir)?;
        if let Some(top) = stack.layers.last()
            && self.is_unchanged(dir, top)?
        {
            return Ok(stack);
        }
        self.share(dir, &stack)?;
        if stack.layers.len() >= LAYERS_MOST {
            let merged = self.merged(&stack)?;
            stack = Stack::on(stack.template).with(merged);
            stack.put(dir, STACK)?;
        }
        let id = LayerId::fresh()?;
        private(&self.layers().join(id.as_str()))?;
        reached("layer made");
        let next = stack.with(id);
        next.put(dir, NEXT)?;
        reached("seal announced");
        self.finish(dir, &next)?;
        self.ledger.note(&next.layers);
        Ok(next)
    }

    /// Finishes a seal that was announced.
    fn settle(&self, dir: &Path) -> io::Result<()> {
        match Stack::at(dir, NEXT)? {
            Some(next) => self.finish(dir, &next),
            None => Ok(()),
        }
    }

    /// Every step is done once, whoever does it, and tells by what there is that it is done.
    fn finish(&self, dir: &Path, next: &Stack) -> io::Result<()> {
        if let Some(top) = next.layers.last() {
            for (name, place) in SEALED {
                let (open, sealed) = (dir.join(place), self.part(top, name));
                if !sealed.exists() {
                    fs::rename(&open, &sealed)?;
                    reached("part sealed");
                }
                if !open.exists() {
                    like(&sealed, &open)?;
                    reached("part opened");
                }
            }
        }
        make_all(dir, &WORKS)?;
        reached("works made");
        fs::rename(dir.join(NEXT), dir.join(STACK))?;
        reached("sealed");
        Ok(())
    }

    /// Whether nothing was written since that layer was sealed.
    fn is_unchanged(&self, dir: &Path, top: &LayerId) -> io::Result<bool> {
        for (name, place) in SEALED {
            let open = dir.join(place);
            if fs::read_dir(&open)?.next().is_some() || !is_like(&self.part(top, name), &open)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies what the sandbox in `dir` has written since its last seal into a layer; its stack with that.
    pub(super) fn copy(&self, dir: &Path, deadline: Instant) -> io::Result<Stack> {
        self.share(dir, &Stack::of(dir)?)?;
        let id = LayerId::fresh()?;
        let layer = self.layers().join(id.as_str());
        private(&layer)?;
        reached("layer made");
        let mut copier = Copier::new(Files::Copied, Some(deadline));
        for (name, place) in SEALED {
            copier.tree(&dir.join(place), &layer.join(name))?;
            reached("part copied");
        }
        let stack = Stack::of(dir)?;
        self.ledger.note([&id]);
        if stack.layers.len() >= LAYERS_MOST {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("it lies on {LAYERS_MOST} layers: stop it, and they are merged"),
            ));
        }
        Ok(stack.with(id))
    }

    fn room(&self, of: &str) -> io::Result<()> {
        let all = Manifest::all(&self.manifests())?;
        let of_this = all.iter().filter(|one| one.snapshot.sandbox == of).count();
        if of_this < SNAPSHOTS {
            return Ok(());
        }
        let problem = format!("there are {SNAPSHOTS} snapshots of it: remove some");
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, problem))
    }

    fn keep(&self, stack: Stack, of: &str, new: NewSnapshot, live: bool) -> io::Result<Snapshot> {
        self.flush()?;
        reached("flushed");
        let snapshot = Snapshot {
            id: new.id,
            sandbox: of.to_owned(),
            at: new.at,
            workspace: new.workspace,
            note: new.note,
            live,
        };
        let manifest = Manifest::new(snapshot, stack);
        manifest.publish(&self.manifests())?;
        reached("kept");
        Ok(manifest.snapshot)
    }

    /// Has all that there is on the disk.
    pub(super) fn flush(&self) -> io::Result<()> {
        Ok(syncfs(File::open(&self.home)?)?)
    }

    /// A new workspace on that stack, of no sandbox yet.
    fn draft(&self, stack: &Stack) -> io::Result<PathBuf> {
        let draft = self.sandboxes.join(format!("{DRAFT}{}", LayerId::fresh()?));
        private(&draft)?;
        make_all(&draft, &LAYOUT)?;
        make_all(&draft, &WORKS)?;
        if let Some(top) = stack.layers.last() {
            for (name, place) in SEALED {
                let sealed = self.part(top, name);
                if !sealed.is_dir() {
                    return Err(lost(top));
                }
                attributes(&open_dir(CWD, &sealed)?, &open_dir(CWD, draft.join(place))?)?;
            }
        }
        stack.put(&draft, STACK)?;
        reached("drafted");
        Ok(draft)
    }

    pub(super) fn publish(&self, stack: &Stack, to: &Path) -> io::Result<()> {
        let draft = self.draft(stack)?;
        match renameat_with(CWD, &draft, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {
                fs::remove_dir_all(&draft)?;
                Err(io::ErrorKind::AlreadyExists.into())
            }
            other => Ok(other?),
        }
    }
}

fn lost(layer: &LayerId) -> io::Error {
    let problem = format!("layer {layer} of the workspace is not there any more");
    io::Error::new(io::ErrorKind::NotFound, problem)
}
