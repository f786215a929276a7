//! Owns workspaces of this host that are exported and imported: who may begin, and what becomes of one that fails. It
//! looks into no archive.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use super::workspaces::{collect, no_snapshot, told};
use super::{Local, blocking, pool};
use crate::archive::pipe::{Coming, Going};
use crate::archive::{Bounds, Fault};
use crate::carried::{Export, Exported, Import};
use crate::error::{Doing, Error};
use crate::limits::{ARCHIVE_ENTRIES, ARCHIVE_PIECES};
use crate::provider::SandboxId;
use crate::workspace::Still;

impl Local {
    pub(super) async fn begin_export(&self, from: &Exported) -> Result<Export, Error> {
        let right = self.traveller()?;
        let still = self.still(from).await?;
        let (pieces, queue) = mpsc::channel(ARCHIVE_PIECES);
        let shared = Arc::clone(&self.0);
        let mut going = Going::new(pieces);
        self.0.tasks.spawn_blocking(move || {
            let packed = still.pack(&mut going);
            drop((still, right));
            if let Err(error) = packed {
                going.fail(error);
            }
            // What was copied for this is garbage.
            collect(&shared);
        });
        Ok(Export::new(queue))
    }

    async fn still(&self, from: &Exported) -> Result<Still, Error> {
        match from {
            Exported::Sandbox(id) => {
                let doing = format!("export sandbox {id}");
                let still = self.change_files(
                    id,
                    doing,
                    |layers, dir| layers.still(dir),
                    |layers, dir, deadline| layers.still_live(dir, deadline),
                );
                still.await.map_err(|error| told(error, String::new))
            }
            Exported::Snapshot(id) => {
                let (shared, name) = (Arc::clone(&self.0), id.clone());
                let doing = || format!("export snapshot {id}");
                match blocking(doing, move || shared.layers.still_of(&name)).await? {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_snapshot(id)),
                    other => other.doing(doing),
                }
            }
        }
    }

    pub(super) fn begin_import(&self, to: &SandboxId) -> Result<Import, Error> {
        pool::refuse(to)?;
        self.0.disks.room()?;
        let place = self.0.dirs.path(to);
        if place.exists() {
            return Err(Error::invalid(taken(to)));
        }
        let right = self.traveller()?;
        let (pieces, queue) = mpsc::channel(ARCHIVE_PIECES);
        let came = Arc::new(AtomicU64::new(0));
        let coming = Coming::new(queue, Arc::clone(&came));
        let bounds = self.bounds(came);
        let (shared, to) = (Arc::clone(&self.0), to.clone());
        let done = self.0.tasks.spawn_blocking(move || {
            let imported = shared
                .layers
                .import(coming, &place, &bounds, &|id| shared.templates.has(id));
            drop(right);
            shared.layers.count();
            imported.map_err(|fault| {
                collect(&shared);
                refused(fault, &to, &place)
            })
        });
        Ok(Import::new(pieces, done))
    }

    fn bounds(&self, came: Arc<AtomicU64>) -> Bounds {
        let some = |most: u64, otherwise| if most == 0 { otherwise } else { most };
        let (disk, shared) = (self.0.allowance.disk, Arc::clone(&self.0));
        Bounds {
            bytes: some(disk.bytes, u64::MAX),
            entries: some(disk.files, ARCHIVE_ENTRIES).min(ARCHIVE_ENTRIES),
            came,
            own_ids: self.0.own_ids,
            room: Box::new(move || shared.disks.room().map_err(io::Error::other)),
        }
    }

    fn traveller(&self) -> Result<OwnedSemaphorePermit, Error> {
        let right = self.0.layers.traveller();
        right.ok_or_else(|| Error::busy("as many exports and imports as may be are under way"))
    }
}

fn taken(to: &SandboxId) -> String {
    format!("a sandbox {to} exists already")
}

/// What whoever sent an archive can do about its end.
fn refused(fault: Fault, to: &SandboxId, place: &Path) -> Error {
    let error = match fault {
        Fault::Refused(refused) => return Error::invalid(refused.to_string()),
        Fault::Host(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AlreadyExists if place.exists() => Error::invalid(taken(to)),
        // Said by the layers, with what to do.
        io::ErrorKind::QuotaExceeded if error.get_ref().is_some() => Error::busy(error.to_string()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::busy("the host's disk is full: nothing of the archive was kept")
        }
        _ => match error.downcast::<Error>() {
            Ok(busy) => busy,
            Err(source) => Error::Io {
                doing: format!("import sandbox {to}"),
                source,
            },
        },
    }
}
