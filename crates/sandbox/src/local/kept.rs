//! Owns the few bytes that are kept beside a sandbox for whoever keeps it. It knows nothing of what they say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::limits::DIARY_BYTES;

// Beside the volumes, where nothing in the sandbox can reach.

/// What its keeper writes down of it.
pub(super) const DIARY: &str = "diary";
/// Who is to make it.
pub(super) const PROVIDER: &str = "provider";

/// What was kept under that name in a sandbox's directory, if anything was.
pub(super) fn find(dir: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(dir.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    // Never longer, whoever has been at it.
    file.take(DIARY_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Keeps `bytes` instead of what was kept under that name. Not synced: after a power cut there may be the old ones, or none.
pub(super) fn keep(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Written first, and then given the name.
    let draft = dir.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&draft)?;
    file.write_all(bytes)?;
    fs::rename(draft, dir.join(name))
}
