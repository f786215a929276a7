//! What the core must know beside a session's state, read inside the transaction of its decision. Read side only.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::Permission;
use contract::ids::EventId;
use session::Called;
use session::input::{Around, Needs, Profile, Waiting};

use super::fault::Read;
use super::row::{each, event_id, get, json, thread_id};
use super::value::values;
use super::{Conn, Told, threads};
use crate::error::SubmitError;

/// What the core must know beside the state.
pub(super) async fn around(conn: &Conn, num: i64, needs: &Needs) -> Told<Around, SubmitError> {
    Ok(Around {
        inbox: if needs.inbox {
            inbox(conn, num).await?
        } else {
            Vec::new()
        },
        profile: if needs.profile {
            profile(conn, num).await?
        } else {
            Profile::default()
        },
        calls: calls(conn, num, &needs.calls).await?,
        ended: match needs.thread {
            Some(thread) => threads::has_ended(conn, num, thread).await?,
            None => false,
        },
        ..Around::default()
    })
}

async fn inbox(conn: &Conn, num: i64) -> Read<Vec<Waiting>> {
    let sql = "SELECT id, event, thread FROM inbox WHERE session = $1 ORDER BY n";
    each(&conn.rows(sql, values![num]).await?, |row| {
        Ok(Waiting {
            id: event_id(row, 0)?,
            event: json(row, 1)?,
            thread: thread_id(row, 2)?,
        })
    })
}

async fn profile(conn: &Conn, num: i64) -> Read<Profile> {
    let sql = "SELECT title, metadata FROM sessions WHERE num = $1";
    match conn.row(sql, values![num]).await? {
        Some(row) => Ok(Profile {
            title: get(&row, 0)?,
            metadata: json(&row, 1)?,
        }),
        None => Err(super::fault::Failed::Bad("a session without a row".into())),
    }
}

/// The tool-use events among `wanted`, by their id. What a confirmation needs of one stands in its body.
async fn calls(
    conn: &Conn,
    num: i64,
    wanted: &BTreeSet<EventId>,
) -> Told<BTreeMap<EventId, Called>, SubmitError> {
    #[derive(serde::Deserialize)]
    struct ToolUse {
        evaluated_permission: Permission,
    }
    let sql = "SELECT kind, body, thread FROM events WHERE session = $1 AND id = $2
               AND kind IN ('agent.custom_tool_use', 'agent.tool_use')";
    let mut found = BTreeMap::new();
    for id in wanted {
        let key = values![num, id.bits().to_be_bytes()];
        let Some(row) = conn.row(sql, key).await? else {
            continue;
        };
        let permission = if get::<&str>(&row, 0)? == "agent.tool_use" {
            let ToolUse {
                evaluated_permission,
            } = json(&row, 1)?;
            Some(evaluated_permission)
        } else {
            None
        };
        let thread = thread_id(&row, 2)?;
        found.insert(*id, Called { thread, permission });
    }
    Ok(found)
}
