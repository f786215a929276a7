//! The database as one request uses it: whatever it writes is kept as its answer as well, if it asked for
//! that. It adds nothing else to a read or a write.

use std::sync::Arc;

use rusqlite::Connection;

use super::{Cx, Fault, Sqlite, kept};
use crate::kept::Keep;
use crate::replica::ReplicaName;
use crate::rules::fault::Trouble;
use crate::runs::Holder;

/// The database, with what is to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'s> {
    db: &'s Sqlite,
    keep: Option<&'s Arc<Keep>>,
}

impl Sqlite {
    /// The database as it is used by whoever has `keep`.
    pub(crate) fn held<'s>(&'s self, keep: Option<&'s Arc<Keep>>) -> Held<'s> {
        Held { db: self, keep }
    }
}

impl Held<'_> {
    /// As [`Sqlite::replica`].
    pub(crate) fn replica(self) -> Option<(ReplicaName, Holder)> {
        self.db.replica()
    }

    /// As [`Sqlite::write`].
    pub(crate) async fn write<T, E, F>(self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let Some(keep) = self.keep.map(Arc::clone) else {
            return self.db.write(work).await;
        };
        let kept = move |cx: &mut Cx<'_>| {
            let done = work(cx)?;
            beside(cx, &keep, done)
        };
        self.db.write(kept).await
    }

    /// As [`Sqlite::write_again`].
    pub(crate) async fn write_again<T, E, F>(self, mut work: F) -> Result<(Box<T>, u64), E>
    where
        F: FnMut(&mut Cx<'_>) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        let Some(keep) = self.keep.map(Arc::clone) else {
            return self.db.write_again(work).await;
        };
        let kept = move |cx: &mut Cx<'_>| {
            let done = work(cx)?;
            beside(cx, &keep, done)
        };
        self.db.write_again(kept).await
    }

    /// As [`Sqlite::read`].
    pub(crate) async fn read<T, E, F>(self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, Fault<E>> + Send + 'static,
        T: Send + 'static,
        E: From<Trouble> + Send + 'static,
    {
        self.db.read(work).await
    }
}

/// Keeps the answer beside what was done.
fn beside<T: 'static, E: From<Trouble>>(
    cx: &mut Cx<'_>,
    keep: &Keep,
    done: T,
) -> Result<T, Fault<E>> {
    if let Some(body) = keep.body(&done) {
        cx.talk.bytes += body.len();
        kept::put(cx, &keep.slot, &body, keep.most)?;
    }
    Ok(done)
}
