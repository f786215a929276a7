//! Owns the images that sandboxes with a disk of their own start from: an empty ext4, made once for each size
//! and copied. It mounts none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use jail::image::IMAGE;
use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use crate::error::{Doing, Error};

/// Changed whenever [`MKFS`] is.
const FORMAT: u32 = 1;
/// Blocks of 4 KiB; no blocks kept for root, which is a user like others there; a small journal, so that a
/// host that loses its power loses no file system; tables are written when they are needed.
const MKFS: [&str; 12] = [
    "-q",
    "-F",
    "-b",
    "4096",
    "-m",
    "0",
    "-J",
    "size=8",
    "-E",
    "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0",
    "-L",
    "sandbox",
];

/// Empty images, one for each size.
pub(in crate::local) struct Images {
    dir: PathBuf,
    /// Held while one is made.
    making: Mutex<()>,
}

impl Images {
    pub(in crate::local) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            making: Mutex::default(),
        }
    }

    /// Gives the sandbox in `dir`, which has none, an empty disk of `bytes`. Blocks.
    pub(in crate::local) fn give(&self, dir: &Path, bytes: u64) -> Result<(), Error> {
        let doing = || format!("make a disk in {}", dir.display());
        let empty = self.empty(bytes)?;
        let new = dir.join(format!("{IMAGE}.new"));
        copy_sparse(&empty, &new).doing(doing)?;
        // Whoever finds it under its name finds all of it.
        fs::rename(&new, dir.join(IMAGE)).doing(doing)
    }

    fn empty(&self, bytes: u64) -> Result<PathBuf, Error> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(format!("disk-{FORMAT}-{bytes}.img"));
        if path.exists() {
            return Ok(path);
        }
        let new = self.dir.join("disk.new");
        let doing = || format!("make {}", new.display());
        private(&new)
            .and_then(|file| file.set_len(bytes))
            .doing(doing)?;
        let made = Command::new("mkfs.ext4").args(MKFS).arg(&new).output();
        let lacking = |hint: String, errno| Error::Unsupported {
            step: "make the disk of a sandbox".to_owned(),
            errno,
            hint,
        };
        let made = made.map_err(|error| {
            let hint = format!(
                "mkfs.ext4 cannot be run ({error}): install e2fsprogs, or set `sandbox.disk = \"soft\"`"
            );
            lacking(hint, error.raw_os_error().unwrap_or(0))
        })?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(lacking(format!("mkfs.ext4 failed: {}", said.trim()), 0));
        }
        fs::rename(&new, &path).doing(doing)?;
        Ok(path)
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// A copy with the same holes.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, private(to)?);
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match seek(&from, SeekFrom::Data(at)) {
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = seek(&from, SeekFrom::Hole(start))?;
        let (mut read, mut written) = (start, start);
        while read < end {
            let left = usize::try_from(end - read).unwrap_or(usize::MAX);
            if copy_file_range(&from, Some(&mut read), &to, Some(&mut written), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let file = private(&one).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[7; 5000], 10 << 20).unwrap();
        file.write_all_at(&[8; 5000], 0).unwrap();
        copy_sparse(&one, &two).unwrap();
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
        assert!(fs::metadata(&two).unwrap().blocks() * 512 < 1 << 20);
    }
}
