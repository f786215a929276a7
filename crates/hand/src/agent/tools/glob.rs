//! Owns the glob tool: files by name, newest first.

use std::path::{Component, Path};

use globset::GlobBuilder;

use super::super::calls::Cancel;
use super::Stop;
use super::input::Input;
use super::walk::{base, each, modified, newest_first};
use crate::limits::GLOB_RESULTS;
use crate::wire::Output;

pub(super) fn run(input: &Input, cancel: &Cancel) -> Result<Output, Stop> {
    let pattern = input.text("pattern")?;
    let base = base(input)?;
    let leaves = Path::new(pattern)
        .components()
        .any(|part| matches!(part, Component::ParentDir | Component::RootDir));
    if leaves {
        let problem = "pattern must be relative and without `..`; name a directory with path";
        return Err(problem.to_owned().into());
    }
    let glob = GlobBuilder::new(pattern.trim_start_matches("./"))
        .literal_separator(true)
        .build();
    let matcher = glob
        .map_err(|error| format!("invalid pattern: {error}"))?
        .compile_matcher();
    let mut found = Vec::new();
    let reach = each(&base, None, cancel, |entry| {
        let path = entry.path();
        if path
            .strip_prefix(&base)
            .is_ok_and(|name| matcher.is_match(name))
        {
            found.push((modified(entry), path.to_owned()));
        }
    })?;
    if found.is_empty() {
        return Ok(Output::text(reach.told("No files found".to_owned())));
    }
    let mut lines = newest_first(found);
    if lines.len() > GLOB_RESULTS {
        lines.truncate(GLOB_RESULTS);
        lines.push("(Results are truncated. Consider a more specific path or pattern.)".to_owned());
    }
    Ok(Output::text(reach.told(lines.join("\n"))))
}
