//! What a commit changed for other servers: a reason to look, never the thing itself. That stands in the tables, and is
//! read there. It knows no driver and must never hold SQL.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use serde::{Deserialize, Serialize};

use super::told::Note;
use crate::events::Stored;
use crate::feed::{Changed, Item};
use crate::store::Shared;

/// What one commit changed. Other builds may know less or more of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Change {
    /// Sessions whose log or inbox has grown.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    grown: BTreeSet<SessionId>,
    /// Sessions that were deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ended: Vec<Last>,
    /// Sessions whose runner must hear what has changed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    stops: BTreeSet<SessionId>,
    /// Sessions that were updated.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    updated: BTreeSet<SessionId>,
    /// A run became due.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    wake: bool,
    /// A key or a workspace changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keys: bool,
    /// Something that sessions are made from changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    grounds: bool,
}

/// The last words of a session: nobody can read them any more.
#[derive(Debug, Serialize, Deserialize)]
struct Last {
    session: SessionId,
    words: Vec<Word>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Word {
    seq: Option<u64>,
    thread: ThreadId,
    on_primary: bool,
    id: EventId,
    kind: String,
    at: Option<i64>,
    json: String,
}

impl Word {
    fn of(item: &Item) -> Option<Self> {
        let Item::Event(event) = item else {
            return None;
        };
        Some(Self {
            seq: event.seq,
            thread: event.thread,
            on_primary: event.on_primary,
            id: event.id,
            kind: event.kind.to_string(),
            at: event.processed_at.map(|at| at.0),
            json: event.json.to_string(),
        })
    }

    fn into_item(self) -> Item {
        Item::Event(Arc::new(Stored {
            seq: self.seq,
            thread: self.thread,
            on_primary: self.on_primary,
            id: self.id,
            kind: Cow::Owned(self.kind),
            processed_at: self.at.map(Micros),
            json: Arc::from(self.json),
        }))
    }
}

impl Change {
    /// What others must know of it, if anything.
    fn of(notes: &[Note]) -> Option<Self> {
        let mut change = Self::default();
        let mut tells = false;
        for note in notes {
            tells |= !matches!(note, Note::Trash | Note::Wiped);
            match note {
                Note::Items(session, _) => {
                    change.grown.insert(*session);
                }
                Note::End(session) => change.ended.push(Last {
                    session: *session,
                    words: last_words(notes, *session),
                }),
                Note::Wake => change.wake = true,
                Note::Stop(session) => {
                    change.stops.insert(*session);
                }
                Note::Updated(session) => {
                    change.updated.insert(*session);
                }
                Note::Keys => change.keys = true,
                Note::Grounds => change.grounds = true,
                Note::Trash | Note::Wiped => {}
            }
        }
        tells.then_some(change)
    }

    /// As it is written beside what was changed; nothing if others need not know of it.
    pub(crate) fn text(notes: &[Note]) -> serde_json::Result<Option<String>> {
        Self::of(notes)
            .map(|change| serde_json::to_string(&change))
            .transpose()
    }

    /// Tells this server what another one has written.
    pub(crate) fn hear(text: &str, shared: &Shared) {
        match serde_json::from_str::<Self>(text) {
            Ok(change) => change.publish(shared),
            Err(error) => tracing::error!(%error, "a change of another server cannot be read"),
        }
    }

    fn publish(self, shared: &Shared) {
        if self.keys {
            shared.keys.forget();
        }
        if self.grounds {
            shared.grounds.forget();
            shared.feed.changed(Changed::Anything);
        }
        for session in self.updated {
            shared.feed.changed(Changed::Session(session));
        }
        for session in self.grown {
            shared.feed.fall_behind(session);
        }
        let any_ended = !self.ended.is_empty();
        for last in self.ended {
            let words = last.words.into_iter().map(Word::into_item);
            let words = words.collect::<Vec<_>>();
            shared
                .feed
                .last_words(last.session, &words, &shared.counters);
        }
        if any_ended {
            shared.signals.deleted();
        }
        for session in self.stops {
            shared.signals.stop(session);
        }
        if self.wake {
            shared.signals.wake.notify_one();
        }
    }
}

fn last_words(notes: &[Note], session: SessionId) -> Vec<Word> {
    let items = notes.iter().filter_map(|note| match note {
        Note::Items(of, items) if *of == session => Some(items),
        _ => None,
    });
    items.flatten().filter_map(Word::of).collect()
}
