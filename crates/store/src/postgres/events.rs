//! SQL of `events`, `records` and `inbox`, read side.

use std::borrow::Cow;

use contract::ids::{EventId, SessionId, ThreadId};
use contract::time::Micros;
use tokio_postgres::Row;

use super::fault::Read;
use super::row::{each, event_id, get, micros, number, raw_opt, shared, thread_id};
use super::sessions::num_of;
use super::value::values;
use super::{Conn, Fault, Told};
use crate::events::{EventList, EventPage, Of, Stored, TranscriptRow};
use crate::limits;
use crate::page::{Order, TimeRange};
use crate::rules::int;
use crate::sessions::Scope;

fn stored(row: &Row) -> Read<Stored> {
    Ok(Stored {
        seq: Some(number(row, 0)?),
        id: event_id(row, 1)?,
        thread: thread_id(row, 2)?,
        on_primary: get(row, 3)?,
        kind: Cow::Owned(get(row, 4)?),
        processed_at: Some(micros(row, 5)?),
        json: shared(row, 6)?,
    })
}

fn waiting(row: &Row) -> Read<Stored> {
    Ok(Stored {
        seq: None,
        id: event_id(row, 0)?,
        thread: thread_id(row, 1)?,
        on_primary: true,
        kind: Cow::Owned(get(row, 2)?),
        processed_at: None,
        json: shared(row, 3)?,
    })
}

pub(crate) async fn list(
    conn: &Conn,
    scope: Scope,
    session: SessionId,
    list: &EventList,
) -> Told<EventPage> {
    let num = num_of(conn, scope, session).await?;
    let (low, high) = bounds(conn, num, list).await?;
    let (events, more) = placed(conn, num, list, (low, high)).await?;
    let next = if more {
        events.last().and_then(|e| e.seq)
    } else {
        None
    };
    let waiting = if more || !list.processed.is_all() {
        Vec::new()
    } else {
        inbox(conn, num, list).await?
    };
    Ok(EventPage {
        events,
        next,
        waiting,
    })
}

/// Events of the page, and whether there are more behind. They are read some at a time: what a page may
/// hold in bytes bounds what is read, whatever its limit says.
async fn placed(
    conn: &Conn,
    num: i64,
    list: &EventList,
    (mut low, mut high): (i64, i64),
) -> Told<(Vec<Stored>, bool)> {
    const CHUNK: u32 = 100;
    let order = match list.order {
        Order::Asc => "ASC",
        Order::Desc => "DESC",
    };
    let sql = format!(
        "SELECT seq, id, thread, on_primary, kind, processed_at, body FROM events
         WHERE session = $1 AND seq > $2 AND seq < $3
           AND (($4::bytea IS NULL AND on_primary) OR thread = $4)
           AND ($5::text[] IS NULL OR kind = ANY ($5))
         ORDER BY seq {order} LIMIT $6"
    );
    let limit = list.limit.max(1) as usize;
    let (mut events, mut bytes) = (Vec::<Stored>::new(), 0);
    loop {
        let (thread, kinds) = filters(list);
        let rows = conn
            .rows(&sql, values![num, low, high, thread, kinds, CHUNK])
            .await?;
        for row in &rows {
            let event = stored(row)?;
            bytes += event.json.len();
            // A page has at least one event, however large.
            if events.len() == limit || (bytes > limits::PAGE_BYTES && !events.is_empty()) {
                return Ok((events, true));
            }
            events.push(event);
        }
        if rows.len() < CHUNK as usize {
            return Ok((events, false));
        }
        let last = events.last().and_then(|e| e.seq).map_or(0, int);
        match list.order {
            Order::Asc => low = last,
            Order::Desc => high = last,
        }
    }
}

type Filters<'l> = (Option<[u8; 16]>, Option<Vec<&'l str>>);

fn filters(list: &EventList) -> Filters<'_> {
    let thread = match list.of {
        Of::Primary => None,
        Of::Thread(thread) => Some(thread.bits().to_be_bytes()),
    };
    let kinds = list.kinds.iter().map(String::as_str).collect::<Vec<_>>();
    (thread, (!kinds.is_empty()).then_some(kinds))
}

async fn inbox(conn: &Conn, num: i64, list: &EventList) -> Told<Vec<Stored>> {
    let sql = "SELECT id, thread, kind, body FROM inbox
               WHERE session = $1 AND ($2::bytea IS NULL OR thread = $2)
                 AND kind <> 'agent.thread_message_received'
                 AND ($3::text[] IS NULL OR kind = ANY ($3))
               ORDER BY n";
    let (thread, kinds) = filters(list);
    let rows = conn.rows(sql, values![num, thread, kinds]).await?;
    Ok(each(&rows, waiting)?)
}

/// The places between which the page lies, both excluded. Times grow with places, so an instant is
/// found by halving and no page reads what lies before its range.
async fn bounds(conn: &Conn, num: i64, list: &EventList) -> Told<(i64, i64)> {
    let TimeRange { min, max } = list.processed;
    let (mut low, mut high) = (0, i64::MAX);
    if !list.processed.is_all() {
        let last = last_seq(conn, num).await?;
        low = first_at(conn, num, last, min).await? - 1;
        high = match max.0.checked_add(1) {
            Some(past) => first_at(conn, num, last, Micros(past)).await?,
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

async fn last_seq(conn: &Conn, num: i64) -> Told<i64> {
    let sql = "SELECT seq FROM events WHERE session = $1 ORDER BY seq DESC LIMIT 1";
    match conn.row(sql, values![num]).await? {
        Some(row) => Ok(get(&row, 0)?),
        None => Ok(0),
    }
}

/// The first place whose time is `at` or later; one past the last if there is none.
async fn first_at(conn: &Conn, num: i64, last: i64, at: Micros) -> Told<i64> {
    let sql = "SELECT processed_at FROM events WHERE session = $1 AND seq = $2";
    let (mut low, mut high) = (1, last + 1);
    while low < high {
        let mid = low + (high - low) / 2;
        let row = conn.row(sql, values![num, mid]).await?;
        let row = row.ok_or_else(|| Fault::Bad("the log has a gap".into()))?;
        if get::<i64>(&row, 0)? >= at.0 {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    Ok(low)
}

pub(crate) async fn after(
    conn: &Conn,
    session: SessionId,
    seq: u64,
    limit: u32,
) -> Told<Vec<Stored>> {
    let num = num_of(conn, Scope::Any, session).await?;
    let sql = "SELECT seq, id, thread, on_primary, kind, processed_at, body FROM events
               WHERE session = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    let rows = conn.rows(sql, values![num, int(seq), limit]).await?;
    Ok(each(&rows, stored)?)
}

pub(crate) async fn seq_of(conn: &Conn, session: SessionId, event: EventId) -> Told<Option<u64>> {
    let num = num_of(conn, Scope::Any, session).await?;
    let sql = "SELECT seq FROM events WHERE session = $1 AND id = $2";
    let key = values![num, event.bits().to_be_bytes()];
    let row = conn.row(sql, key).await?;
    Ok(row.map(|row| number(&row, 0)).transpose()?)
}

pub(crate) async fn transcript(
    conn: &Conn,
    session: SessionId,
    thread: ThreadId,
    seq: u64,
    limit: u32,
) -> Told<Vec<TranscriptRow>> {
    let num = num_of(conn, Scope::Any, session).await?;
    // The condition on `kind` is the index's own, word for word.
    let sql = "SELECT e.seq, e.kind, e.body, r.body
               FROM events e
               LEFT JOIN records r ON r.session = e.session AND r.seq = e.seq
                 AND r.kind IN ('reply', 'summary', 'advice')
               WHERE e.session = $1 AND e.thread = $2 AND e.seq > $3 AND e.kind IN
                 ('user.message', 'system.message', 'user.define_outcome', 'user.custom_tool_result',
                  'agent.tool_result', 'agent.thread_message_received', 'agent.thread_context_compacted',
                  'span.model_request_end', 'span.outcome_evaluation_end')
               ORDER BY e.seq LIMIT $4";
    let key = values![num, thread.bits().to_be_bytes(), int(seq), limit];
    let rows = each(&conn.rows(sql, key).await?, |row| {
        Ok(TranscriptRow {
            seq: number(row, 0)?,
            kind: Cow::Owned(get(row, 1)?),
            json: shared(row, 2)?,
            record: raw_opt(row, 3)?,
        })
    });
    Ok(rows?)
}

/// User events of a session that wait, oldest first. What one thread says to another is nobody's but theirs before
/// it has its place.
pub(crate) async fn announced(conn: &Conn, session: SessionId) -> Told<Vec<Stored>> {
    let num = num_of(conn, Scope::Any, session).await?;
    let sql = "SELECT id, thread, kind, body FROM inbox
               WHERE session = $1 AND kind <> 'agent.thread_message_received' ORDER BY n";
    Ok(each(&conn.rows(sql, values![num]).await?, waiting)?)
}
