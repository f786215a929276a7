//! Records by what they are about, page by page. It must never look at more than a bounded number of them at once:
//! a page may have few records, or none, and there may be more behind it.

use std::path::Path;

use contract::ids::{SessionId, WorkspaceId};
use contract::time::Micros;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use super::chain::{AuditError, Entry};
use super::read::open_to_read;
use super::record::{Action, Record};
use crate::limits;

/// Which records, and which page of them. What is absent filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// Of sessions of that workspace.
    pub workspace: Option<WorkspaceId>,
    /// Of that session.
    pub session: Option<SessionId>,
    /// Of that sandbox.
    pub sandbox: Option<String>,
    /// Of that name, or that address.
    pub host: Option<String>,
    /// Of what was done.
    pub action: Option<Action>,
    /// Not before this instant.
    pub since: Option<Micros>,
    /// Before this instant.
    pub until: Option<Micros>,
    /// Only behind this place.
    pub after: u64,
    /// The order; else the oldest comes first.
    pub newest_first: bool,
    /// The place behind which it goes on, in that order.
    pub from: Option<u64>,
    /// Records of a page.
    pub limit: u32,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In the order that was asked for.
    pub records: Vec<Placed>,
    /// The last place that was looked at, to go on behind; none if there was nothing to look at.
    pub last: Option<u64>,
    /// Whether there may be more behind it.
    pub more: bool,
}

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// The record.
    pub record: Record,
}

/// One page of what is asked for, in the database at `path`, which may be in use.
///
/// # Errors
/// [`AuditError`].
pub fn search(path: &Path, asked: &Search) -> Result<Found, AuditError> {
    let conn = open_to_read(path)?;
    let (sql, values) = statement(asked);
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let (mut found, mut looked, mut bytes) = (Found::default(), 0, 0);
    while let Some(row) = rows.next()? {
        // One more than is looked at was asked for: there is more.
        let is_full = found.records.len() >= asked.limit as usize;
        if is_full || looked == limits::AUDIT_SCAN || bytes >= limits::AUDIT_PAGE_BYTES {
            found.more = true;
            break;
        }
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let body = row.get_ref(1)?.as_str().unwrap_or_default();
        (looked, found.last) = (looked + 1, Some(seq));
        if let Entry::Egress(record) = serde_json::from_str(body)?
            && asked.is_of(&record)
        {
            bytes += body.len();
            let record = *record;
            found.records.push(Placed { seq, record });
        }
    }
    Ok(found)
}

/// What an index finds is asked of the database, the rest is looked at one by one.
fn statement(asked: &Search) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut sql = "SELECT seq, body FROM records WHERE 1".to_owned();
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        sql.push_str(condition);
        sql.push_str(&values.len().to_string());
    };
    if asked.after > 0 {
        and(" AND seq > ?", Value::Integer(asked.after.cast_signed()));
    }
    if let Some(from) = asked.from {
        let behind = if asked.newest_first {
            " AND seq < ?"
        } else {
            " AND seq > ?"
        };
        and(behind, Value::Integer(from.cast_signed()));
    }
    let indexed = [
        (" AND sandbox = ?", asked.sandbox.clone()),
        (" AND session = ?", asked.session.map(|id| id.to_string())),
        (
            " AND body ->> '$.egress.workspace' = ?",
            asked.workspace.map(|id| id.to_string()),
        ),
    ];
    for (condition, value) in indexed {
        if let Some(value) = value {
            and(condition, Value::Text(value));
        }
    }
    let order = if asked.newest_first { "DESC" } else { "ASC" };
    let most = limits::AUDIT_SCAN + 1;
    sql.push_str(&format!(" ORDER BY seq {order} LIMIT {most}"));
    (sql, values)
}

impl Search {
    fn is_of(&self, record: &Record) -> bool {
        let host = |host: &String| {
            let address = || record.address.map(|ip| ip.to_string());
            record.name.as_ref() == Some(host) || address().as_ref() == Some(host)
        };
        self.host.as_ref().is_none_or(host)
            && self.action.is_none_or(|action| action == record.action)
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
    }
}
