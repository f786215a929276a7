//! Owns making and comparing single directories of a workspace. It looks at nothing in them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::CWD;

use super::copy::{attributes, open_dir};

/// Makes one that only this user can enter.
pub(super) fn private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// Makes the directories that are missing, for everybody inside to look into.
pub(super) fn make_all(dir: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        let path = dir.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // The mode asked for, whatever the umask.
            other => other
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))?,
        }
    }
    Ok(())
}

/// Makes an empty directory with the owner, mode, attributes and times of another.
pub(super) fn like(model: &Path, new: &Path) -> io::Result<()> {
    let draft = new.with_extension("new");
    match fs::remove_dir(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    private(&draft)?;
    attributes(&open_dir(CWD, model)?, &open_dir(CWD, &draft)?)?;
    fs::rename(&draft, new)
}

/// Whether two directories have the same owner, mode and time.
pub(super) fn is_like(a: &Path, b: &Path) -> io::Result<bool> {
    let of = |path: &Path| {
        let m = fs::symlink_metadata(path)?;
        Ok::<_, io::Error>((m.uid(), m.gid(), m.mode(), m.mtime(), m.mtime_nsec()))
    };
    Ok(of(a)? == of(b)?)
}
