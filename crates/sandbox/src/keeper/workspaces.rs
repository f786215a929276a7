//! What the keeper does with whole workspaces: it has nobody start a sandbox while its files are changed. It changes
//! none itself: a [`Workspaces`] does.

use std::sync::Arc;

use super::Keeper;
use super::place::Counted;
use crate::carried::{Export, Exported, Import};
use crate::error::Error;
use crate::provider::SandboxId;
use crate::snapshot::{NewSnapshot, Snapshot, SnapshotId, Workspaces};

/// Why a sandbox is ended whose files are replaced.
const SET_BACK: &str = "its files were set back to a snapshot";

impl Keeper {
    fn workspaces(&self) -> Result<&dyn Workspaces, Error> {
        let workspaces = self.0.provider.workspaces();
        workspaces.ok_or_else(|| Error::lacking("keep or change files as a whole"))
    }

    /// As [`Workspaces::snapshot`]; whoever wants to use the sandbox waits meanwhile.
    ///
    /// # Errors
    /// As there.
    pub async fn snapshot(&self, of: &SandboxId, new: NewSnapshot) -> Result<Snapshot, Error> {
        let workspaces = self.workspaces()?;
        self.alone(of, workspaces.snapshot(of, new)).await
    }

    /// As [`Workspaces::snapshots`].
    ///
    /// # Errors
    /// As there.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, Error> {
        self.workspaces()?.snapshots().await
    }

    /// As [`Workspaces::remove_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove_snapshot(&self, id: &SnapshotId) -> Result<(), Error> {
        self.workspaces()?.remove_snapshot(id).await
    }

    /// As [`Workspaces::fork`]; whoever wants to use `from` waits meanwhile.
    ///
    /// # Errors
    /// As there.
    pub async fn fork(&self, from: &SandboxId, to: &SandboxId) -> Result<(), Error> {
        let workspaces = self.workspaces()?;
        self.alone(from, workspaces.fork(from, to)).await
    }

    /// As [`Workspaces::restore`]; whoever wants to use `to` waits meanwhile, and finds the files of the snapshot.
    ///
    /// # Errors
    /// As there.
    pub async fn restore(&self, from: &SnapshotId, to: &SandboxId) -> Result<(), Error> {
        let workspaces = self.workspaces()?;
        let place = self.place(to);
        let mut held = Arc::clone(&place.held).lock_owned().await;
        self.sleep(to, &place, &mut held, SET_BACK).await;
        let restored = workspaces.restore(from, to).await;
        drop(held);
        self.forget(to, &place);
        restored
    }

    /// As [`Workspaces::export`]; whoever wants to use the sandbox waits until it is known what is written, not longer.
    ///
    /// # Errors
    /// As there.
    pub async fn export(&self, from: &Exported) -> Result<Export, Error> {
        let workspaces = self.workspaces()?;
        match from {
            Exported::Sandbox(id) => self.alone(id, workspaces.export(from)).await,
            Exported::Snapshot(_) => workspaces.export(from).await,
        }
    }

    /// As [`Workspaces::import`].
    ///
    /// # Errors
    /// As there.
    pub async fn import(&self, to: &SandboxId) -> Result<Import, Error> {
        self.workspaces()?.import(to).await
    }

    /// Does something with a sandbox that nobody starts, ends or puts to rest meanwhile.
    async fn alone<T>(
        &self,
        id: &SandboxId,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let place = self.place(id);
        let counted = Counted::new(Arc::clone(&place));
        let held = place.held.lock().await;
        let done = work.await;
        drop((held, counted));
        self.forget(id, &place);
        done
    }
}
