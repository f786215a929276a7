//! What several servers on one database ask of one another before they take a run: who is there, and where a session's
//! workspace is. On a file there is one server, and nothing is asked; a simulation has several there, and then the answers
//! are those that the statements give on PostgreSQL (`postgres/runs.rs`).

use rusqlite::Connection;

use crate::runs::DueRun;

/// Whether whoever holds a run is there.
#[cfg(not(feature = "simulation"))]
pub(super) const fn is_there(_holder: &str) -> bool {
    true
}

/// Of the runs that are `due`, those that this server may take, and those whose holder is gone.
#[cfg(not(feature = "simulation"))]
#[allow(clippy::unnecessary_wraps, reason = "a simulation asks the database")]
pub(super) fn sifted(_conn: &Connection, due: Vec<DueRun>) -> rusqlite::Result<Vec<DueRun>> {
    Ok(due)
}

#[cfg(feature = "simulation")]
pub(super) fn is_there(holder: &str) -> bool {
    crate::simulation::fleet().is_none_or(|fleet| fleet.holds(holder))
}

#[cfg(feature = "simulation")]
pub(super) fn sifted(conn: &Connection, mut due: Vec<DueRun>) -> rusqlite::Result<Vec<DueRun>> {
    use contract::ids::SessionId;
    use rusqlite::OptionalExtension as _;
    use session::Generation;

    use super::row::{micros, number, text};
    use crate::faults::{self, Fault};

    let Some(fleet) = crate::simulation::fleet() else {
        return Ok(due);
    };
    let sql = "SELECT id, generation, due_at, holder FROM runs
        WHERE held = 1 AND lease_expires_at IS NULL ORDER BY due_at";
    let mut held = conn.prepare_cached(sql)?;
    let mut rows = held.query([])?;
    while let Some(row) = rows.next()? {
        let is_orphan = !fleet.holds(&row.get::<_, String>(3)?) && !faults::on(Fault::OrphansLeft);
        if is_orphan || faults::on(Fault::HolderUnasked) {
            due.push(DueRun {
                session: text(row, 0)?,
                generation: Generation(number(row, 1)?),
                due_at: micros(row, 2)?,
            });
        }
    }
    let (me, _) = fleet.me();
    let host = |session: SessionId| {
        let sql = "SELECT b.host FROM bindings b JOIN session_rows t ON t.num = b.session WHERE t.id = ?1";
        let mut statement = conn.prepare_cached(sql)?;
        let host =
            statement.query_row([session.to_string()], |row| row.get::<_, Option<String>>(0));
        Ok::<_, rusqlite::Error>(host.optional()?.flatten())
    };
    let mut found = Vec::with_capacity(due.len());
    for run in due {
        let elsewhere = host(run.session)?.filter(|host| host != me.as_str() && fleet.has(host));
        if elsewhere.is_none() || faults::on(Fault::HostUnasked) {
            found.push(run);
        }
    }
    Ok(found)
}
