//! SQL of `changes` and `replicas`: what a commit changed for other servers, and who these are.

use std::collections::HashSet;

use contract::ids::SessionId;
use contract::time::Micros;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::fault::Read;
use super::row::{each, get, micros, number};
use super::sessions::num_of;
use super::value::values;
use super::{Conn, Cx, Told};
use crate::limits;
use crate::replica::{Own, Replica, Seen};
use crate::rules::change::Change;
use crate::sessions::Scope;
use crate::store::Shared;

/// Statement of [`put`].
pub(super) const PUT: &str = "INSERT INTO changes (origin, body) VALUES ($1, $2)";

/// Writes what the transaction changed.
pub(super) async fn put(conn: &Conn, origin: &str, body: &str) -> Read<()> {
    conn.execute(PUT, values![origin, body]).await.map(|_| ())
}

type Done<T> = Result<T, tokio_postgres::Error>;

/// How far the changes of other servers were read. No number can say that: one that was given out early may be
/// committed late. So all are read whose transaction may have been open at the last reading, but for those that
/// were read then.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The oldest transaction that may have been open at the last reading.
    floor: Option<String>,
    /// Those read then that are not below it.
    seen: HashSet<i64>,
}

impl Reader {
    /// Tells this server what changed since the last call. The first tells nothing.
    pub(super) async fn read(
        &mut self,
        client: &Client,
        origin: &str,
        shared: &Shared,
    ) -> Done<()> {
        const FLOOR: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";
        const SINCE: &str = "SELECT id, body, xid >= $2::text::xid8, origin FROM changes
            WHERE xid >= $1::text::xid8 ORDER BY id";
        // First: what is committed between the two is read now, and once more the next time.
        let next: String = client.query_one(FLOOR, &[]).await?.get(0);
        let Some(floor) = self.floor.replace(next.clone()) else {
            return Ok(());
        };
        let rows = client.query(SINCE, &[&floor, &next]).await?;
        let before = std::mem::take(&mut self.seen);
        for row in rows {
            let id = row.get::<_, i64>(0);
            if row.get::<_, bool>(2) {
                self.seen.insert(id);
            }
            if before.contains(&id) || row.get::<_, &str>(3) == origin {
                continue;
            }
            Change::hear(row.get(1), shared);
        }
        Ok(())
    }
}

/// Takes the name for as long as the connection lasts; false if somebody has it.
pub(super) async fn take_name(client: &Client, me: &Replica) -> Done<bool> {
    /// "rep" in ASCII: what follows is a name.
    const NAMES: i32 = 0x72_6570;
    let sql = "SELECT pg_try_advisory_lock($1, hashtext($2))";
    let row = client.query_one(sql, &[&NAMES, &me.name.as_str()]).await?;
    Ok(row.get(0))
}

/// Is there from now on, as `holder`.
pub(super) async fn enter(client: &Client, me: &Replica, holder: &str) -> Done<()> {
    let sql = "WITH c AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now),
          gone AS (DELETE FROM replicas WHERE seen_at < (SELECT now FROM c) - 86400000000 AND name <> $1)
        INSERT INTO replicas (name, holder, version, linked_at, seen_at, turns)
        SELECT $1, $2, $3, now, now, 0 FROM c
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, version = excluded.version,
          linked_at = excluded.linked_at, seen_at = excluded.seen_at, key_version = NULL";
    client
        .execute(sql, &[&me.name.as_str(), &holder, &me.version])
        .await
        .map(|_| ())
}

/// What a server learns when it says that it is there.
pub(super) struct Beat {
    /// Microseconds by which its clock is at least before the database's, or behind it if less than 0: how long the
    /// answer took counts as no difference.
    pub(super) ahead: i64,
    /// Somebody who is not there any more holds runs.
    pub(super) orphans: bool,
}

/// Is there still; nothing if somebody else has taken the name.
pub(super) async fn beat(
    client: &Client,
    me: &Replica,
    holder: &str,
    own: &Own,
) -> Done<Option<Beat>> {
    let sql = "UPDATE replicas SET turns = (SELECT count(*) FROM runs WHERE held AND holder = $2),
          seen_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
          address = $3, sandboxes = $4, key_version = $5
        WHERE name = $1 AND holder = $2 RETURNING seen_at";
    let (address, sandboxes, key) = (own.address(), own.sandboxes(), own.key_version());
    let row: [&(dyn ToSql + Sync); 5] = [&me.name.as_str(), &holder, &address, &sandboxes, &key];
    let asked = crate::clock::now().0;
    let Some(row) = client.query_opt(sql, &row).await? else {
        return Ok(None);
    };
    let (then, told) = (row.get::<_, i64>(0), crate::clock::now().0);
    let ahead = (asked - then).max(0) + (told - then).min(0);
    let sql = "SELECT EXISTS (SELECT 1 FROM runs r WHERE held AND NOT EXISTS
        (SELECT 1 FROM live_replicas l WHERE l.holder = r.holder))";
    let orphans = client.query_one(sql, &[]).await?.get(0);
    Ok(Some(Beat { ahead, orphans }))
}

/// Removes what every server has read long since.
pub(super) async fn sweep(client: &Client) -> Done<()> {
    let sql = "DELETE FROM changes
        WHERE at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1";
    let kept = i64::try_from(limits::CHANGES_KEPT.as_micros()).unwrap_or(i64::MAX);
    client.execute(sql, &[&kept]).await.map(|_| ())
}

/// Is there no more: whatever it holds may be taken at once.
pub(super) async fn leave(client: &Client, holder: &str) -> Done<()> {
    let sql = "UPDATE replicas SET seen_at = 0 WHERE holder = $1";
    client.execute(sql, &[&holder]).await.map(|_| ())
}

/// Sessions that `holder` runs.
pub(super) async fn held(client: &Client, holder: &str) -> Done<Vec<SessionId>> {
    let sql = "SELECT id FROM runs WHERE held AND holder = $1";
    let rows = client.query(sql, &[&holder]).await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.get::<_, &str>(0).parse().ok())
        .collect())
}

/// The servers there are.
pub(crate) async fn replicas(conn: &Conn) -> Told<Vec<Seen>> {
    let sql = "SELECT p.name, p.version, l.name IS NOT NULL, p.turns, p.sandboxes, p.address,
          p.linked_at, nullif(p.seen_at, 0), p.key_version
        FROM replicas p LEFT JOIN live_replicas l ON l.name = p.name ORDER BY p.name";
    let rows = conn.rows(sql, values![]).await?;
    let seen = each(&rows, |row| {
        Ok(Seen {
            name: get(row, 0)?,
            version: get(row, 1)?,
            is_live: get(row, 2)?,
            turns: number(row, 3)?,
            sandboxes: number(row, 4)?,
            address: get(row, 5)?,
            linked_at: micros(row, 6)?,
            seen_at: get::<Option<i64>>(row, 7)?.map(Micros),
            key_version: get::<Option<i64>>(row, 8)?.and_then(|it| u32::try_from(it).ok()),
        })
    });
    Ok(seen?)
}

/// Binds the session's workspace to that server, unless another has it.
pub(crate) async fn bind(cx: &mut Cx, session: SessionId, host: &str, now: Micros) -> Told<()> {
    let num = num_of(&cx.conn, Scope::Any, session).await?;
    let sql = "INSERT INTO bindings AS b (session, generation, since, body, host)
        SELECT num, generation, $2, $3, $4 FROM session_states WHERE num = $1
        ON CONFLICT (session) DO UPDATE SET host = coalesce(b.host, excluded.host)";
    let body = format!(r#"{{"harness":null,"runner":null,"sandbox":"{session}"}}"#);
    cx.conn
        .execute(sql, values![num, now.0, body, host])
        .await?;
    Ok(())
}
