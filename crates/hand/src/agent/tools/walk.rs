//! Owns the bounds of a walk over files: entries, time, cancellation. It opens no file.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use ignore::{DirEntry, WalkBuilder};
use rustix::fs::OFlags;

use super::super::calls::Cancel;
use super::Stop;
use super::input::Input;
use super::paths::{Target, WORKSPACE, real_path};
use super::rules::Rules;
use crate::limits::{SEARCH_TIME, WALK_ENTRIES};

/// The optional `path` of a search, resolved; it exists and lies below an allowed root.
pub(super) fn base(input: &Input) -> Result<PathBuf, String> {
    let target = Target::parse(input.optional_text("path")?.unwrap_or(WORKSPACE))?;
    real_path(&target.open(OFlags::PATH)?)
}

/// Calls `visit` for each entry that is a file or a link, until it says that it has enough.
///
/// Links are not followed; `.git`, and what `rules` leave out, is passed over. The walk itself opens
/// nothing but directories. Ends after [`WALK_ENTRIES`] entries, and says whether there were more.
pub(super) fn each(
    base: &Path,
    rules: Option<Rules>,
    cancel: &Cancel,
    mut visit: impl FnMut(&DirEntry),
) -> Result<Reach, Stop> {
    let deadline = Instant::now() + SEARCH_TIME;
    let mut walk = WalkBuilder::new(base);
    walk.standard_filters(false).follow_links(false);
    walk.filter_entry(move |entry| {
        let directory = entry.file_type().is_some_and(|kind| kind.is_dir());
        let out = |rules: &Rules| rules.leave_out(entry.path(), directory);
        // What was asked for by its name is searched, whatever the rules say.
        entry.depth() == 0 || (entry.file_name() != ".git" && !rules.as_ref().is_some_and(out))
    });
    let mut seen = 0;
    for entry in walk.build() {
        seen += 1;
        if seen > WALK_ENTRIES {
            return Ok(Reach::Part);
        }
        if cancel.is_wanted() {
            return Err(Stop::Cancelled);
        }
        if Instant::now() > deadline {
            return Err(format!(
                "took over {} s; search a smaller path",
                SEARCH_TIME.as_secs()
            )
            .into());
        }
        // What cannot be read is passed over, as ripgrep does.
        if let Ok(entry) = entry
            && entry.file_type().is_some_and(|kind| !kind.is_dir())
        {
            visit(&entry);
        }
    }
    Ok(Reach::Whole)
}

/// How much of what was asked for a walk has seen.
pub(super) enum Reach {
    Whole,
    Part,
}

impl Reach {
    /// What was found, and whether there may be more.
    pub(super) fn told(&self, found: String) -> String {
        match self {
            Self::Whole => found,
            Self::Part => format!(
                "{found}\n(Only the first {WALK_ENTRIES} entries were searched. Consider a more specific path.)"
            ),
        }
    }
}

/// Paths, newest first, then by name; one a line.
pub(super) fn newest_first(mut found: Vec<(SystemTime, PathBuf)>) -> Vec<String> {
    found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found
        .into_iter()
        .map(|(_, path)| path.to_string_lossy().into_owned())
        .collect()
}

pub(super) fn modified(entry: &DirEntry) -> SystemTime {
    let modified = entry
        .metadata()
        .ok()
        .and_then(|metadata| metadata.modified().ok());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}
