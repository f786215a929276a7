//! One way to page by (created_at, id), for every list. The statement is made of fixed pieces; only
//! parameters carry values.

use tokio_postgres::Row;

use super::conn::Conn;
use super::fault::Read;
use super::row::each;
use super::value::Value;
use crate::page::{List, Slice};
use crate::rules::walk::{Behind, Key, Walk, Walked};

/// What a list selects. `t` is the alias that carries `created_at` and `id`.
pub(super) struct Source {
    /// `SELECT … FROM … t …`.
    pub(super) select: &'static str,
    /// Conditions on `$1` and on, which the caller gives.
    pub(super) scope: &'static str,
    /// The column that says when an item was archived.
    pub(super) archived: &'static str,
}

/// The statement after `bound` parameters of the source's own.
fn sql(walk: Walk, source: &Source, bound: usize) -> String {
    let Source {
        select,
        scope,
        archived,
    } = source;
    let [at, id, far, all, limit] = [1, 2, 3, 4, 5].map(|n| bound + n);
    // The range is one vector bound and one plain bound, so that both sides narrow the index.
    let [cmp, end, dir] = walk.words();
    format!(
        "{select} WHERE {scope} AND (t.created_at, t.id) {cmp} (${at}, ${id}) \
         AND t.created_at {end} ${far} AND (${all} OR {archived} IS NULL) \
         ORDER BY t.created_at {dir}, t.id {dir} LIMIT ${limit}"
    )
}

/// Reads a page. `bound` gives the parameters of the source's own conditions.
pub(super) async fn page<T, I: ToString + Sync>(
    conn: &Conn,
    source: &Source,
    bound: &(dyn Fn() -> Vec<Value<'static>> + Sync),
    list: &List<I>,
    read: impl Fn(&Row) -> Read<T> + Sync,
    key: impl Fn(&T) -> Key + Sync,
) -> Read<Slice<T>> {
    let walked = Walked::of(list);
    let fetch = async |walk: Walk, at: Option<Key>, limit: u32| {
        let (at, far) = walk.range(list, at);
        let mut values = bound();
        let sql = sql(walk, source, values.len());
        values.extend([
            at.0.0.into(),
            at.1.into(),
            far.0.into(),
            list.include_archived.into(),
            limit.into(),
        ]);
        conn.rows(&sql, &values).await
    };
    let rows = fetch(walked.walk, walked.at.clone(), walked.wanted()).await?;
    let items = each(&rows, &read)?;
    let behind = match walked.behind(&items, key) {
        Behind::Known(behind) => behind,
        Behind::Look(at) => !fetch(walked.walk.back(), Some(at), 1).await?.is_empty(),
    };
    Ok(walked.slice(items, behind))
}
