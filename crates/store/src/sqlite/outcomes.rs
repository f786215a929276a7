//! SQL of `outcomes`: what sessions were asked to reach and how far they are. What stands there is the
//! core's to say.

use rusqlite::Connection;
use session::Evaluation;

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

/// Removes those of a deleted session; there are not many.
pub(super) const REMOVE: &str = "DELETE FROM outcomes WHERE session = ?1";
