//! Queries of files and skills (api.md §13, §14).

use super::{Paging, Pairs};
use crate::ids::{FileId, SessionId};
use crate::limits::{FILE_IDS, FILES_PAGE};
use crate::parse::Invalid;

/// `GET /v1/files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFiles {
    /// Which of those that the filter lets through.
    pub files: Files,
    /// Only those of this session.
    pub scope_id: Option<SessionId>,
}

/// Which files a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// A page of them.
    Page(Paging),
    /// These, as far as they are there: one page.
    Ids(Vec<FileId>),
}

/// `GET /v1/files` of [`crate::dialect::Vintage::Beta`]: a page is found by ids.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ListBetaFiles {
    pub limit: u32,
    pub after_id: Option<FileId>,
    pub before_id: Option<FileId>,
    pub scope_id: Option<SessionId>,
}

/// `GET /v1/skills`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSkills {
    /// Which page.
    pub paging: Paging,
    /// `custom`, `anthropic` or another origin; what nobody knows is in no skill.
    pub source: Option<String>,
}

query!(ListFiles, pairs => {
    let scope_id = pairs.id("scope_id")?;
    let ids = pairs.ids("ids", FILE_IDS)?;
    let files = if ids.is_empty() {
        Files::Page(pairs.paging(FILES_PAGE)?)
    } else {
        for key in ["limit", "page"] {
            if pairs.text(key)?.is_some() {
                return Err(Invalid::at(key, "cannot stand together with `ids[]`"));
            }
        }
        Files::Ids(ids)
    };
    Self { files, scope_id }
});
query!(ListBetaFiles, pairs => {
    let (after_id, before_id) = (pairs.id("after_id")?, pairs.id("before_id")?);
    if after_id.is_some() && before_id.is_some() {
        return Err(Invalid::at("before_id", "cannot stand together with `after_id`"));
    }
    Self {
        limit: pairs.limit(FILES_PAGE)?,
        after_id,
        before_id,
        scope_id: pairs.id("scope_id")?,
    }
});
query!(ListSkills, pairs => Self {
    paging: pairs.paging(FILES_PAGE)?,
    source: pairs.text("source")?,
});
