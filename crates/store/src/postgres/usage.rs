//! SQL of `usage_days`.

use contract::ids::WorkspaceId;
use session::Cost;
use tokio_postgres::Row;

use super::fault::Read;
use super::row::{each, get, number, text};
use super::value::values;
use super::{Conn, Told};
use crate::rules::sums::Day;
use crate::usage::UsageDay;

/// Adds what the writes of a transaction used to its day.
pub(super) async fn add(conn: &Conn, day: &Day, used: &[i64; 7]) -> Read<()> {
    let [input, output, cache_read, cache_5m, cache_1h, cost, active] = *used;
    let row = values![
        day.workspace.to_string(),
        &*day.agent,
        day.day,
        input,
        output,
        cache_read,
        cache_5m,
        cache_1h,
        cost,
        active
    ];
    conn.execute(ADD, row).await.map(|_| ())
}

/// Statement of [`add`].
pub(super) const ADD: &str = "INSERT INTO usage_days AS d
      (workspace, agent, day, input, output, cache_read, cache_5m, cache_1h, cost, active)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (day, workspace, agent) DO UPDATE SET
      input = d.input + excluded.input, output = d.output + excluded.output,
      cache_read = d.cache_read + excluded.cache_read,
      cache_5m = d.cache_5m + excluded.cache_5m,
      cache_1h = d.cache_1h + excluded.cache_1h,
      cost = d.cost + excluded.cost, active = d.active + excluded.active";

fn day(row: &Row) -> Read<UsageDay> {
    Ok(UsageDay {
        workspace: text(row, 0)?,
        agent: text(row, 1)?,
        day: get(row, 2)?,
        input: number(row, 3)?,
        output: number(row, 4)?,
        cache_read: number(row, 5)?,
        cache_5m: number(row, 6)?,
        cache_1h: number(row, 7)?,
        cost: Cost(number(row, 8)?),
        active: number(row, 9)?,
    })
}

pub(crate) async fn days(
    conn: &Conn,
    workspace: Option<WorkspaceId>,
    (from, to): (i64, i64),
    limit: u32,
) -> Told<Vec<UsageDay>> {
    let sql =
        "SELECT workspace, agent, day, input, output, cache_read, cache_5m, cache_1h, cost, active
               FROM usage_days
               WHERE day BETWEEN $2 AND $3 AND ($1::text IS NULL OR workspace = $1)
               ORDER BY day, workspace, agent LIMIT $4";
    let key = values![workspace.map(|w| w.to_string()), from, to, limit];
    Ok(each(&conn.rows(sql, key).await?, day)?)
}
