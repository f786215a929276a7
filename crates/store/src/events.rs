//! The log as it is read: lists, what comes after a place, and the rows a transcript is made of. An
//! event is serialised once, when it is stored; everyone shares that text.

use std::borrow::Cow;
use std::sync::Arc;

use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::page::{Order, TimeRange};
use crate::sessions::Scope;
use crate::store::{Store, on_back};

/// An event as it is stored and served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log, from 1; none while it waits in the inbox.
    pub seq: Option<u64>,
    /// The thread it belongs to.
    pub thread: ThreadId,
    /// Whether the session's own list and stream show it.
    pub on_primary: bool,
    /// Its id.
    pub id: EventId,
    /// Its type on the wire.
    pub kind: Cow<'static, str>,
    /// When the session took it; none while it waits.
    pub processed_at: Option<Micros>,
    /// The event as JSON, envelope included.
    pub json: Arc<str>,
}

/// Whose events are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// What the session's own list shows.
    Primary,
    /// One thread.
    Thread(ThreadId),
}

/// Which events a list shows.
#[derive(Debug, Clone)]
pub struct EventList {
    /// Events on the page; at least 1.
    pub limit: u32,
    /// The order.
    pub order: Order,
    /// The place the page lies after, in the order; none is the first page.
    pub after: Option<u64>,
    /// Only these types; empty is all.
    pub kinds: Vec<String>,
    /// `processed_at` within. Anything but all leaves out events that wait.
    pub processed: TimeRange,
    /// Whose.
    pub of: Of,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Events with a place, in the order.
    pub events: Vec<Stored>,
    /// The place of the last of them, if there are more: the next page lies after it.
    pub next: Option<u64>,
    /// Events that wait, oldest first. They close the last page, in either order, beyond its limit if
    /// need be: an accepted event is always listed, and one that waits never makes a cursor.
    pub waiting: Vec<Stored>,
}

/// One row of what the model is shown.
#[derive(Debug, Clone)]
pub struct TranscriptRow {
    /// Its place in the log.
    pub seq: u64,
    /// One of the types that the model is shown; for a reply, `span.model_request_end`.
    pub kind: Cow<'static, str>,
    /// The event as JSON.
    pub json: Arc<str>,
    /// The exact reply, for a `span.model_request_end` that has one.
    pub record: Option<Box<RawValue>>,
}

impl Store {
    /// A page of a session's events.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn events(
        &self,
        scope: impl Into<Scope>,
        session: SessionId,
        list: EventList,
    ) -> Result<EventPage, Error> {
        let scope = scope.into();
        on_back!(self, read, |c| events::list(c, scope, session, &list))
    }

    /// Events with a place above `seq`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn events_after(
        &self,
        session: SessionId,
        seq: u64,
        limit: u32,
    ) -> Result<Vec<Stored>, Error> {
        on_back!(self, read, |c| events::after(c, session, seq, limit))
    }

    /// The place of an event of this session.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn event_seq(
        &self,
        session: SessionId,
        event: EventId,
    ) -> Result<Option<u64>, Error> {
        on_back!(self, read, |c| events::seq_of(c, session, event))
    }

    /// One event of this session by its place.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn event_at(&self, session: SessionId, seq: u64) -> Result<Option<Stored>, Error> {
        let page = self.events_after(session, seq.saturating_sub(1), 1).await?;
        Ok(page.into_iter().find(|e| e.seq == Some(seq)))
    }

    /// What the model is shown of a thread above `seq`, in order, at most `limit` rows: call it again
    /// with the last row's place until it answers fewer.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn transcript_after(
        &self,
        session: SessionId,
        thread: ThreadId,
        seq: u64,
        limit: u32,
    ) -> Result<Vec<TranscriptRow>, Error> {
        on_back!(self, read, |c| events::transcript(
            c, session, thread, seq, limit
        ))
    }

    /// All that the model is shown of a thread from the place `from` on, read in chunks so that no reader
    /// is held for long.
    ///
    /// # Errors
    /// [`Error::NotFound`] of the session.
    pub async fn transcript(
        &self,
        session: SessionId,
        thread: ThreadId,
        from: u64,
    ) -> Result<Vec<TranscriptRow>, Error> {
        const CHUNK: u32 = 1_000;
        let mut all = Vec::new();
        let mut seq = from.saturating_sub(1);
        loop {
            let rows = self.transcript_after(session, thread, seq, CHUNK).await?;
            let more = rows.len() == CHUNK as usize;
            seq = rows.last().map_or(seq, |r| r.seq);
            all.extend(rows);
            if !more {
                return Ok(all);
            }
        }
    }
}
