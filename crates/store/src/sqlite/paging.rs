//! One way to page by (created_at, id), for every list. The statement is made of fixed pieces; only
//! parameters carry values.

use contract::time::Micros;
use rusqlite::{Connection, Row, ToSql};

use crate::page::{List, Order, Side, Slice};

/// What a list selects. `t` is the alias that carries `created_at` and `id`.
pub(super) struct Source {
    /// `SELECT … FROM … t …`.
    pub(super) select: &'static str,
    /// Conditions, with `:scope` and others bound by the caller.
    pub(super) scope: &'static str,
    /// The column that says when an item was archived.
    pub(super) archived: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    Up,
    Down,
}

impl Walk {
    fn of(order: Order, side: Side) -> Self {
        match (order, side) {
            (Order::Asc, Side::After) | (Order::Desc, Side::Before) => Self::Up,
            (Order::Asc, Side::Before) | (Order::Desc, Side::After) => Self::Down,
        }
    }

    fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    fn sql(self, source: &Source) -> String {
        let Source {
            select,
            scope,
            archived,
        } = source;
        // The range is one vector bound and one plain bound, so that both sides narrow the index.
        let (cmp, far, dir) = match self {
            Self::Up => (">", "t.created_at <= :far", "ASC"),
            Self::Down => ("<", "t.created_at >= :far", "DESC"),
        };
        format!(
            "{select} WHERE {scope} AND (t.created_at, t.id) {cmp} (:at, :id) AND {far} \
             AND (:archived OR {archived} IS NULL) \
             ORDER BY t.created_at {dir}, t.id {dir} LIMIT :limit"
        )
    }
}

/// Sorts after every id.
const LAST: &str = "~";

/// Reads a page. `bound` are the parameters of the source's own conditions.
pub(super) fn page<T, I: ToString>(
    conn: &Connection,
    source: &Source,
    bound: &[(&str, &dyn ToSql)],
    list: &List<I>,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    key: impl Fn(&T) -> (Micros, String),
) -> rusqlite::Result<Slice<T>> {
    let side = list.cursor.as_ref().map_or(Side::After, |c| c.side);
    let walk = Walk::of(list.order, side);
    let at = list
        .cursor
        .as_ref()
        .map(|c| (c.created_at, c.id.to_string()));
    let limit = list.limit.max(1);
    let mut items = fetch(
        conn,
        source,
        bound,
        list,
        walk,
        at.clone(),
        limit + 1,
        &read,
    )?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    // The item a cursor names lies behind an empty page.
    let behind = match (&at, items.first()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(_), Some(first)) => {
            let first = Some(key(first));
            !fetch(conn, source, bound, list, walk.back(), first, 1, &read)?.is_empty()
        }
    };
    let (has_prev, has_next) = match side {
        Side::After => (behind, more),
        Side::Before => {
            items.reverse();
            (more, behind)
        }
    };
    Ok(Slice {
        items,
        has_prev,
        has_next,
    })
}

#[allow(clippy::too_many_arguments)] // one call site's worth of context, each of its own type
fn fetch<T, I>(
    conn: &Connection,
    source: &Source,
    bound: &[(&str, &dyn ToSql)],
    list: &List<I>,
    walk: Walk,
    at: Option<(Micros, String)>,
    limit: u32,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let range = list.created;
    let (edge, far) = match walk {
        // Just before the first item in the range: no id is smaller than the empty text.
        Walk::Up => ((range.min, String::new()), range.max),
        Walk::Down => ((range.max, LAST.to_owned()), range.min),
    };
    let (at, id) = match (at, walk) {
        (None, _) => edge,
        (Some(at), Walk::Up) => at.max(edge),
        (Some(at), Walk::Down) => at.min(edge),
    };
    let mut params = bound.to_vec();
    params.push((":at", &at.0));
    params.push((":id", &id));
    params.push((":far", &far.0));
    params.push((":archived", &list.include_archived));
    params.push((":limit", &limit));
    let mut statement = conn.prepare_cached(&walk.sql(source))?;
    let rows = statement.query_map(params.as_slice(), |row| read(row))?;
    rows.collect()
}
