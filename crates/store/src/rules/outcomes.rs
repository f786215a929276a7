//! Outcomes of a session as they are shown. How far each is, is the core's to say.

use contract::ids::OutcomeId;
use contract::time::Micros;
use serde::Deserialize;
use session::Evaluation;

use crate::sessions::OutcomeRow;

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
