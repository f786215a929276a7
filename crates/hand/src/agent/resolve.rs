//! Owns opening a path under rules of how it may be resolved. It makes no rule.
//!
//! The kernel does it in one call (openat2(2)), where it has that. gVisor has not: there it is done here, one name after
//! another, each opened as what it is and never followed unseen.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, openat2,
    readlinkat,
};
use rustix::io::{Errno, Result};

/// Links that one path may lead through, as the kernel has it (path_resolution(7)).
const LINKS: usize = 40;

/// Opens `path`, from `dir` on, as openat2(2) does under `rules`: of these `BENEATH`, `NO_SYMLINKS` and
/// `NO_MAGICLINKS`.
///
/// # Errors
/// Those of openat2: `XDEV` for what leaves `dir` under `BENEATH`, `LOOP` for a link that is not to be followed.
pub(crate) fn open_by(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
    rules: ResolveFlags,
) -> Result<OwnedFd> {
    match openat2(&dir, path.as_ref(), flags, mode, rules) {
        Err(Errno::NOSYS) => Walk::from(dir, path.as_ref(), rules)?.walk_to_its_end(flags, mode),
        other => other,
    }
}

/// Where a path has led so far.
struct Walk {
    rules: ResolveFlags,
    /// The directories from the first to the one that it is in.
    dirs: Vec<OwnedFd>,
    /// The names that are left, the next one last.
    names: Vec<OsString>,
    links: usize,
}

impl Walk {
    fn from(dir: impl AsFd, path: &Path, rules: ResolveFlags) -> Result<Self> {
        let mut walk = Self {
            rules,
            dirs: vec![directory(dir, OsStr::new("."))?],
            names: Vec::new(),
            links: 0,
        };
        walk.lead(path)?;
        Ok(walk)
    }

    /// Goes on along `path`.
    fn lead(&mut self, path: &Path) -> Result<()> {
        if path.is_absolute() {
            if self.rules.contains(ResolveFlags::BENEATH) {
                return Err(Errno::XDEV);
            }
            self.dirs = vec![directory(CWD, OsStr::new("/"))?];
        }
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        self.names.extend(names);
        Ok(())
    }

    fn walk_to_its_end(mut self, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        while let Some(name) = self.names.pop() {
            if name == ".." {
                self.up()?;
            } else if !self.names.is_empty() {
                self.down(&name)?;
            } else if let Some(target) = self.link_to_follow(&name, flags)? {
                self.follow(&target)?;
            } else {
                // Whoever makes a link of it now is not followed.
                return openat(self.here()?, &*name, flags | OFlags::NOFOLLOW, mode);
            }
        }
        openat(self.here()?, ".", flags - OFlags::CREATE, mode)
    }

    fn here(&self) -> Result<&OwnedFd> {
        self.dirs.last().ok_or(Errno::NOENT)
    }

    fn up(&mut self) -> Result<()> {
        if self.dirs.len() > 1 {
            self.dirs.pop();
            return Ok(());
        }
        if self.rules.contains(ResolveFlags::BENEATH) {
            return Err(Errno::XDEV);
        }
        // Above the root is the root.
        let above = directory(self.here()?, OsStr::new(".."))?;
        self.dirs = vec![above];
        Ok(())
    }

    fn down(&mut self, name: &OsStr) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(self.here()?, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&next)?.st_mode) {
            FileType::Directory => self.dirs.push(next),
            FileType::Symlink => {
                let target = self.target(name)?;
                self.follow(&target)?;
            }
            _ => return Err(Errno::NOTDIR),
        }
        Ok(())
    }

    /// What the last name leads to, if it is a link and one that is followed.
    fn link_to_follow(&self, name: &OsStr, flags: OFlags) -> Result<Option<OsString>> {
        if flags.intersects(OFlags::NOFOLLOW | OFlags::EXCL) {
            return Ok(None);
        }
        match self.target(name) {
            Ok(target) => Ok(Some(target)),
            // No link, or nothing yet.
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn target(&self, name: &OsStr) -> Result<OsString> {
        let target = readlinkat(self.here()?, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn follow(&mut self, target: &OsStr) -> Result<()> {
        self.links += 1;
        // A link of the kernel's own leads elsewhere than its text says; the others in `/proc` are relative.
        let magic = target.as_bytes().starts_with(b"/")
            && self.rules.contains(ResolveFlags::NO_MAGICLINKS)
            && fstatfs(self.here()?)?.f_type == PROC_SUPER_MAGIC;
        if self.rules.contains(ResolveFlags::NO_SYMLINKS) || self.links > LINKS || magic {
            return Err(Errno::LOOP);
        }
        self.lead(Path::new(target))
    }
}

fn directory(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::open;

    use super::*;

    const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

    fn by_hand(dir: &OwnedFd, path: &str, flags: OFlags, rules: ResolveFlags) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(0o600);
        Walk::from(dir, Path::new(path), rules)?.walk_to_its_end(flags, mode)
    }

    /// Both give the same file or the same errno.
    #[track_caller]
    fn same(dir: &OwnedFd, path: &str, flags: OFlags, rules: ResolveFlags) {
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o600)
        } else {
            Mode::empty()
        };
        let which = |file: OwnedFd| {
            let found = fstat(&file).unwrap();
            (found.st_dev, found.st_ino)
        };
        let kernel = openat2(dir, path, flags, mode, rules).map(which);
        let ours = by_hand(dir, path, flags, rules).map(which);
        assert_eq!(ours, kernel, "{path} {flags:?} {rules:?}");
    }

    #[test]
    fn what_is_opened_name_by_name_is_what_the_kernel_opens() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("in/deep")).unwrap();
        fs::write(at("in/deep/file"), "x").unwrap();
        fs::write(at("secret"), "x").unwrap();
        symlink("deep/file", at("in/link")).unwrap();
        symlink("deep", at("in/dirlink")).unwrap();
        symlink("../secret", at("in/out")).unwrap();
        symlink("deep/../../secret", at("in/round")).unwrap();
        symlink(at("secret"), at("in/absolute")).unwrap();
        symlink("loop", at("in/loop")).unwrap();
        symlink("nowhere", at("in/dangling")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(at("in"), flags, Mode::empty()).unwrap();
        let (beneath, none) = (ResolveFlags::BENEATH, ResolveFlags::NO_SYMLINKS);
        let plain = ResolveFlags::NO_MAGICLINKS;
        let paths = [
            ".",
            "deep",
            "deep/file",
            "deep/.",
            "deep/..",
            "..",
            "../in/deep/file",
            "link",
            "dirlink",
            "dirlink/file",
            "dirlink/../link",
            "out",
            "round",
            "absolute",
            "loop",
            "loop/x",
            "dangling",
            "missing",
            "missing/x",
            "deep/file/x",
            "/etc/passwd",
            "/proc/self/exe",
            "/proc/self/root",
        ];
        for path in paths {
            for rules in [beneath | plain, plain, plain | none, beneath | none | plain] {
                for wanted in [
                    READ,
                    READ | OFlags::DIRECTORY,
                    OFlags::PATH | OFlags::NOFOLLOW,
                ] {
                    // Numbers of files there may change; what is refused does not.
                    if !path.starts_with("/proc") || wanted == READ {
                        same(&dir, path, wanted | OFlags::CLOEXEC, rules);
                    }
                }
            }
        }
    }

    #[test]
    fn a_file_is_made_beneath_and_never_where_a_link_leads_out() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("in")).unwrap();
        symlink("../out", at("in/link")).unwrap();
        symlink("made", at("in/inner")).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(at("in"), flags, Mode::empty()).unwrap();
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        assert_eq!(by_hand(&dir, "link", new, rules).unwrap_err(), Errno::XDEV);
        assert!(!at("out").exists());
        by_hand(&dir, "inner", new, rules).unwrap();
        assert!(at("in/made").is_file());
        let once = new | OFlags::EXCL;
        assert_eq!(
            by_hand(&dir, "inner", once, rules).unwrap_err(),
            Errno::EXIST
        );
        assert_eq!(by_hand(&dir, ".", new, rules).unwrap_err(), Errno::ISDIR);
    }
}
