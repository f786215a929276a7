//! Owns what happens to output too long for the model: a file in the sandbox and a preview.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::name;
use crate::agent::resolve::open_by;
use crate::limits::{PREVIEW_CHARS, SPILL_CHARS};
use crate::wire::{Content, Id, Output, Tool};

/// Below /tmp.
const DIRECTORY: &str = "tool-outputs";

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
    let place = match store(tool, id, text) {
        Ok(path) => format!("all of it is in {path}; read it in parts with view_range"),
        Err(error) => format!("it could not be kept in a file: {error}"),
    };
    format!(
        "[output is {count} characters; {place}]\n{}\n[... {} characters left out ...]\n{}",
        &text[..head],
        count - 2 * PREVIEW_CHARS,
        &text[tail..],
    )
}

/// Keeps `text` in a new file and gives its path.
///
/// Everybody in the sandbox may write to /tmp: nothing that lies there already is followed, opened or
/// waited for, and the name cannot be foreseen.
fn store(tool: Tool, id: Id, text: &str) -> io::Result<String> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tmp = openat(CWD, "/tmp", directory, Mode::empty())?;
    match mkdirat(&tmp, DIRECTORY, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let kept = open_by(&tmp, DIRECTORY, directory, Mode::empty(), strict)?;
    let mut random = [0; 8];
    if getrandom(&mut random, GetRandomFlags::empty())? != random.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let random = u64::from_ne_bytes(random);
    let file = format!("{}-{id}-{random:016x}.txt", name(tool));
    let new = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let created = openat(&kept, file.as_str(), new, Mode::from_raw_mode(0o644))?;
    File::from(created).write_all(text.as_bytes())?;
    Ok(format!("/tmp/{DIRECTORY}/{file}"))
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
