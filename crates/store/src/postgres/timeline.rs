//! SQL of `timeline` and `bindings`.

use contract::ids::SessionId;
use contract::time::Micros;
use session::{Generation, State, Waited};

use super::fault::Read;
use super::row::{each, get, micros, number, raw};
use super::sessions::num_of;
use super::value::values;
use super::{Conn, Told};
use crate::error::SubmitError;
use crate::limits;
use crate::rules::{int, waiting};
use crate::sessions::Scope;
use crate::timeline::{Beside, Binding, Bound, Entry, Mark, OpenTurns};

/// Writes what a runner reports beside an input.
pub(super) async fn put(
    conn: &Conn,
    num: i64,
    state: &State,
    now: Micros,
    beside: &Beside,
    waits: &[Waited],
) -> Told<(), SubmitError> {
    if let Some(binding) = &beside.binding {
        bind(conn, num, state.generation, now, binding).await?;
    }
    if beside.marks.is_empty() && waits.is_empty() {
        return Ok(());
    }
    let waits = waits.iter().map(|waited| waiting(state, waited));
    let waits = waits.collect::<Result<Vec<_>, _>>()?;
    let last = "SELECT n FROM timeline WHERE session = $1 ORDER BY n DESC LIMIT 1";
    let last = match conn.row(last, values![num]).await? {
        Some(row) => get::<i64>(&row, 0)?,
        None => 0,
    };
    for (n, mark) in (last + 1..).zip(waits.iter().chain(&beside.marks)) {
        insert(conn, num, n, state.primary.turn, mark).await?;
        // As many go as come: a step removes one entry at most.
        let oldest = n - i64::from(limits::TIMELINE);
        if oldest > 0 {
            let sql = "DELETE FROM timeline WHERE session = $1 AND n = $2";
            conn.execute(sql, values![num, oldest]).await?;
        }
    }
    Ok(())
}

async fn insert(conn: &Conn, num: i64, n: i64, turn: u64, mark: &Mark) -> Read<()> {
    let sql = "INSERT INTO timeline (session, n, turn, at, took, kind, detail)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let (kind, detail) = (mark.spent.name(), mark.detail.get());
    let row = values![num, n, int(turn), mark.at.0, mark.took, kind, detail];
    conn.execute(sql, row).await.map(|_| ())
}

async fn bind(
    conn: &Conn,
    num: i64,
    generation: Generation,
    now: Micros,
    binding: &Binding,
) -> Read<()> {
    let sql = "INSERT INTO bindings AS b (session, generation, since, body, host)
               VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (session) DO UPDATE SET generation = excluded.generation,
                 since = CASE WHEN b.body = excluded.body THEN b.since ELSE excluded.since END,
                 body = excluded.body, host = coalesce(excluded.host, b.host)";
    let (body, host) = (binding.body.get(), binding.host.as_deref());
    let row = values![num, int(generation.0), now.0, body, host];
    conn.execute(sql, row).await.map(|_| ())
}

pub(crate) async fn open_turns(conn: &Conn) -> Told<OpenTurns> {
    let sql = "SELECT count(*) FILTER (WHERE held), count(*) FILTER (WHERE NOT held) FROM runs";
    let row = conn.row(sql, values![]).await?;
    let row = row.ok_or(super::Fault::Bad("a count without a row".into()))?;
    Ok(OpenTurns {
        running: number(&row, 0)?,
        waiting: number(&row, 1)?,
    })
}

pub(crate) async fn list(
    conn: &Conn,
    scope: Scope,
    session: SessionId,
    after: u64,
    limit: u32,
) -> Told<Vec<Entry>> {
    let num = num_of(conn, scope, session).await?;
    let sql = "SELECT n, turn, kind, at, took, detail FROM timeline
               WHERE session = $1 AND n > $2 ORDER BY n LIMIT $3";
    let rows = conn.rows(sql, values![num, int(after), limit]).await?;
    let entries = each(&rows, |row| {
        Ok(Entry {
            n: number(row, 0)?,
            turn: number(row, 1)?,
            spent: get(row, 2)?,
            at: micros(row, 3)?,
            took: get(row, 4)?,
            detail: raw(row, 5)?,
        })
    });
    Ok(entries?)
}

pub(crate) async fn binding(conn: &Conn, scope: Scope, session: SessionId) -> Told<Option<Bound>> {
    let num = num_of(conn, scope, session).await?;
    let sql = "SELECT generation, since, body, host FROM bindings WHERE session = $1";
    let Some(row) = conn.row(sql, values![num]).await? else {
        return Ok(None);
    };
    Ok(Some(Bound {
        generation: Generation(number(&row, 0)?),
        since: micros(&row, 1)?,
        body: raw(&row, 2)?,
        host: get(&row, 3)?,
    }))
}
