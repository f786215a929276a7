//! Owns what happens to output too long for the model: a file in the sandbox and a preview.

use std::fs;
use std::io;

use super::name;
use crate::limits::{PREVIEW_CHARS, SPILL_CHARS};
use crate::wire::{Content, Id, Output, Tool};

const DIRECTORY: &str = "/tmp/tool-outputs";

pub(super) fn spill(tool: Tool, id: Id, mut output: Output) -> Output {
    for part in &mut output.content {
        if let Content::Text { text } = part
            && text.len() > SPILL_CHARS
            && text.chars().count() > SPILL_CHARS
        {
            *text = shortened(tool, id, text);
        }
    }
    output
}

fn shortened(tool: Tool, id: Id, text: &str) -> String {
    let count = text.chars().count();
    let (head, tail) = (at(text, PREVIEW_CHARS), at(text, count - PREVIEW_CHARS));
    let path = format!("{DIRECTORY}/{}-{id}.txt", name(tool));
    let place = match store(&path, text) {
        Ok(()) => format!("all of it is in {path}; read it in parts with view_range"),
        Err(error) => format!("it could not be kept in a file: {error}"),
    };
    format!(
        "[output is {count} characters; {place}]\n{}\n[... {} characters left out ...]\n{}",
        &text[..head],
        count - 2 * PREVIEW_CHARS,
        &text[tail..],
    )
}

fn store(path: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    fs::write(path, text)
}

/// The byte at which character `number` starts.
fn at(text: &str, number: usize) -> usize {
    text.char_indices()
        .nth(number)
        .map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_up_to_the_limit_is_left_alone() {
        let text = "é".repeat(SPILL_CHARS);
        assert_eq!(
            spill(Tool::Bash, 1, Output::text(text.clone())),
            Output::text(text)
        );
    }
}
