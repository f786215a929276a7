//! Owns the write tool: a whole file, with the directories above it.

use std::io::Write;

use rustix::fs::OFlags;

use super::input::Input;
use super::paths::Target;
use super::read::open_regular;
use crate::limits::WRITE_BYTES;
use crate::wire::Output;

pub(super) fn run(input: &Input) -> Result<Output, String> {
    let target = Target::parse(input.text("file_path")?)?;
    let content = input.text("content")?;
    if content.len() > WRITE_BYTES {
        return Err(format!("content is over {WRITE_BYTES} bytes"));
    }
    target.make_parents()?;
    replace(&target, content)?;
    let characters = content.chars().count();
    Ok(Output::text(format!(
        "wrote {characters} bytes to {}",
        target.shown()
    )))
}

/// Writes in place: mode, owner and links of an existing file stay.
pub(super) fn replace(target: &Target, content: &str) -> Result<(), String> {
    let (mut file, _) = open_regular(target, OFlags::WRONLY | OFlags::CREATE)?;
    file.set_len(0)
        .and_then(|()| file.write_all(content.as_bytes()))
        .map_err(|error| format!("{}: {error}", target.shown()))
}
