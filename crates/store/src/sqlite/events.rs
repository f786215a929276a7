//! SQL of `events`, `records` and `inbox`, read side.

use std::borrow::Cow;

use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension, Row};

use super::Told;
use super::row::{event_id, micros, number, raw_opt, shared, thread_id};
use super::sessions::num_of;
use crate::events::{EventList, EventPage, Of, Stored, TranscriptRow};
use crate::limits;
use crate::page::{Order, TimeRange};
use crate::rules::int;
use crate::sessions::Scope;

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        seq: Some(number(row, 0)?),
        id: event_id(row, 1)?,
        thread: thread_id(row, 2)?,
        on_primary: row.get(3)?,
        kind: Cow::Owned(row.get(4)?),
        processed_at: Some(micros(row, 5)?),
        json: shared(row, 6)?,
    })
}

fn waiting(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        seq: None,
        id: event_id(row, 0)?,
        thread: thread_id(row, 1)?,
        on_primary: true,
        kind: Cow::Owned(row.get(2)?),
        processed_at: None,
        json: shared(row, 3)?,
    })
}

pub(crate) fn list(
    conn: &Connection,
    scope: Scope,
    session: SessionId,
    list: &EventList,
) -> Told<EventPage> {
    let num = num_of(conn, scope, session)?;
    let (low, high) = bounds(conn, num, list)?;
    let order = match list.order {
        Order::Asc => "ASC",
        Order::Desc => "DESC",
    };
    let sql = format!(
        "SELECT seq, id, thread, on_primary, kind, processed_at, body
         FROM events INDEXED BY events_seq
         WHERE session = ?1 AND seq > ?2 AND seq < ?3
           AND ((?4 IS NULL AND on_primary = 1) OR thread = ?4)
           AND (?5 IS NULL OR kind IN (SELECT value FROM json_each(?5)))
         ORDER BY seq {order} LIMIT ?6"
    );
    let (thread, kinds) = filters(list)?;
    let limit = list.limit.max(1);
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((num, low, high, thread, kinds, limit + 1), stored)?;
    let (mut events, mut bytes, mut more) = (Vec::new(), 0, false);
    for row in rows {
        let event = row?;
        bytes += event.json.len();
        // A page has at least one event, however large.
        if events.len() == limit as usize || (bytes > limits::PAGE_BYTES && !events.is_empty()) {
            more = true;
            break;
        }
        events.push(event);
    }
    let next = if more {
        events.last().and_then(|e| e.seq)
    } else {
        None
    };
    let waiting = if more || !list.processed.is_all() {
        Vec::new()
    } else {
        inbox(conn, num, list)?
    };
    Ok(EventPage {
        events,
        next,
        waiting,
    })
}

type Filters = (Option<[u8; 16]>, Option<String>);

fn filters(list: &EventList) -> Result<Filters, serde_json::Error> {
    let thread = match list.of {
        Of::Primary => None,
        Of::Thread(thread) => Some(thread.bits().to_be_bytes()),
    };
    let kinds = if list.kinds.is_empty() {
        None
    } else {
        Some(serde_json::to_string(&list.kinds)?)
    };
    Ok((thread, kinds))
}

fn inbox(conn: &Connection, num: i64, list: &EventList) -> Told<Vec<Stored>> {
    let sql = "SELECT id, thread, kind, body FROM inbox INDEXED BY inbox_order
               WHERE session = ?1 AND (?2 IS NULL OR thread = ?2)
                 AND kind <> 'agent.thread_message_received'
                 AND (?3 IS NULL OR kind IN (SELECT value FROM json_each(?3)))
               ORDER BY n";
    let (thread, kinds) = filters(list)?;
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((num, thread, kinds), waiting)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The places between which the page lies, both excluded. Times grow with places, so an instant is
/// found by halving and no page reads what lies before its range.
fn bounds(conn: &Connection, num: i64, list: &EventList) -> Told<(i64, i64)> {
    let last = last_seq(conn, num)?;
    let TimeRange { min, max } = list.processed;
    let (mut low, mut high) = (0, last + 1);
    if !list.processed.is_all() {
        low = first_at(conn, num, last, min)? - 1;
        high = match max.0.checked_add(1) {
            Some(past) => first_at(conn, num, last, Micros(past))?,
            None => high,
        };
    }
    if let Some(after) = list.after.map(int) {
        match list.order {
            Order::Asc => low = low.max(after),
            Order::Desc => high = high.min(after),
        }
    }
    Ok((low, high))
}

fn last_seq(conn: &Connection, num: i64) -> Told<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM events WHERE session = ?1";
    Ok(conn
        .prepare_cached(sql)?
        .query_row([num], |row| row.get(0))?)
}

/// The first place whose time is `at` or later; one past the last if there is none.
fn first_at(conn: &Connection, num: i64, last: i64, at: Micros) -> Told<i64> {
    let sql = "SELECT processed_at FROM events WHERE session = ?1 AND seq = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let (mut low, mut high) = (1, last + 1);
    while low < high {
        let mid = low + (high - low) / 2;
        let time: i64 = statement.query_row((num, mid), |row| row.get(0))?;
        if time >= at.0 {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    Ok(low)
}

pub(crate) fn after(
    conn: &Connection,
    session: SessionId,
    seq: u64,
    limit: u32,
) -> Told<Vec<Stored>> {
    let num = num_of(conn, Scope::Any, session)?;
    let sql = "SELECT seq, id, thread, on_primary, kind, processed_at, body FROM events
               WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((num, int(seq), limit), stored)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Those that wait, as those who watch see them.
#[cfg(feature = "simulation")]
pub(crate) fn announced(conn: &Connection, session: SessionId) -> Told<Vec<Stored>> {
    let num = num_of(conn, Scope::Any, session)?;
    let sql = "SELECT id, thread, kind, body FROM inbox
               WHERE session = ?1 AND kind <> 'agent.thread_message_received' ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([num], waiting)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn seq_of(conn: &Connection, session: SessionId, event: EventId) -> Told<Option<u64>> {
    let num = num_of(conn, Scope::Any, session)?;
    let sql = "SELECT seq FROM events WHERE session = ?1 AND id = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let key = (num, event.bits().to_be_bytes());
    Ok(statement.query_row(key, |row| number(row, 0)).optional()?)
}

pub(crate) fn transcript(
    conn: &Connection,
    session: SessionId,
    thread: ThreadId,
    seq: u64,
    limit: u32,
) -> Told<Vec<TranscriptRow>> {
    let num = num_of(conn, Scope::Any, session)?;
    // The condition on `kind` is the index's own, word for word.
    let sql = "SELECT e.seq, e.kind, e.body, r.body
               FROM events e INDEXED BY events_transcript
               LEFT JOIN records r ON r.session = e.session AND r.seq = e.seq
                 AND r.kind IN ('reply', 'summary', 'advice')
               WHERE e.session = ?1 AND e.thread = ?2 AND e.seq > ?3 AND e.kind IN
                 ('user.message', 'system.message', 'user.define_outcome', 'user.custom_tool_result',
                  'agent.tool_result', 'agent.thread_message_received', 'agent.thread_context_compacted',
                  'span.model_request_end', 'span.outcome_evaluation_end')
               ORDER BY e.seq LIMIT ?4";
    let mut statement = conn.prepare_cached(sql)?;
    let key = (num, thread.bits().to_be_bytes(), int(seq), limit);
    let rows = statement.query_map(key, |row| {
        Ok(TranscriptRow {
            seq: number(row, 0)?,
            kind: Cow::Owned(row.get(1)?),
            json: shared(row, 2)?,
            record: raw_opt(row, 3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
