//! Owns which paths the file tools may touch, and opening them safely against symlinks.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, open};
use rustix::io::Errno;

use crate::agent::resolve::open_by;

/// Where relative paths start.
pub(super) const WORKSPACE: &str = "/workspace";
/// What file tools reach, each with everything below; `bash` is not confined.
const ROOTS: [&str; 4] = [
    WORKSPACE,
    "/mnt/session/outputs",
    "/mnt/session/uploads",
    "/tmp",
];

const SAFE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// A path as the model wrote it, made absolute but not resolved.
pub(super) struct Target {
    root: &'static str,
    /// Below the root; not empty, `.` for the root itself.
    rest: PathBuf,
}

impl Target {
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        if path.contains('\0') {
            return Err("path contains a NUL byte".to_owned());
        }
        if path.is_empty() {
            return Err("path is empty".to_owned());
        }
        let absolute = Path::new(WORKSPACE).join(path);
        for root in ROOTS {
            if let Ok(rest) = absolute.strip_prefix(root) {
                let rest = if rest.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    rest
                };
                return Ok(Self {
                    root,
                    rest: rest.to_owned(),
                });
            }
        }
        Err(outside(path))
    }

    /// For messages and results: absolute, as asked.
    pub(super) fn shown(&self) -> String {
        let path = Path::new(self.root).join(&self.rest);
        let path: PathBuf = path
            .components()
            .filter(|c| *c != Component::CurDir)
            .collect();
        path.to_string_lossy().into_owned()
    }

    /// Opens it; whatever symlinks do, the result lies below one of the roots, and no terminal
    /// found there becomes the hand's own: it leads its session.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, String> {
        let flags = if flags.contains(OFlags::PATH) {
            flags
        } else {
            flags | OFlags::NOCTTY
        };
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o644)
        } else {
            Mode::empty()
        };
        match open_by(
            self.root()?,
            &self.rest,
            flags | OFlags::CLOEXEC,
            mode,
            SAFE,
        ) {
            // An absolute link, or one that leaves this root: it may still end below a root.
            Err(Errno::XDEV) => self.open_resolved(flags, mode),
            other => other.map_err(|errno| self.problem(errno)),
        }
    }

    fn open_resolved(&self, flags: OFlags, mode: Mode) -> Result<OwnedFd, String> {
        let asked = Path::new(self.root).join(&self.rest);
        let real = match fs::canonicalize(&asked) {
            Ok(real) => real,
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(self.problem(errno));
            }
        };
        let root = ROOTS.into_iter().find(|root| real.starts_with(root));
        let root = root.ok_or_else(|| outside(&self.shown()))?;
        let resolved = Self {
            root,
            rest: real
                .strip_prefix(root)
                .map_or_else(|_| real.clone(), Path::to_owned),
        };
        let rest = if resolved.rest.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &resolved.rest
        };
        // It was free of links a moment ago; if somebody changed that, it fails.
        let strict = SAFE | ResolveFlags::NO_SYMLINKS;
        open_by(
            resolved.root()?,
            rest,
            flags | OFlags::CLOEXEC,
            mode,
            strict,
        )
        .map_err(|errno| self.problem(errno))
    }

    /// Makes the directories above it that are missing.
    pub(super) fn make_parents(&self) -> Result<(), String> {
        let Some(parent) = self.rest.parent() else {
            return Ok(());
        };
        let mut path = PathBuf::new();
        for component in parent.components() {
            let above = if path.as_os_str().is_empty() {
                PathBuf::from(".")
            } else {
                path.clone()
            };
            path.push(component);
            let here = Self {
                root: self.root,
                rest: path.clone(),
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match open_by(here.root()?, &here.rest, flags, Mode::empty(), SAFE) {
                Err(Errno::NOENT) => {
                    let above = Self {
                        root: self.root,
                        rest: above,
                    }
                    .open(flags)?;
                    match mkdirat(&above, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(here.problem(errno)),
                    }
                }
                Ok(_) | Err(Errno::XDEV) => {}
                Err(errno) => return Err(here.problem(errno)),
            }
        }
        Ok(())
    }

    fn root(&self) -> Result<OwnedFd, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(self.root, flags, Mode::empty()).map_err(|errno| self.problem(errno))
    }

    pub(super) fn problem(&self, errno: Errno) -> String {
        format!("{}: {}", self.shown(), explain(errno))
    }
}

/// Opens a regular file that a walk found at an absolute path without links, unless it was changed
/// meanwhile for something else. Waits for no FIFO and takes no terminal.
pub(super) fn open_found(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let strict = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(open_by(CWD, path, flags, Mode::empty(), strict)?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

/// Where an open file or directory really is.
pub(super) fn real_path(file: &impl AsFd) -> Result<PathBuf, String> {
    let link = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let path = rustix::fs::readlinkat(CWD, link, Vec::new());
    let path = path.map_err(explain)?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(path.to_bytes()).into_owned(),
    ))
}

fn outside(path: &str) -> String {
    format!(
        "{path} is outside the directories that file tools may use ({})",
        ROOTS.join(", ")
    )
}

pub(crate) fn explain(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
        Errno::ROFS => "read-only file system".to_owned(),
        Errno::ISDIR => "is a directory".to_owned(),
        Errno::NOTDIR => "not a directory".to_owned(),
        Errno::LOOP => "too many symbolic links".to_owned(),
        Errno::NAMETOOLONG => "file name too long".to_owned(),
        Errno::NOSPC | Errno::DQUOT => "no space left on device".to_owned(),
        Errno::NXIO => "not a regular file".to_owned(),
        other => other.to_string(),
    }
}
