//! Owns workspaces that leave this host or come to it as archives. What is in an archive it does not know.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::directories::private;
use super::hold::Hold;
use super::layers::Layers;
use super::manifest::Manifest;
use super::pack::pack;
use super::reached::reached;
use super::stack::{LayerId, Stack};
use super::unpack::unpack;
use crate::archive::{Bounds, Fault, Opening, pipe};
use crate::snapshot::SnapshotId;
use crate::template::TemplateId;

/// A workspace that stays as it is while this is there.
#[derive(Debug)]
pub(crate) struct Still {
    /// The directories of its layers, uppermost first.
    layers: Vec<PathBuf>,
    template: Option<TemplateId>,
    own_ids: bool,
    _hold: Hold,
}

impl Still {
    /// Writes it as an archive.
    pub(crate) fn pack(&self, to: impl Write) -> io::Result<()> {
        let opening = Opening::new(self.template.clone());
        pipe::packed(to, |to| pack(&self.layers, &opening, to, self.own_ids)).map(drop)
    }
}

impl Layers {
    /// The right to be one of the few archives that are under way; none while as many as may be are.
    pub(crate) fn traveller(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.travellers).try_acquire_owned().ok()
    }

    /// Keeps what the sandbox in `dir` has from being collected, and says where it is. Its lock is held, and nothing
    /// runs in it.
    pub(crate) fn still(&self, dir: &Path) -> io::Result<Still> {
        let hold = self.hold()?;
        let stack = self.seal(dir)?;
        self.kept_still(&stack, hold)
    }

    /// The same of one in which nothing moves but much may run.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] at the deadline.
    pub(crate) fn still_live(&self, dir: &Path, deadline: Instant) -> io::Result<Still> {
        let hold = self.hold()?;
        let stack = self.copy(dir, deadline)?;
        self.kept_still(&stack, hold)
    }

    /// The same of a snapshot.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is none.
    pub(crate) fn still_of(&self, id: &SnapshotId) -> io::Result<Still> {
        let hold = self.hold()?;
        let manifest = Manifest::read(&self.manifests(), id)?;
        let manifest = manifest.ok_or(io::ErrorKind::NotFound)?;
        self.kept_still(&manifest.stack, hold)
    }

    fn kept_still(&self, stack: &Stack, hold: Hold) -> io::Result<Still> {
        let layers = stack.layers.iter().rev();
        Ok(Still {
            layers: layers.map(|id| self.layers().join(id.as_str())).collect(),
            template: stack.template.clone(),
            own_ids: self.own_ids,
            _hold: hold,
        })
    }

    /// Makes the sandbox `to` from an archive. `has` says which templates are here, and none goes meanwhile.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is a sandbox `to`; what is wrong with the archive.
    pub(crate) fn import(
        &self,
        from: impl Read,
        to: &Path,
        bounds: &Bounds,
        has: &dyn Fn(&TemplateId) -> bool,
    ) -> Result<(), Fault> {
        let _hold = self.hold()?;
        self.share_of_all()?;
        let id = LayerId::fresh()?;
        let layer = self.layers().join(id.as_str());
        private(&layer)?;
        reached("layer made");
        let mut template = None;
        pipe::unpacked(from, |from| {
            template = unpack(from, &layer, bounds, has)?;
            Ok(())
        })?;
        reached("unpacked");
        self.flush()?;
        reached("flushed");
        self.ledger.note([&id]);
        Ok(self.publish(&Stack::on(template).with(id), to)?)
    }
}
