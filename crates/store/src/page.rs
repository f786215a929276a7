//! Keyset paging: how a list is asked for and what it answers. What a cursor looks like on the wire
//! belongs to the gateway.

use contract::time::Micros;

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// Where a page lies from its cursor, in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// After the cursor: the next page.
    After,
    /// Before the cursor: the previous page.
    Before,
}

/// A place between two items: the key of an item, by (created_at, id).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor<I> {
    /// The item's creation.
    pub created_at: Micros,
    /// The item.
    pub id: I,
    /// On which side of it the page lies.
    pub side: Side,
}

/// Instants from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The earliest.
    pub min: Micros,
    /// The latest.
    pub max: Micros,
}

impl Default for TimeRange {
    fn default() -> Self {
        Self {
            min: Micros(i64::MIN),
            max: Micros(i64::MAX),
        }
    }
}

impl TimeRange {
    /// Later than `t`.
    #[must_use]
    pub fn gt(self, t: Micros) -> Self {
        self.gte(Micros(t.0.saturating_add(1)))
    }

    /// `t` or later.
    #[must_use]
    pub fn gte(self, t: Micros) -> Self {
        Self {
            min: self.min.max(t),
            ..self
        }
    }

    /// Earlier than `t`.
    #[must_use]
    pub fn lt(self, t: Micros) -> Self {
        self.lte(Micros(t.0.saturating_sub(1)))
    }

    /// `t` or earlier.
    #[must_use]
    pub fn lte(self, t: Micros) -> Self {
        Self {
            max: self.max.min(t),
            ..self
        }
    }

    /// True if every instant is in it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// What every list by (created_at, id) takes.
#[derive(Debug, Clone)]
pub struct List<I> {
    /// Items on the page; at least 1.
    pub limit: u32,
    /// The order.
    pub order: Order,
    /// Where the page lies; none is the first page.
    pub cursor: Option<Cursor<I>>,
    /// Creation within.
    pub created: TimeRange,
    /// Whether archived items are listed.
    pub include_archived: bool,
}

impl<I> List<I> {
    /// The first page of `limit` items, newest first, without archived ones.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self {
            limit,
            order: Order::Desc,
            cursor: None,
            created: TimeRange::default(),
            include_archived: false,
        }
    }

    /// The same list after `cursor`.
    #[must_use]
    pub fn after(self, created_at: Micros, id: I) -> Self {
        Self {
            cursor: Some(Cursor {
                created_at,
                id,
                side: Side::After,
            }),
            ..self
        }
    }

    /// The same list before `cursor`.
    #[must_use]
    pub fn before(self, created_at: Micros, id: I) -> Self {
        Self {
            cursor: Some(Cursor {
                created_at,
                id,
                side: Side::Before,
            }),
            ..self
        }
    }
}

/// One page, in the order of the list whatever side of the cursor it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<T> {
    /// The items.
    pub items: Vec<T>,
    /// There are items before the first: a previous page exists.
    pub has_prev: bool,
    /// There are items after the last: a next page exists.
    pub has_next: bool,
}
