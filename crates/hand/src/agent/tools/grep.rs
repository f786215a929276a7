//! Owns the grep tool: files whose content matches, newest first. It prints no line of them.

use grep_regex::RegexMatcherBuilder;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkMatch};
use std::io;

use super::super::calls::Cancel;
use super::Stop;
use super::input::Input;
use super::paths::open_found;
use super::rules::Rules;
use super::walk::{base, each, modified, newest_first};
use crate::limits::{GREP_CHARS, GREP_FILE_BYTES};
use crate::wire::Output;

pub(super) fn run(input: &Input, cancel: &Cancel) -> Result<Output, Stop> {
    let pattern = input.text("pattern")?;
    let base = base(input)?;
    let matcher = RegexMatcherBuilder::new()
        .line_terminator(Some(b'\n'))
        .build(pattern);
    let matcher = matcher.map_err(|error| format!("invalid regex: {error}"))?;
    let mut searcher = SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .line_number(false)
        .build();
    let mut found = Vec::new();
    let reach = each(&base, Some(Rules::default()), cancel, |entry| {
        let searched = entry
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= GREP_FILE_BYTES);
        let mut hit = Hit(false);
        // A file that cannot be read is passed over, as ripgrep does after a message.
        if searched
            && open_found(entry.path())
                .and_then(|file| searcher.search_file(&matcher, &file, &mut hit))
                .is_ok()
            && hit.0
        {
            found.push((modified(entry), entry.path().to_owned()));
        }
    })?;
    if found.is_empty() {
        return Ok(Output::text(reach.told("No files found".to_owned())));
    }
    let text = newest_first(found).join("\n");
    match text.char_indices().nth(GREP_CHARS) {
        None => Ok(Output::text(reach.told(text))),
        Some((cut, _)) => {
            let note = format!("\n[output truncated at {GREP_CHARS} bytes]");
            Ok(Output::text(format!("{}{note}", &text[..cut])))
        }
    }
}

/// Notes the first match and stops.
struct Hit(bool);

impl Sink for Hit {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, _: &SinkMatch<'_>) -> io::Result<bool> {
        self.0 = true;
        Ok(false)
    }
}
