//! From the query of a list to what the store is asked, and from its answer to cursors. It knows no
//! resource.

use contract::error::ApiError;
use contract::ids::{AgentId, CredentialId, EnvironmentId, SessionId, VaultId};
use contract::query::{Order, Paging, Range};
use contract::time::Micros;
use store::page::{self, List, Slice, TimeRange};

use crate::call::Call;
use crate::cursor::{Cursor, Scope, Side};

/// An id that can stand in a cursor.
pub(crate) trait Key: Copy {
    fn bits(self) -> u128;
    fn from_bits(bits: u128) -> Self;
}

macro_rules! keys {
    ($($id:ty),*) => {$(
        impl Key for $id {
            fn bits(self) -> u128 {
                <$id>::bits(self)
            }

            fn from_bits(bits: u128) -> Self {
                <$id>::from_bits(bits)
            }
        }
    )*};
}

keys!(AgentId, CredentialId, EnvironmentId, SessionId, VaultId);

/// What a list by creation and id is asked for.
pub(crate) struct Keyset<I> {
    scope: Scope,
    pub(crate) list: List<I>,
}

impl<I: Key> Keyset<I> {
    /// Reads the cursor, which must belong to this list.
    pub(crate) fn new(
        call: &Call,
        paging: &Paging,
        order: Order,
        created: Range,
        include_archived: bool,
    ) -> Result<Self, ApiError> {
        let scope = scope(call, order, created);
        let cursor = paging
            .page
            .as_deref()
            .map(|text| scope.read(text))
            .transpose()?;
        let cursor = cursor.map(
            |Cursor {
                 side,
                 position: (created_at, id),
             }| page::Cursor {
                created_at,
                id: I::from_bits(id),
                side: match side {
                    Side::After => page::Side::After,
                    Side::Before => page::Side::Before,
                },
            },
        );
        let list = List {
            limit: paging.limit,
            order: order_of(order),
            cursor,
            created: range_of(created),
            include_archived,
        };
        Ok(Self { scope, list })
    }

    /// The cursor of the page after this one.
    pub(crate) fn next<T>(&self, slice: &Slice<T>, key: fn(&T) -> (Micros, I)) -> Option<String> {
        let last = slice.items.last().filter(|_| slice.has_next)?;
        Some(self.write(Side::After, key(last)))
    }

    /// The cursor of the page before this one.
    pub(crate) fn prev<T>(&self, slice: &Slice<T>, key: fn(&T) -> (Micros, I)) -> Option<String> {
        let first = slice.items.first().filter(|_| slice.has_prev)?;
        Some(self.write(Side::Before, key(first)))
    }

    fn write(&self, side: Side, (at, id): (Micros, I)) -> String {
        self.scope.write(side, &(at, id.bits()))
    }
}

/// The scope of the cursors of the list that a request is for.
pub(crate) fn scope(call: &Call, order: Order, bounds: Range) -> Scope {
    Scope::new(
        &call.path,
        order,
        &[bounds.gt, bounds.gte, bounds.lt, bounds.lte],
    )
}

pub(crate) fn order_of(order: Order) -> page::Order {
    match order {
        Order::Asc => page::Order::Asc,
        Order::Desc => page::Order::Desc,
    }
}

pub(crate) fn range_of(range: Range) -> TimeRange {
    let all = TimeRange::default();
    let all = range.gt.map_or(all, |at| all.gt(at));
    let all = range.gte.map_or(all, |at| all.gte(at));
    let all = range.lt.map_or(all, |at| all.lt(at));
    range.lte.map_or(all, |at| all.lte(at))
}
