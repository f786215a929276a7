//! SQL of `timeline` and `bindings`.

use contract::ids::SessionId;
use contract::time::Micros;
use rusqlite::{Connection, OptionalExtension};
use session::{Generation, State, Waited};

use super::row::{micros, number, raw};
use super::sessions::num_of;
use super::{Fault, Told};
use crate::limits;
use crate::rules::{int, waiting};
use crate::sessions::Scope;
use crate::timeline::{Beside, Binding, Bound, Entry, Mark, OpenTurns};

/// Writes what a runner reports beside an input.
pub(super) fn put<E>(
    conn: &Connection,
    num: i64,
    state: &State,
    now: Micros,
    beside: &Beside,
    waits: &[Waited],
) -> Result<(), Fault<E>> {
    if let Some(binding) = &beside.binding {
        bind(conn, num, state.generation, now, binding)?;
        #[cfg(feature = "simulation")]
        if let Some(host) = &binding.host {
            crate::simulation::tell(|| {
                crate::simulation::Decided::Bound(state.session, host.clone())
            });
        }
    }
    if beside.marks.is_empty() && waits.is_empty() {
        return Ok(());
    }
    let waits = waits.iter().map(|waited| waiting(state, waited));
    let waits = waits.collect::<Result<Vec<_>, _>>()?;
    let last = "SELECT n FROM timeline WHERE session = ?1 ORDER BY n DESC LIMIT 1";
    let last = conn
        .prepare_cached(last)?
        .query_row([num], |row| row.get::<_, i64>(0))
        .optional()?
        .unwrap_or(0);
    for (n, mark) in (last + 1..).zip(waits.iter().chain(&beside.marks)) {
        insert(conn, num, n, state.primary.turn, mark)?;
        // As many go as come: a step removes one entry at most.
        let oldest = n - i64::from(limits::TIMELINE);
        if oldest > 0 {
            let sql = "DELETE FROM timeline WHERE session = ?1 AND n = ?2";
            conn.prepare_cached(sql)?.execute((num, oldest))?;
        }
    }
    Ok(())
}

fn insert(conn: &Connection, num: i64, n: i64, turn: u64, mark: &Mark) -> rusqlite::Result<()> {
    let sql = "INSERT INTO timeline (session, n, turn, at, took, kind, detail)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (kind, detail) = (mark.spent.name(), mark.detail.get());
    let row = (num, n, int(turn), mark.at.0, mark.took, kind, detail);
    conn.prepare_cached(sql)?.execute(row).map(|_| ())
}

fn bind(
    conn: &Connection,
    num: i64,
    generation: Generation,
    now: Micros,
    binding: &Binding,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO bindings (session, generation, since, body, host)
               VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (session) DO UPDATE SET generation = excluded.generation,
                 since = CASE WHEN body = excluded.body THEN since ELSE excluded.since END,
                 body = excluded.body, host = coalesce(excluded.host, host)";
    let (body, host) = (binding.body.get(), &binding.host);
    let row = (num, int(generation.0), now.0, body, host);
    conn.prepare_cached(sql)?.execute(row).map(|_| ())
}

pub(crate) fn open_turns(conn: &Connection) -> Told<OpenTurns> {
    let sql = "SELECT count(*) FILTER (WHERE held = 1), count(*) FILTER (WHERE held = 0) FROM runs";
    let found = conn.prepare_cached(sql)?.query_row([], |row| {
        Ok(OpenTurns {
            running: number(row, 0)?,
            waiting: number(row, 1)?,
        })
    })?;
    Ok(found)
}

pub(crate) fn list(
    conn: &Connection,
    scope: Scope,
    session: SessionId,
    after: u64,
    limit: u32,
) -> Told<Vec<Entry>> {
    let num = num_of(conn, scope, session)?;
    let sql = "SELECT n, turn, kind, at, took, detail FROM timeline
               WHERE session = ?1 AND n > ?2 ORDER BY n LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((num, int(after), limit), |row| {
        Ok(Entry {
            n: number(row, 0)?,
            turn: number(row, 1)?,
            spent: row.get(2)?,
            at: micros(row, 3)?,
            took: row.get(4)?,
            detail: raw(row, 5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn binding(conn: &Connection, scope: Scope, session: SessionId) -> Told<Option<Bound>> {
    let num = num_of(conn, scope, session)?;
    let sql = "SELECT generation, since, body, host FROM bindings WHERE session = ?1";
    let found = conn.prepare_cached(sql)?.query_row([num], |row| {
        Ok(Bound {
            generation: Generation(number(row, 0)?),
            since: micros(row, 1)?,
            body: raw(row, 2)?,
            host: row.get(3)?,
        })
    });
    Ok(found.optional()?)
}
