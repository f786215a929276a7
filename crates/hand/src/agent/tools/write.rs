//! Owns the write tool: a whole file, with the directories above it.

use std::fs::File;
use std::io::Write;

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

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

/// Writes in place: mode, owner and links of an existing file stay, and all of it where there is no room.
pub(super) fn replace(target: &Target, content: &str) -> Result<(), String> {
    let (mut file, _) = open_regular(target, OFlags::WRONLY | OFlags::CREATE)?;
    let size = content.len() as u64;
    reserve(&file, size).map_err(|errno| target.problem(errno))?;
    file.write_all(content.as_bytes())
        .and_then(|()| file.set_len(size))
        .map_err(|error| format!("{}: {error}", target.shown()))
}

/// Takes the room that a file is to have. Where the file system cannot, the write will tell.
fn reserve(file: &File, size: u64) -> Result<(), Errno> {
    if size == 0 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, size) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        other => other,
    }
}
