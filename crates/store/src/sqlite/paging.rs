//! One way to page by (created_at, id), for every list. The statement is made of fixed pieces; only
//! parameters carry values.

use rusqlite::{Connection, Row, ToSql};

use crate::page::{List, Slice};
use crate::rules::walk::{Behind, Key, Walk, Walked};

/// What a list selects. `t` is the alias that carries `created_at` and `id`.
pub(super) struct Source {
    /// `SELECT … FROM … t …`.
    pub(super) select: &'static str,
    /// Conditions, with `:scope` and others bound by the caller.
    pub(super) scope: &'static str,
    /// The column that says when an item was archived.
    pub(super) archived: &'static str,
}

fn sql(walk: Walk, source: &Source) -> String {
    let Source {
        select,
        scope,
        archived,
    } = source;
    // The range is one vector bound and one plain bound, so that both sides narrow the index.
    let [cmp, end, dir] = walk.words();
    format!(
        "{select} WHERE {scope} AND (t.created_at, t.id) {cmp} (:at, :id) AND t.created_at {end} :far \
         AND (:archived OR {archived} IS NULL) \
         ORDER BY t.created_at {dir}, t.id {dir} LIMIT :limit"
    )
}

/// Reads a page. `bound` are the parameters of the source's own conditions.
pub(super) fn page<T, I: ToString>(
    conn: &Connection,
    source: &Source,
    bound: &[(&str, &dyn ToSql)],
    list: &List<I>,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    key: impl Fn(&T) -> Key,
) -> rusqlite::Result<Slice<T>> {
    let walked = Walked::of(list);
    let fetch = |walk: Walk, at: Option<Key>, limit: u32| {
        let (at, far) = walk.range(list, at);
        let mut params = bound.to_vec();
        params.push((":at", &at.0.0));
        params.push((":id", &at.1));
        params.push((":far", &far.0));
        params.push((":archived", &list.include_archived));
        params.push((":limit", &limit));
        let mut statement = conn.prepare_cached(&sql(walk, source))?;
        let rows = statement.query_map(params.as_slice(), |row| read(row))?;
        rows.collect::<rusqlite::Result<Vec<T>>>()
    };
    let items = fetch(walked.walk, walked.at.clone(), walked.wanted())?;
    let behind = match walked.behind(&items, key) {
        Behind::Known(behind) => behind,
        Behind::Look(at) => !fetch(walked.walk.back(), Some(at), 1)?.is_empty(),
    };
    Ok(walked.slice(items, behind))
}
