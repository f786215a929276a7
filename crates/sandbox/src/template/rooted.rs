//! Owns a tree that anybody may have made, looked at from inside: whatever its links say, they lead to what is in it. It
//! relies on the kernel for that (`openat2`), and on nobody else changing the tree meanwhile for what is made in it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, mkdirat, openat, openat2,
    statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::limits::TREE_DEPTH;
use crate::workspace::{names, open_dir, too_deep};

/// How often a name with `..` in it is resolved again while others rename directories on the host. Source: openat2(2),
/// EAGAIN.
const TRIES: usize = 1_000;

/// A tree, by its root.
pub(crate) struct Rooted {
    root: OwnedFd,
}

/// A directory of the tree and the last part of a path in it.
pub(crate) type Place<'a> = (OwnedFd, &'a [u8]);

impl Rooted {
    /// The tree in the directory `root`, which is no link.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        open_dir(CWD, root).map(|root| Self { root })
    }

    /// The root itself.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    fn resolve(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = OsStr::from_bytes(path);
        for _ in 1..TRIES {
            let flags = flags | OFlags::CLOEXEC;
            match openat2(&self.root, path, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The directory at `path`; links are followed. None if nothing is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotADirectory`].
    pub(super) fn directory(&self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        match self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// The same, made with those above it if it is missing.
    ///
    /// # Errors
    /// As [`Self::directory`]; [`io::ErrorKind::NotFound`] below a link that leads nowhere.
    pub(super) fn make_directories(&self, path: &[u8]) -> io::Result<OwnedFd> {
        if let Some(there) = self.directory(path)? {
            return Ok(there);
        }
        let mut reached = path.len();
        let mut missing = Vec::new();
        let mut at = loop {
            let (above, last) = split(&path[..reached]);
            missing.push(last);
            reached = above.len();
            if let Some(there) = self.directory(above)? {
                break there;
            }
        };
        while let Some(name) = missing.pop() {
            match mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                // A link that leads nowhere.
                Err(Errno::EXIST) => return Err(Errno::NOENT.into()),
                other => other?,
            }
            at = open_dir(&at, name)?;
            fchmod(&at, Mode::from_raw_mode(0o755))?;
        }
        Ok(at)
    }

    /// The directory that `path` lies in, made if it is missing, and its last part.
    pub(super) fn place<'a>(&self, path: &'a [u8]) -> io::Result<Place<'a>> {
        let (above, last) = split(path);
        Ok((self.make_directories(above)?, last))
    }

    /// At most so many bytes of a regular file; links are followed. None if there is no such file.
    pub(crate) fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.resolve(path.as_bytes(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // Whatever else is there is no such file either.
            Err(_) => return Ok(None),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut content = Vec::new();
        file.take(most).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Puts a file there, in place of any file or link of that name.
    pub(crate) fn write(&self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let (dir, last) = self.place(path.as_bytes())?;
        remove(&dir, last)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
        let file = openat(&dir, last, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(content)?;
        Ok(fchmod(file.as_fd(), Mode::from_raw_mode(mode))?)
    }

    /// Puts a symbolic link there unless the name is taken.
    pub(crate) fn link(&self, path: &str, text: &str) -> io::Result<()> {
        let (dir, last) = self.place(path.as_bytes())?;
        match symlinkat(text, &dir, last) {
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Whether anything has that name, be it a link that leads nowhere.
    pub(crate) fn has(&self, path: &str) -> io::Result<bool> {
        let (above, last) = split(path.as_bytes());
        match self.directory(above)? {
            Some(dir) => Ok(look(&dir, last)?.is_some()),
            None => Ok(false),
        }
    }

    /// A directory that is one itself and below such: no link is on the way. Made with that mode if it is missing; none
    /// if anything else is in its place.
    pub(super) fn plain_directory(&self, path: &str, mode: u32) -> io::Result<Option<OwnedFd>> {
        let mut at = self.root.try_clone()?;
        for name in path.split('/') {
            let made = match mkdirat(&at, name, Mode::RWXU) {
                Err(Errno::EXIST) => false,
                other => {
                    other?;
                    true
                }
            };
            at = match open_dir(&at, name) {
                Ok(dir) => dir,
                Err(error) if is_no_directory(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            if made {
                fchmod(&at, Mode::from_raw_mode(mode))?;
            }
        }
        Ok(Some(at))
    }
}

/// Whether that is what opening a link or file as a directory says.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOTDIR | Errno::LOOP)
    )
}

/// What lies above, and the last part.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// What has that name in a directory; links are not followed.
pub(super) fn look(dir: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes whatever has that name, a directory with what is in it. One that there is none of is success.
pub(super) fn remove(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    match unlinkat(dir, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            clear(&open_dir(dir, &name)?, 0)?;
            Ok(unlinkat(dir, &name, AtFlags::REMOVEDIR)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Removes what is in a directory.
pub(super) fn clear(dir: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > TREE_DEPTH {
        return Err(too_deep());
    }
    for name in names(dir)? {
        match unlinkat(dir, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                clear(&open_dir(dir, &name)?, depth + 1)?;
                unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Whether that is a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
