//! One way to page by (created_at, id), for every list. The statement is made of fixed pieces; only
//! parameters carry values.

use contract::time::Micros;
use tokio_postgres::Row;

use super::conn::Conn;
use super::fault::Read;
use super::row::each;
use super::value::Value;
use crate::page::{List, Order, Side, Slice};

/// What a list selects. `t` is the alias that carries `created_at` and `id`.
pub(super) struct Source {
    /// `SELECT … FROM … t …`.
    pub(super) select: &'static str,
    /// Conditions on `$1` and on, which the caller gives.
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

    /// The statement after `bound` parameters of the source's own.
    fn sql(self, source: &Source, bound: usize) -> String {
        let Source {
            select,
            scope,
            archived,
        } = source;
        let [at, id, far, all, limit] = [1, 2, 3, 4, 5].map(|n| bound + n);
        // The range is one vector bound and one plain bound, so that both sides narrow the index.
        let (cmp, end, dir) = match self {
            Self::Up => (">", "<=", "ASC"),
            Self::Down => ("<", ">=", "DESC"),
        };
        format!(
            "{select} WHERE {scope} AND (t.created_at, t.id) {cmp} (${at}, ${id}) \
             AND t.created_at {end} ${far} AND (${all} OR {archived} IS NULL) \
             ORDER BY t.created_at {dir}, t.id {dir} LIMIT ${limit}"
        )
    }
}

/// Sorts after every id.
const LAST: &str = "~";

/// Reads a page. `bound` gives the parameters of the source's own conditions.
pub(super) async fn page<T, I: ToString + Sync>(
    conn: &Conn,
    source: &Source,
    bound: &(dyn Fn() -> Vec<Value<'static>> + Sync),
    list: &List<I>,
    read: impl Fn(&Row) -> Read<T> + Sync,
    key: impl Fn(&T) -> (Micros, String) + Sync,
) -> Read<Slice<T>> {
    let side = list.cursor.as_ref().map_or(Side::After, |c| c.side);
    let walk = Walk::of(list.order, side);
    let at = list
        .cursor
        .as_ref()
        .map(|c| (c.created_at, c.id.to_string()));
    let limit = list.limit.max(1);
    let rows = fetch(conn, source, bound(), list, walk, at.clone(), limit + 1).await?;
    let mut items = each(&rows, &read)?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    // The item a cursor names lies behind an empty page.
    let behind = match (&at, items.first()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(_), Some(first)) => {
            let first = Some(key(first));
            let rows = fetch(conn, source, bound(), list, walk.back(), first, 1).await?;
            !rows.is_empty()
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

async fn fetch<I>(
    conn: &Conn,
    source: &Source,
    bound: Vec<Value<'_>>,
    list: &List<I>,
    walk: Walk,
    at: Option<(Micros, String)>,
    limit: u32,
) -> Read<Vec<Row>> {
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
    let sql = walk.sql(source, bound.len());
    let mut values = bound;
    values.extend([
        at.0.into(),
        id.into(),
        far.0.into(),
        list.include_archived.into(),
        limit.into(),
    ]);
    conn.rows(&sql, &values).await
}
