//! SQL of `outcomes`: what sessions were asked to reach and how far they are. What stands there is the
//! core's to say.

use contract::ids::OutcomeId;
use contract::time::Micros;
use rusqlite::Connection;
use serde::Deserialize;
use session::Evaluation;

use crate::sessions::OutcomeRow;

/// A subquery of `sessions t`: its outcomes as JSON, in no order.
macro_rules! of_session {
    () => {
        "(SELECT json_group_array(json_object('n', o.n, 'id', o.id, 'description', o.description,
            'iteration', o.iteration, 'result', o.result, 'explanation', o.explanation,
            'completed_at', o.completed_at)) FROM outcomes o WHERE o.session = t.num)"
    };
}
pub(super) use of_session;

/// Writes where outcomes stand, in order.
pub(super) fn put(conn: &Connection, num: i64, evaluations: &[Evaluation]) -> rusqlite::Result<()> {
    for told in evaluations {
        let (result, at) = (told.standing.name(), told.completed_at.map(|at| at.0));
        if let Some(description) = &told.description {
            let sql = "INSERT INTO outcomes (session, n, id, description, iteration, result)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let id = told.id.to_string();
            let row = (num, told.n, id, description, told.iteration, result);
            conn.prepare_cached(sql)?.execute(row)?;
        } else {
            let sql = "UPDATE outcomes SET iteration = ?3, result = ?4, completed_at = ?6,
                         explanation = coalesce(?5, explanation)
                       WHERE session = ?1 AND n = ?2";
            let row = (num, told.n, told.iteration, result, &told.explanation, at);
            let moved = conn.prepare_cached(sql)?.execute(row)?;
            assert!(moved == 1, "an outcome moved that was never defined");
        }
    }
    Ok(())
}

/// What a session shows after its first decision.
pub(crate) fn first(evaluations: &[Evaluation]) -> Vec<OutcomeRow> {
    let mut rows: Vec<OutcomeRow> = Vec::new();
    for told in evaluations {
        if let Some(description) = &told.description {
            rows.push(OutcomeRow {
                n: told.n,
                id: told.id,
                description: description.clone(),
                iteration: 0,
                result: String::new(),
                explanation: None,
                completed_at: None,
            });
        }
        let of = |row: &&mut OutcomeRow| row.id == told.id;
        if let Some(row) = rows.iter_mut().find(of) {
            row.iteration = told.iteration;
            told.standing.name().clone_into(&mut row.result);
        }
    }
    rows
}

/// What the subquery gave, oldest first.
pub(crate) fn read(json: &str) -> Result<Vec<OutcomeRow>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Read {
        n: u32,
        id: OutcomeId,
        description: String,
        iteration: u32,
        result: String,
        explanation: Option<String>,
        completed_at: Option<i64>,
    }
    let mut rows: Vec<Read> = serde_json::from_str(json)?;
    rows.sort_by_key(|row| row.n);
    let rows = rows.into_iter().map(|row| OutcomeRow {
        n: row.n,
        id: row.id,
        description: row.description,
        iteration: row.iteration,
        result: row.result,
        explanation: row.explanation,
        completed_at: row.completed_at.map(Micros),
    });
    Ok(rows.collect())
}

/// Removes those of a deleted session; there are not many.
pub(super) const REMOVE: &str = "DELETE FROM outcomes WHERE session = ?1";
