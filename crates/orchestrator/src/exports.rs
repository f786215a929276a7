//! Workspaces as they were at the end of a turn, in a directory that all servers of a fleet share: what a host that is
//! gone has left of its sessions' files. It knows no archive's inside, and no server but its own: whoever takes a
//! session over finds the archive of the last generation there.
//!
//! `DIR/SESSION/GENERATION.MICROSECONDS.tar.zst`. A file has its name only once all of it is on the disk. A server that
//! was believed gone, and ends an export late, writes it under the generation that it had: it is never the last.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::ids::SessionId;
use contract::time::Micros;
use harness::causes::chain;
use sandbox::{Error, Exported, Keeper, SandboxId};
use session::Generation;
use store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use crate::Inner;

/// Exports of this server under way at once: half of those that its sandboxes allow, so that people have the others.
const AT_ONCE: usize = 4;

/// Bytes that are read of an archive at once.
const PIECE: usize = 256 << 10;

const ENDING: &str = ".tar.zst";

/// The shared directory.
pub(crate) struct Exports {
    dir: PathBuf,
    /// Whose workspace is exported, and of which generation it is to be once more after that.
    under_way: Mutex<HashMap<SessionId, Option<Generation>>>,
    at_once: Semaphore,
}

/// An archive of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    generation: Generation,
    /// When the turn had ended after which it was made, by the clock of the server that made it.
    pub(crate) at: Micros,
    path: PathBuf,
}

impl Inner {
    /// Has the workspace of a session whose turn ended now exported, beside everything else. Should it fail, what was
    /// exported before stays.
    pub(crate) fn export(self: &Arc<Self>, session: SessionId, generation: Generation) {
        let Some(exports) = &self.exports else { return };
        if !exports.begins(session, generation) {
            return;
        }
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let (stopping, inner) = (inner.stopping.clone(), &inner);
            let exported = inner.exports_of(session, generation);
            let _ = stopping.run_until_cancelled(exported).await;
        });
    }

    async fn exports_of(&self, session: SessionId, generation: Generation) {
        let Some(exports) = &self.exports else { return };
        let mut next = Some(generation);
        while let Some(generation) = next {
            let Ok(_permit) = exports.at_once.acquire().await else {
                return;
            };
            let kept = exports.put(self.sandboxes.keeper(), session, generation, self.now());
            match kept.await {
                // Nobody has used one.
                Ok(()) | Err(Error::Missing { .. }) => {}
                Err(error) => {
                    tracing::error!(session_id = %session, error = %chain(&error), "a workspace was not exported");
                }
            }
            next = exports.next(session);
        }
    }
}

impl Exports {
    /// In `dir`, which is there.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            under_way: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether nobody is at that workspace; whoever is does it once more.
    fn begins(&self, session: SessionId, generation: Generation) -> bool {
        let mut under_way = self.under_way();
        match under_way.get_mut(&session) {
            Some(again) => {
                *again = Some(generation);
                false
            }
            None => {
                under_way.insert(session, None);
                true
            }
        }
    }

    /// Of which generation it is to be done once more; nobody is at it otherwise.
    fn next(&self, session: SessionId) -> Option<Generation> {
        let mut under_way = self.under_way();
        let again = under_way.get_mut(&session).and_then(Option::take);
        if again.is_none() {
            under_way.remove(&session);
        }
        again
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<SessionId, Option<Generation>>> {
        // The map is whole between any two statements: a panic elsewhere does not spoil it.
        let held = self.under_way.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the session's workspace as it is now, and removes what is older.
    async fn put(
        &self,
        keeper: &Keeper,
        session: SessionId,
        generation: Generation,
        now: Micros,
    ) -> Result<(), Error> {
        let id = SandboxId::new(session.to_string())?;
        let mut export = keeper.export(&Exported::Sandbox(id)).await?;
        let home = self.dir.join(session.to_string());
        let failed = |source| failed("export", session, source);
        // What is in them is for nobody but the server. Only this one is made: where the shared directory is away,
        // nothing else takes its place.
        let mut private = tokio::fs::DirBuilder::new();
        match private.mode(0o700).create(&home).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        let name = format!("{:020}.{}{ENDING}", generation.0, now.0);
        let part = home.join(format!("{name}.part"));
        let mut file = tokio::fs::OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(&part).await.map_err(failed)?;
        while let Some(piece) = export.next().await? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(&part, home.join(&name))
            .await
            .map_err(failed)?;
        let dir = tokio::fs::File::open(&home).await.map_err(failed)?;
        dir.sync_all().await.map_err(failed)?;
        self.prune(session, &home, generation, &name)
            .await
            .map_err(failed)
    }

    /// Removes what is older than the file `newest`, of `generation`.
    async fn prune(
        &self,
        session: SessionId,
        home: &Path,
        generation: Generation,
        newest: &str,
    ) -> io::Result<()> {
        let mut files = tokio::fs::read_dir(home).await?;
        while let Some(file) = files.next_entry().await? {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let of = name.split('.').next().and_then(|it| it.parse::<u64>().ok());
            if name != newest && of.is_some_and(|of| of <= generation.0) {
                let removed = tokio::fs::remove_file(file.path()).await;
                // Somebody else may prune as well.
                if let Err(error) = removed.unless_missing() {
                    tracing::warn!(session_id = %session, %error, "an older export was not removed");
                }
            }
        }
        Ok(())
    }

    /// Gives this host the session's workspace as it was exported last. None if there is no archive, or none that can
    /// be read to its end; the host has none of that session's files before.
    ///
    /// Cancel safe: yes; it is there whole or not at all.
    ///
    /// # Errors
    /// Those of [`Keeper::import`]; [`Error::Io`] while the directory cannot be read. It may be tried again.
    pub(crate) async fn restore(
        &self,
        keeper: &Keeper,
        session: SessionId,
    ) -> Result<Option<Kept>, Error> {
        let failed = |source| failed("import", session, source);
        let Some(kept) = self.last(session).await.map_err(failed)? else {
            return Ok(None);
        };
        let id = SandboxId::new(session.to_string())?;
        let mut file = tokio::fs::File::open(&kept.path).await.map_err(failed)?;
        let mut import = keeper.import(&id).await?;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = file.read_buf(&mut piece).await.map_err(failed)?;
            if read == 0 || !import.send(piece.into()).await {
                break;
            }
        }
        match import.finish().await {
            Ok(()) => Ok(Some(kept)),
            Err(Error::Invalid { problem }) => {
                tracing::error!(session_id = %session, file = %kept.path.display(), problem, "an export is damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The archive of the last generation.
    async fn last(&self, session: SessionId) -> io::Result<Option<Kept>> {
        let home = self.dir.join(session.to_string());
        let mut files = match tokio::fs::read_dir(&home).await {
            // Whether the directory of all is there, and only this session has none in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tokio::fs::metadata(&self.dir).await?;
                return Ok(None);
            }
            files => files?,
        };
        let mut last = None::<Kept>;
        while let Some(file) = files.next_entry().await? {
            let Some(kept) = read_name(&file.path()) else {
                continue;
            };
            if last
                .as_ref()
                .is_none_or(|last| last.generation < kept.generation)
            {
                last = Some(kept);
            }
        }
        Ok(last)
    }

    /// Removes the archives of sessions that are no more.
    pub(crate) async fn collect(&self, store: &Store) {
        let collected = async {
            let mut found = Vec::new();
            let mut homes = tokio::fs::read_dir(&self.dir).await?;
            while let Some(home) = homes.next_entry().await? {
                found.extend(
                    home.file_name()
                        .to_str()
                        .and_then(|it| it.parse::<SessionId>().ok()),
                );
            }
            let existing = store
                .existing(found.clone())
                .await
                .map_err(io::Error::other)?;
            let existing = existing.into_iter().collect::<HashSet<_>>();
            for session in found.iter().filter(|it| !existing.contains(it)) {
                let removed = tokio::fs::remove_dir_all(self.dir.join(session.to_string()));
                removed.await.unless_missing()?;
            }
            io::Result::Ok(())
        };
        if let Err(error) = collected.await.unless_missing() {
            tracing::warn!(%error, "exports of deleted sessions were not removed");
        }
    }
}

fn read_name(path: &Path) -> Option<Kept> {
    let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    let (generation, at) = name.split_once('.')?;
    Some(Kept {
        generation: Generation(generation.parse().ok()?),
        at: Micros(at.parse().ok()?),
        path: path.to_owned(),
    })
}

fn failed(what: &str, session: SessionId, source: io::Error) -> Error {
    Error::Io {
        doing: format!("{what} the workspace of {session} in the shared directory"),
        source,
    }
}

/// What is not there need not be removed.
trait Missing {
    fn unless_missing(self) -> io::Result<()>;
}

impl Missing for io::Result<()> {
    fn unless_missing(self) -> io::Result<()> {
        match self {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_archive_of_the_last_generation_is_the_last_whenever_it_was_written() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("exports");
        let session = SessionId::from_bits(7);
        let home = dir.join(session.to_string());
        std::fs::create_dir_all(&home).unwrap();
        let exports = Exports::new(dir.clone());
        assert_eq!(exports.last(session).await.unwrap(), None);
        for name in [
            "00000000000000000009.50.tar.zst",
            "00000000000000000010.40.tar.zst",
            "00000000000000000011.60.tar.zst.part",
        ] {
            std::fs::write(home.join(name), "").unwrap();
        }
        let last = exports.last(session).await.unwrap().unwrap();
        assert_eq!((last.generation, last.at), (Generation(10), Micros(40)));
        let newest = "00000000000000000010.40.tar.zst";
        let pruned = exports.prune(session, &home, Generation(10), newest);
        pruned.await.unwrap();
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 2);
        assert_eq!(exports.last(SessionId::from_bits(8)).await.unwrap(), None);
        std::fs::remove_dir_all(&dir).unwrap();
        // A shared directory that is away is not one without archives.
        assert!(exports.last(session).await.is_err());
    }

    #[test]
    fn whoever_exports_a_workspace_does_it_once_more_for_a_turn_that_ended_meanwhile() {
        let (exports, session) = (Exports::new(PathBuf::new()), SessionId::from_bits(7));
        assert!(exports.begins(session, Generation(1)));
        assert!(!exports.begins(session, Generation(2)));
        assert!(!exports.begins(session, Generation(3)));
        assert_eq!(exports.next(session), Some(Generation(3)));
        assert_eq!(exports.next(session), None);
        assert!(exports.begins(session, Generation(4)));
    }
}
