//! The shapes of lists (api.md §1.7). What a cursor means belongs to whoever makes it.

use schemars::JsonSchema;
use serde::Serialize;

/// A page with a cursor forward.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next_page: Option<String>,
}

/// A page with cursors both ways: sessions only.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BidiPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next_page: Option<String>,
    /// The cursor of the page before; null on the first.
    pub prev_page: Option<String>,
}

/// A page whose cursors are ids: models only.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct IdPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there are more in this direction.
    pub has_more: bool,
    /// The first item's id.
    pub first_id: Option<String>,
    /// The last item's id.
    pub last_id: Option<String>,
}

/// The answer to a delete: `{id, type}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Deleted<I> {
    /// What was deleted.
    pub id: I,
    /// `session_deleted` and the like.
    #[serde(rename = "type")]
    pub kind: &'static str,
}
