//! The database as one request uses it: whatever it writes is kept as its answer as well, if it asked for
//! that. It adds nothing else to a read or a write.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::conn::Conn;
use super::{Cx, Postgres, Told};
use crate::kept::Keep;
use crate::replica::ReplicaName;
use crate::rules::fault::Trouble;
use crate::runs::Holder;

/// The database, with what is to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'s> {
    db: &'s Postgres,
    keep: Option<&'s Arc<Keep>>,
}

impl Postgres {
    /// The database as it is used by whoever has `keep`.
    pub(crate) fn held<'s>(&'s self, keep: Option<&'s Arc<Keep>>) -> Held<'s> {
        Held { db: self, keep }
    }
}

impl Held<'_> {
    /// As whom the database is used among several servers.
    pub(crate) fn replica(self) -> Option<(ReplicaName, Holder)> {
        self.db.replica()
    }

    /// Runs `work` in the writer and answers once it is durable. It may be run several times, each time from its
    /// beginning and after what it did before was undone: for another write that failed, or another server that waited.
    pub(crate) async fn write<T, E, F>(self, work: F) -> Result<T, E>
    where
        F: for<'a> FnOnce(&'a mut Cx) -> BoxFuture<'a, Told<T, E>> + Clone + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let keep = self.keep.cloned();
        let done = self
            .db
            .write_again(move |cx| work.clone()(cx), keep)
            .await?;
        Ok(done.0)
    }

    /// As [`Self::write`], with the number of the commit.
    pub(crate) async fn write_again<T, E, F>(self, work: F) -> Result<(Box<T>, u64), E>
    where
        F: for<'a> FnMut(&'a mut Cx) -> BoxFuture<'a, Told<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let done = self.db.write_again(work, self.keep.cloned()).await;
        done.map(|(done, commit)| (Box::new(done), commit))
    }

    /// Runs `work` on one snapshot of the database.
    pub(crate) async fn read<T, E, F>(self, work: F) -> Result<T, E>
    where
        F: for<'a> FnOnce(&'a Conn) -> BoxFuture<'a, Told<T, E>> + Send,
        E: From<Trouble>,
    {
        self.db.read(work).await
    }
}
