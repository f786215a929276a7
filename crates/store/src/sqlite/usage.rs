//! SQL of `usage_days`.

use contract::ids::WorkspaceId;
use rusqlite::{Connection, Row};
use session::Cost;

use super::Told;
use super::row::{number, text};
use crate::rules::sums::Day;
use crate::usage::UsageDay;

/// Adds what the writes of a transaction used to its day.
pub(super) fn add(conn: &Connection, day: &Day, used: &[i64; 7]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO usage_days
                 (workspace, agent, day, input, output, cache_read, cache_5m, cache_1h, cost, active)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
               ON CONFLICT (day, workspace, agent) DO UPDATE SET
                 input = input + excluded.input, output = output + excluded.output,
                 cache_read = cache_read + excluded.cache_read,
                 cache_5m = cache_5m + excluded.cache_5m, cache_1h = cache_1h + excluded.cache_1h,
                 cost = cost + excluded.cost, active = active + excluded.active";
    let [input, output, cache_read, cache_5m, cache_1h, cost, active] = *used;
    let row = rusqlite::params![
        day.workspace.to_string(),
        day.agent,
        day.day,
        input,
        output,
        cache_read,
        cache_5m,
        cache_1h,
        cost,
        active
    ];
    conn.prepare_cached(sql)?.execute(row).map(|_| ())
}

fn day(row: &Row<'_>) -> rusqlite::Result<UsageDay> {
    Ok(UsageDay {
        workspace: text(row, 0)?,
        agent: text(row, 1)?,
        day: row.get(2)?,
        input: number(row, 3)?,
        output: number(row, 4)?,
        cache_read: number(row, 5)?,
        cache_5m: number(row, 6)?,
        cache_1h: number(row, 7)?,
        cost: Cost(number(row, 8)?),
        active: number(row, 9)?,
    })
}

pub(crate) fn days(
    conn: &Connection,
    workspace: Option<WorkspaceId>,
    (from, to): (i64, i64),
    limit: u32,
) -> Told<Vec<UsageDay>> {
    let sql =
        "SELECT workspace, agent, day, input, output, cache_read, cache_5m, cache_1h, cost, active
               FROM usage_days
               WHERE day BETWEEN ?2 AND ?3 AND (?1 IS NULL OR workspace = ?1)
               ORDER BY day, workspace, agent LIMIT ?4";
    let workspace = workspace.map(|w| w.to_string());
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((workspace, from, to, limit), day)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
