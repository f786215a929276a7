//! Answers kept under a client's `Idempotency-Key`: a request that is sent again gets the answer of the
//! first. It does not know what an answer says, and keeps no refusal: what failed may be tried again. What the
//! answers of one owner take together is bounded ([`crate::caps::Caps::kept`]): beyond it nothing is kept, and what
//! was to be kept with a write is not written.
//!
//! The answer is written in the transaction of the write that it answers ([`Store::keeping`]), so that
//! after a crash either both are there or neither is. Of two writes under one id the second is undone.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use contract::time::Micros;

use crate::error::{Error, Plenty};
use crate::limits::KEPT_FOR;
use crate::store::{Store, on_back};

/// A keyed hash of what a client chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub [u8; 32]);

impl Mark {
    /// The mark of something that `owner` chose: its first half says whose it is.
    #[must_use]
    pub fn of(owner: Self, chosen: Self) -> Self {
        let (Self(mut mark), Self(chosen)) = (owner, chosen);
        let half = mark.len() / 2;
        mark[half..].copy_from_slice(&chosen[half..]);
        Self(mark)
    }

    /// Whose it is, as the store counts it.
    pub(crate) fn owner(&self) -> String {
        let half = self.0.iter().take(self.0.len() / 2);
        half.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Under what an answer is kept.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Of the workspace and its key: [`Mark::of`].
    pub id: Mark,
    /// Of the request: another one may not use the key.
    pub request: Mark,
    /// When the request came; the answer is forgotten [`KEPT_FOR`] later.
    pub now: Micros,
}

impl Slot {
    pub(crate) fn expires_at(&self) -> i64 {
        let kept = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
        self.now.0.saturating_add(kept)
    }
}

/// An answer that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of the request that it answered.
    pub request: Mark,
    /// The answer's body.
    pub body: Vec<u8>,
}

type Write = dyn Fn(&dyn Any) -> Option<Vec<u8>> + Send + Sync;

/// What a write keeps beside what it stores.
#[derive(Clone)]
pub(crate) struct Keep {
    pub(crate) slot: Slot,
    /// Bytes that all answers of its owner may take.
    pub(crate) most: u64,
    write: Arc<Write>,
}

impl Keep {
    /// The answer to a write with this outcome; none if it is not the one that is answered.
    pub(crate) fn body(&self, outcome: &dyn Any) -> Option<Vec<u8>> {
        (self.write)(outcome)
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep").field("slot", &self.slot).finish()
    }
}

impl Store {
    /// A handle for one request: its write whose outcome is a `T` also keeps what `answer` makes of it,
    /// in the same transaction. If something is kept there already that write is undone and fails with
    /// [`Error::Unavailable`]; [`Store::kept`] then has the answer. If its owner has no room for it the write
    /// is undone and fails with [`Error::Full`]. If `answer` makes nothing, nothing is kept.
    #[must_use]
    pub fn keeping<T: 'static>(
        &self,
        slot: Slot,
        answer: impl Fn(&T) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let write = move |outcome: &dyn Any| answer(outcome.downcast_ref::<T>()?);
        self.with_keep(Keep {
            slot,
            most: self.caps().kept,
            write: Arc::new(write),
        })
    }

    /// Makes sure that there is room for an answer, if only for a short one; expired ones make place.
    ///
    /// # Errors
    /// [`Error::Full`]: there is none. [`Error::Unavailable`].
    pub async fn make_room(&self, slot: Slot) -> Result<(), Error> {
        let most = self.caps().kept;
        let room = on_back!(self, read, |c| kept::has_room(c, slot.id, most))?;
        let made = room || on_back!(self, write, |cx| kept::make_room(cx, &slot, most))?;
        let (what, limit) = (Plenty::Kept, most);
        made.then_some(()).ok_or(Error::Full { what, limit })
    }

    /// What is kept under `id` at `now`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn kept(&self, id: Mark, now: Micros) -> Result<Option<Kept>, Error> {
        on_back!(self, read, |c| kept::get(c, id, now))
    }

    /// Keeps an answer after the fact, for a request that changes nothing when it is carried out twice.
    /// Returns what is kept there afterwards: an earlier answer stays.
    ///
    /// # Errors
    /// [`Error::Full`]: its owner has no room for it; nothing is kept. [`Error::Unavailable`].
    pub async fn keep(&self, slot: Slot, body: Vec<u8>) -> Result<Kept, Error> {
        let most = self.caps().kept;
        on_back!(self, write, |cx| kept::put_or_get(cx, &slot, &body, most))
    }
}
