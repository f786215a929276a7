//! Owns copying a tree of a sandbox as it is: owners, modes, times, attributes, names of one file, holes, whiteouts.
//! It follows no link, and never leaves the two trees it was given.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, copy_file_range, fchmod, fchown, fgetxattr, flistxattr,
    fsetxattr, fstat, ftruncate, futimens, ioctl_ficlone, lgetxattr, linkat, llistxattr, lsetxattr,
    mkdirat, mknodat, openat, readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::limits::TREE_DEPTH;

/// Bytes of all attributes of one file, and of one of them: what Linux allows.
const ATTRIBUTES: usize = 64 << 10;
/// Attributes of overlayfs: each says something about the mount that made it, but for one.
const OF_OVERLAY: [&str; 2] = ["trusted.overlay.", "user.overlay."];
const OPAQUE: &str = "opaque";

/// How files come to be in the second tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Each anew, by a reflink where the file system has them.
    Copied,
    /// By another name of the same file: only for trees that nobody writes in.
    Linked,
}

/// Copies the tree of a directory.
pub(super) struct Copier {
    files: Files,
    /// When to give up.
    deadline: Option<Instant>,
    /// Whether the file system has reflinks; unknown until the first file.
    reflinks: Option<bool>,
    /// Where the first name of a file with several was put: by number of device and inode.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    pub(super) fn new(files: Files, deadline: Option<Instant>) -> Self {
        Self {
            files,
            deadline,
            reflinks: None,
            names: HashMap::new(),
        }
    }

    /// Makes the directory `to` be what the directory `from` is. `to` is new.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] at the deadline; [`io::ErrorKind::InvalidData`] for a tree that is too deep.
    pub(super) fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        rustix::fs::mkdir(to, Mode::RWXU)?;
        let (source, target) = (open_dir(CWD, from)?, open_dir(CWD, to)?);
        self.names.clear();
        self.content(&source, &target, Path::new(""), &target, 0)?;
        attributes(&source, &target)
    }

    fn content(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        path: &Path,
        top: &OwnedFd,
        depth: usize,
    ) -> io::Result<()> {
        if depth > TREE_DEPTH {
            return Err(too_deep());
        }
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for name in &names(from)? {
            let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                self.leaf(from, to, name, &stat, path, top)?;
                continue;
            }
            mkdirat(to, name, Mode::RWXU)?;
            let (source, target) = (open_dir(from, name)?, open_dir(to, name)?);
            self.content(&source, &target, &below(path, name), top, depth + 1)?;
            attributes(&source, &target)?;
        }
        Ok(())
    }

    /// Anything but a directory.
    pub(super) fn leaf(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        path: &Path,
        top: &OwnedFd,
    ) -> io::Result<()> {
        if self.files == Files::Linked {
            match linkat(from, name, to, name, AtFlags::empty()) {
                // It has as many names as a file can have.
                Err(Errno::MLINK) => {}
                other => return Ok(other?),
            }
        }
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.names.get(&key)
                && linkat(top, first, to, name, AtFlags::empty()).is_ok()
            {
                return Ok(());
            }
            self.names.insert(key, below(path, name));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(from, to, name),
            FileType::Symlink => {
                let text = readlinkat(from, name, Vec::new())?;
                symlinkat(text, to, name)?;
            }
            kind => mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
        }
        special(from, to, name, stat)
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        let guarded = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let source = openat(from, name, OFlags::RDONLY | guarded, Mode::empty())?;
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | guarded;
        let target = openat(to, name, new, Mode::RUSR | Mode::WUSR)?;
        if !self.reflink(&source, &target)? {
            self.bytes(&source, &target)?;
        }
        attributes(&source, &target)
    }

    fn reflink(&mut self, source: &OwnedFd, target: &OwnedFd) -> io::Result<bool> {
        if self.reflinks == Some(false) {
            return Ok(false);
        }
        match ioctl_ficlone(target, source) {
            Ok(()) => {
                self.reflinks = Some(true);
                Ok(true)
            }
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => {
                self.reflinks.get_or_insert(false);
                Ok(false)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// The bytes of a file without its holes.
    fn bytes(&self, source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
        let length = u64::try_from(fstat(source)?.st_size).unwrap_or(0);
        let mut at = 0;
        while at < length {
            let start = match seek(source, SeekFrom::Data(at)) {
                // Nothing but a hole follows.
                Err(Errno::NXIO) => break,
                other => other?,
            };
            let end = seek(source, SeekFrom::Hole(start))?.min(length);
            let (mut read, mut written) = (start, start);
            while read < end {
                if self
                    .deadline
                    .is_some_and(|deadline| Instant::now() > deadline)
                {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let some = usize::try_from((end - read).min(64 << 20)).unwrap_or(usize::MAX);
                if copy_file_range(source, Some(&mut read), target, Some(&mut written), some)? == 0
                {
                    break;
                }
            }
            at = end;
        }
        Ok(ftruncate(target, length)?)
    }
}

fn below(path: &Path, name: &CStr) -> PathBuf {
    path.join(OsStr::from_bytes(name.to_bytes()))
}

/// What is in a directory. Read to its end first: no descriptor is held while what is below is looked at.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// What a tree that is deeper than is gone down is told.
pub(crate) fn too_deep() -> io::Error {
    let problem = format!("more than {TREE_DEPTH} directories in one another");
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

pub(crate) fn open_dir(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn ids(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    (Some(uid), Some(gid))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Gives an open file or directory the owner, mode, attributes and times of another.
pub(super) fn attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let stat = fstat(from)?;
    let (uid, gid) = ids(&stat);
    // In this order: a new owner takes set-id bits and capabilities away, and all of it sets the time.
    fchown(to, uid, gid)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    each_attribute_of(from, |name, value| {
        fsetxattr(to, name, value, XattrFlags::empty())
    })?;
    Ok(futimens(to, &times(&stat))?)
}

/// Gives every attribute of an open file or directory that is worth keeping to `each`.
pub(crate) fn each_attribute_of(
    from: &OwnedFd,
    each: impl FnMut(&str, &[u8]) -> rustix::io::Result<()>,
) -> io::Result<()> {
    each_attribute(
        |list| flistxattr(from, list),
        |name, value| fgetxattr(from, name, value),
        each,
    )
}

/// The same for what cannot be opened.
fn special(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = ids(stat);
    chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Symlink {
        chmodat(
            to,
            name,
            Mode::from_raw_mode(stat.st_mode),
            AtFlags::empty(),
        )?;
    }
    let place = |fd: &OwnedFd| {
        let dir = format!("/proc/self/fd/{}", fd.as_raw_fd());
        below(Path::new(&dir), name)
    };
    let (source, target) = (place(from), place(to));
    each_attribute(
        |list| llistxattr(&source, list),
        |name, value| lgetxattr(&source, name, value),
        |name, value| lsetxattr(&target, name, value, XattrFlags::empty()),
    )?;
    Ok(utimensat(
        to,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Sets every attribute that is worth keeping.
fn each_attribute(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>,
    mut set: impl FnMut(&str, &[u8]) -> rustix::io::Result<()>,
) -> io::Result<()> {
    // Most have none, or few.
    let (mut few, mut many) = ([0; 1024], Vec::new());
    let names = match list(&mut few) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(ATTRIBUTES, 0);
            let length = list(&mut many)?;
            &many[..length]
        }
        Err(errno) => return Err(errno.into()),
    };
    let mut value = vec![0; ATTRIBUTES];
    for name in names.split(|byte| *byte == 0) {
        // Names are text wherever anything but mischief made them.
        let Some(name) = std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty())
        else {
            continue;
        };
        let of_overlay = OF_OVERLAY
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        if of_overlay.is_some_and(|rest| rest != OPAQUE) {
            continue;
        }
        let length = get(name, &mut value)?;
        set(name, &value[..length])?;
    }
    Ok(())
}
