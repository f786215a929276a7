//! Queries of memory stores (api.md §17).

use super::{Paging, Pairs, Range};
use crate::ids::{ApiKeyId, MemoryId, SessionId};
use crate::limits::{FULL_PAGE, PAGE};
use crate::memory::{self, Operation, View};
use crate::parse::Invalid;

/// `GET /v1/memory_stores`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListMemoryStores {
    pub paging: Paging,
    pub include_archived: bool,
    /// Only `gte` and `lte`.
    pub created_at: Range,
}

/// `GET` of a memory or of a version of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetMemory {
    /// Default: full.
    pub view: View,
}

/// `POST` of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteMemory {
    /// Of the answer. Default: basic.
    pub view: View,
}

/// `DELETE` of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteMemory {
    /// The digest that its content must have; absent: whatever it is.
    pub expected_content_sha256: Option<String>,
}

/// `GET /v1/memory_stores/{id}/memories`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListMemories {
    pub paging: Paging,
    /// Default: basic.
    pub view: View,
    /// A folder with its slash; `None`: all.
    pub path_prefix: Option<String>,
    pub depth: Depth,
}

/// How deep a list of memories goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Depth {
    /// All that is below.
    All,
    /// One level; what is deeper shows as a folder.
    Children,
}

/// `GET /v1/memory_stores/{id}/memory_versions`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListMemoryVersions {
    pub paging: Paging,
    /// Default: basic.
    pub view: View,
    pub memory_id: Option<MemoryId>,
    pub operation: Option<Operation>,
    /// Of those that this session wrote.
    pub session_id: Option<SessionId>,
    /// Of those that were written with this key.
    pub api_key_id: Option<ApiKeyId>,
    /// No version of this server has one, so a list filtered by it is empty.
    pub service_account_id: Option<String>,
    /// Only `gte` and `lte`.
    pub created_at: Range,
}

const OPERATIONS: [(&str, Operation); 3] = [
    ("created", Operation::Created),
    ("modified", Operation::Modified),
    ("deleted", Operation::Deleted),
];

fn view(pairs: &mut Pairs, default: View) -> Result<View, Invalid> {
    let views = [("basic", View::Basic), ("full", View::Full)];
    Ok(pairs.choice("view", &views)?.unwrap_or(default))
}

/// Pages with contents are shorter.
fn paged(pairs: &mut Pairs) -> Result<(Paging, View), Invalid> {
    let view = view(pairs, View::Basic)?;
    let limits = match view {
        View::Basic => PAGE,
        View::Full => FULL_PAGE,
    };
    Ok((pairs.paging(limits)?, view))
}

fn between(pairs: &mut Pairs) -> Result<Range, Invalid> {
    Ok(Range {
        gte: pairs.instant("created_at[gte]")?,
        lte: pairs.instant("created_at[lte]")?,
        ..Range::default()
    })
}

query!(ListMemoryStores, pairs => Self {
    paging: pairs.paging(PAGE)?,
    include_archived: pairs.boolean("include_archived")?.unwrap_or(false),
    created_at: between(&mut pairs)?,
});
query!(GetMemory, pairs => Self { view: view(&mut pairs, View::Full)? });
query!(WriteMemory, pairs => Self { view: view(&mut pairs, View::Basic)? });
query!(DeleteMemory, pairs => {
    let expected = pairs.text("expected_content_sha256")?;
    if expected.as_ref().is_some_and(|digest| !memory::is_sha256(digest)) {
        let problem = "must be 64 hexadecimal digits in lower case";
        return Err(Invalid::at("expected_content_sha256", problem));
    }
    Self { expected_content_sha256: expected }
});
query!(ListMemories, pairs => {
    let (paging, view) = paged(&mut pairs)?;
    let path_prefix = pairs.text("path_prefix")?;
    path_prefix.as_deref().map_or(Ok(()), memory::check_prefix)?;
    let depths = [("0", Depth::All), ("1", Depth::Children)];
    let depth = pairs.choice("depth", &depths)?.unwrap_or(Depth::All);
    Self { paging, view, path_prefix, depth }
});
query!(ListMemoryVersions, pairs => {
    let (paging, view) = paged(&mut pairs)?;
    Self {
        paging,
        view,
        memory_id: pairs.id("memory_id")?,
        operation: pairs.choice("operation", &OPERATIONS)?,
        session_id: pairs.id("session_id")?,
        api_key_id: pairs.id("api_key_id")?,
        service_account_id: pairs.text("service_account_id")?,
        created_at: between(&mut pairs)?,
    }
});
