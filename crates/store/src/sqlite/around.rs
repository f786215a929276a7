//! What the core must know beside a session's state, read inside the transaction of its decision. Read side only.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::Permission;
use contract::ids::EventId;
use rusqlite::{Connection, OptionalExtension};
use session::Called;
use session::input::{Around, Needs, Profile, Waiting};

use super::row::{event_id, json, thread_id};
use super::{Told, threads};
use crate::error::SubmitError;

/// What the core must know beside the state.
pub(super) fn around(conn: &Connection, num: i64, needs: &Needs) -> Told<Around, SubmitError> {
    Ok(Around {
        inbox: if needs.inbox {
            inbox(conn, num)?
        } else {
            Vec::new()
        },
        profile: if needs.profile {
            profile(conn, num)?
        } else {
            Profile::default()
        },
        calls: calls(conn, num, &needs.calls)?,
        ended: match needs.thread {
            Some(thread) => threads::has_ended(conn, num, thread)?,
            None => false,
        },
        ..Around::default()
    })
}

fn inbox(conn: &Connection, num: i64) -> rusqlite::Result<Vec<Waiting>> {
    let sql =
        "SELECT id, event, thread FROM inbox INDEXED BY inbox_order WHERE session = ?1 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([num], |row| {
        Ok(Waiting {
            id: event_id(row, 0)?,
            event: json(row, 1)?,
            thread: thread_id(row, 2)?,
        })
    })?;
    rows.collect()
}

fn profile(conn: &Connection, num: i64) -> rusqlite::Result<Profile> {
    let sql = "SELECT title, metadata FROM session_rows WHERE num = ?1";
    conn.prepare_cached(sql)?.query_row([num], |row| {
        Ok(Profile {
            title: row.get(0)?,
            metadata: json(row, 1)?,
        })
    })
}

/// The tool-use events among `wanted`, by their id. What a confirmation needs of one stands in its body.
fn calls(
    conn: &Connection,
    num: i64,
    wanted: &BTreeSet<EventId>,
) -> Told<BTreeMap<EventId, Called>, SubmitError> {
    #[derive(serde::Deserialize)]
    struct ToolUse {
        evaluated_permission: Permission,
    }
    let sql = "SELECT kind, body, thread FROM events WHERE session = ?1 AND id = ?2
               AND kind IN ('agent.custom_tool_use', 'agent.tool_use')";
    let mut found = BTreeMap::new();
    for id in wanted {
        let key = (num, id.bits().to_be_bytes());
        let row = conn.prepare_cached(sql)?.query_row(key, |row| {
            let thread = thread_id(row, 2)?;
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, thread))
        });
        let Some((kind, body, thread)) = row.optional()? else {
            continue;
        };
        let permission = if kind == "agent.tool_use" {
            let ToolUse {
                evaluated_permission,
            } = serde_json::from_str(&body)?;
            Some(evaluated_permission)
        } else {
            None
        };
        found.insert(*id, Called { thread, permission });
    }
    Ok(found)
}
