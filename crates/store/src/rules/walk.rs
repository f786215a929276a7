//! One way to page by (created_at, id), for every list: which way a statement walks, where it begins, and what the
//! rows it found say of the page.

use contract::time::Micros;

use crate::page::{List, Order, Side, Slice};

/// Which way the index is walked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    Up,
    Down,
}

/// A key of a list: when an item was created, and its id.
pub(crate) type Key = (Micros, String);

/// Sorts after every id.
const LAST: &str = "~";

impl Walk {
    fn of(order: Order, side: Side) -> Self {
        match (order, side) {
            (Order::Asc, Side::After) | (Order::Desc, Side::Before) => Self::Up,
            (Order::Asc, Side::Before) | (Order::Desc, Side::After) => Self::Down,
        }
    }

    /// The other way.
    pub(crate) fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// How a key is compared with where it begins, the time with where it ends, and the order of the rows.
    pub(crate) fn words(self) -> [&'static str; 3] {
        match self {
            Self::Up => [">", "<=", "ASC"],
            Self::Down => ["<", ">=", "DESC"],
        }
    }

    /// The key behind which a statement begins, and the time at which it ends.
    pub(crate) fn range<I>(self, list: &List<I>, at: Option<Key>) -> (Key, Micros) {
        let range = list.created;
        let (edge, far) = match self {
            // Just before the first item in the range: no id is smaller than the empty text.
            Self::Up => ((range.min, String::new()), range.max),
            Self::Down => ((range.max, LAST.to_owned()), range.min),
        };
        let at = match (at, self) {
            (None, _) => edge,
            (Some(at), Self::Up) => at.max(edge),
            (Some(at), Self::Down) => at.min(edge),
        };
        (at, far)
    }
}

/// One page that is being read.
pub(crate) struct Walked {
    side: Side,
    /// Which way its statement walks.
    pub(crate) walk: Walk,
    /// Where the cursor is.
    pub(crate) at: Option<Key>,
    /// Items of a page.
    limit: usize,
}

impl Walked {
    pub(crate) fn of<I: ToString>(list: &List<I>) -> Self {
        let side = list.cursor.as_ref().map_or(Side::After, |c| c.side);
        let at = list.cursor.as_ref();
        Self {
            side,
            walk: Walk::of(list.order, side),
            at: at.map(|c| (c.created_at, c.id.to_string())),
            limit: list.limit.max(1) as usize,
        }
    }

    /// Rows to ask for: one more than are shown tells whether there are more.
    pub(crate) fn wanted(&self) -> u32 {
        u32::try_from(self.limit).unwrap_or(u32::MAX - 1) + 1
    }

    /// Where to look for what lies behind the first item that was found, the other way; nothing if that is known.
    pub(crate) fn behind<T>(&self, items: &[T], key: impl Fn(&T) -> Key) -> Behind {
        match (&self.at, items.first()) {
            (None, _) => Behind::Known(false),
            // The item a cursor names lies behind an empty page.
            (Some(_), None) => Behind::Known(true),
            (Some(_), Some(first)) => Behind::Look(key(first)),
        }
    }

    /// The page.
    pub(crate) fn slice<T>(&self, mut items: Vec<T>, behind: bool) -> Slice<T> {
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let (has_prev, has_next) = match self.side {
            Side::After => (behind, more),
            Side::Before => {
                items.reverse();
                (more, behind)
            }
        };
        Slice {
            items,
            has_prev,
            has_next,
        }
    }
}

/// Whether there is anything behind a page.
pub(crate) enum Behind {
    /// That is known.
    Known(bool),
    /// Whoever finds anything behind this key knows.
    Look(Key),
}
