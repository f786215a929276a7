//! Owns what the server asks about files: look, list, make, rename, remove, open, compose. It never leaves the
//! sandbox, which is all it can see, and never looks into the kernel's own file systems.
//!
//! Names on the way may be symlinks; they lead to where they would lead a process inside. The last name is
//! never followed but by reading.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, mkdirat,
    readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::resolve::open_by;
use crate::limits::LIST_ENTRIES;
use crate::wire::{Composed, Entry, Kind, Part, Refusal};

/// Where relative paths start.
const WORKSPACE: &str = "/workspace";
/// The magic of procfs and of sysfs (statfs(2)): their files act on the hand itself or on the kernel.
const KERNELS: [u32; 2] = [0x9fa0, 0x6265_6572];

/// Why something was not done: what the caller can do, and why, for a person.
pub(crate) type Refused = (Refusal, String);

/// What stands at `path`.
pub(crate) fn stat(path: &str) -> Result<Entry, Refused> {
    let path = absolute(path)?;
    let file = reach(&path, OFlags::PATH | OFlags::NOFOLLOW)?;
    let found = fstat(&file).map_err(|errno| refused(&path, errno))?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    let target = (kind(&found) == Kind::Symlink).then(|| target(&file, ""));
    Ok(entry(name.to_string_lossy().into_owned(), &found, target))
}

/// What is in the directory at `path`, by name, and whether there is more.
pub(crate) fn list(path: &str) -> Result<(Vec<Entry>, bool), Refused> {
    let path = absolute(path)?;
    let dir = reach(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let reading = Dir::read_from(&dir).map_err(|errno| refused(&path, errno))?;
    let (mut entries, mut more) = (Vec::new(), false);
    for found in reading {
        let found = found.map_err(|errno| refused(&path, errno))?;
        let name = found.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entries.len() == LIST_ENTRIES {
            more = true;
            break;
        }
        // What has gone since is not there.
        if let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            let target = (kind(&stat) == Kind::Symlink).then(|| target(&dir, name));
            entries.push(entry(name.to_string_lossy().into_owned(), &stat, target));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((entries, more))
}

/// Makes the directory and those above it that are missing.
pub(crate) fn make_directory(path: &str) -> Result<(), Refused> {
    let path = absolute(path)?;
    let mut missing = Vec::new();
    let mut above = path.as_path();
    let mut dir = loop {
        match reach(above, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(dir) => break dir,
            Err((Refusal::Missing, _)) => {}
            Err(other) => return Err(other),
        }
        let (parent, name) = parted(above)?;
        missing.push(name);
        above = parent;
    };
    while let Some(name) = missing.pop() {
        match mkdirat(&dir, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(refused(&path, errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let next = open_by(
            &dir,
            &name,
            flags,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        );
        dir = next.map_err(|errno| refused(&path, errno))?;
    }
    Ok(())
}

/// Gives `from` the name `to`.
pub(crate) fn rename(from: &str, to: &str) -> Result<(), Refused> {
    let (from, to) = (absolute(from)?, absolute(to)?);
    let (old_dir, old) = parent(&from)?;
    let (new_dir, new) = parent(&to)?;
    renameat(&old_dir, &old, &new_dir, &new).map_err(|errno| refused(&from, errno))
}

/// Removes what stands at `path`; with `all`, a directory with what is in it.
pub(crate) fn remove(path: &str, all: bool) -> Result<(), Refused> {
    let path = absolute(path)?;
    let (dir, name) = parent(&path)?;
    let found = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW);
    let found = found.map_err(|errno| refused(&path, errno))?;
    let removed = match (kind(&found), all) {
        (Kind::Directory, true) => {
            // By the descriptor: whatever the names above become meanwhile. The library follows no links.
            let below = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let removed = fs::remove_dir_all(Path::new(&below).join(&name));
            removed.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        }
        (Kind::Directory, false) => unlinkat(&dir, &name, AtFlags::REMOVEDIR),
        _ => unlinkat(&dir, &name, AtFlags::empty()),
    };
    removed.map_err(|errno| refused(&path, errno))
}

/// A regular file to read, and what it is.
pub(crate) fn open(path: &str) -> Result<(File, Entry), Refused> {
    let path = absolute(path)?;
    let file = reach(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let found = fstat(&file).map_err(|errno| refused(&path, errno))?;
    if kind(&found) != Kind::File {
        let what = format!("{}: {}", path.display(), not_regular(kind(&found)));
        return Err((Refusal::Invalid, what));
    }
    let name = path.file_name().unwrap_or(path.as_os_str());
    let entry = entry(name.to_string_lossy().into_owned(), &found, None);
    Ok((File::from(file), entry))
}

/// Writes those files, by the question of that number.
pub(crate) fn compose(files: &[Composed], id: u64) -> Result<(), Refused> {
    for Composed { path, mode, parts } in files {
        let mut draft = Draft::new(path, Some(*mode), id)?;
        for part in parts {
            let added = match part {
                Part::Bytes { bytes } => draft.file.write_all(bytes),
                Part::Packed { base64 } => match STANDARD.decode(base64) {
                    Ok(bytes) => draft.file.write_all(&bytes),
                    Err(error) => {
                        return Err((Refusal::Invalid, format!("{path}: no base64: {error}")));
                    }
                },
                Part::File { path, from, length } => {
                    let (mut file, _) = open(path)?;
                    let sought = file.seek(SeekFrom::Start(*from));
                    let copied =
                        sought.and_then(|_| io::copy(&mut file.take(*length), &mut draft.file));
                    copied.map(drop)
                }
            };
            added.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                (Refusal::Invalid, draft.problem(errno))
            })?;
        }
        draft
            .finish()
            .map_err(|problem| (Refusal::Invalid, problem))?;
    }
    Ok(())
}

/// A file that takes its place when it is finished. Dropped before, it leaves no trace.
pub(crate) struct Draft {
    pub(crate) file: File,
    dir: OwnedFd,
    temporary: OsString,
    name: OsString,
    path: PathBuf,
    mode: Mode,
    finished: bool,
}

impl Draft {
    pub(crate) fn new(path: &str, mode: Option<u32>, id: u64) -> Result<Self, Refused> {
        let path = absolute(path)?;
        let (dir, name) = parent(&path)?;
        let former = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW).ok();
        if former
            .as_ref()
            .is_some_and(|stat| kind(stat) == Kind::Directory)
        {
            return Err((
                Refusal::Invalid,
                format!("{}: is a directory", path.display()),
            ));
        }
        let regular = former.filter(|stat| kind(stat) == Kind::File);
        let mode = mode.or_else(|| regular.map(|stat| stat.st_mode & 0o7777));
        let temporary = OsString::from(format!(".longhand-{}-{id}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let safe = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let _ = unlinkat(&dir, &temporary, AtFlags::empty());
        let file = open_by(&dir, &temporary, flags, Mode::from_raw_mode(0o600), safe);
        Ok(Self {
            file: File::from(file.map_err(|errno| refused(&path, errno))?),
            dir,
            temporary,
            name,
            path,
            mode: Mode::from_raw_mode(mode.unwrap_or(0o644) & 0o7777),
            finished: false,
        })
    }

    pub(crate) fn finish(mut self) -> Result<(), String> {
        let finished = rustix::fs::fchmod(&self.file, self.mode)
            .and_then(|()| renameat(&self.dir, &self.temporary, &self.dir, &self.name));
        self.finished = finished.is_ok();
        finished.map_err(|errno| self.problem(errno))
    }

    pub(crate) fn problem(&self, errno: Errno) -> String {
        refused(&self.path, errno).1
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = unlinkat(&self.dir, &self.temporary, AtFlags::empty());
        }
    }
}

fn absolute(path: &str) -> Result<PathBuf, Refused> {
    if path.is_empty() || path.contains('\0') {
        let problem = "a path is neither empty nor has a NUL byte in it".to_owned();
        return Err((Refusal::Invalid, problem));
    }
    Ok(Path::new(WORKSPACE).join(path).components().collect())
}

fn parted(path: &Path) -> Result<(&Path, OsString), Refused> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name.to_owned())),
        _ => Err((
            Refusal::Invalid,
            format!("{}: names no file", path.display()),
        )),
    }
}

/// The directory in which `path` is, open, and its name there.
fn parent(path: &Path) -> Result<(OwnedFd, OsString), Refused> {
    let (parent, name) = parted(path)?;
    Ok((reach(parent, OFlags::PATH | OFlags::DIRECTORY)?, name))
}

/// The directory to look at for what `path` names, and the one name in it if it is no directory.
pub(crate) fn watched(path: &str) -> Result<(PathBuf, Option<OsString>), Refused> {
    let path = absolute(path)?;
    let refused = match reach(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => return Ok((real(&directory, path), None)),
        Err(refused) => refused,
    };
    let (directory, name) = parent(&path)?;
    let found = statat(&directory, &name, AtFlags::empty());
    if found.is_ok_and(|found| kind(&found) == Kind::Directory) {
        return Err(refused);
    }
    let above = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok((real(&directory, above), Some(name)))
}

/// Where a directory is, whatever links led to it.
fn real(directory: &OwnedFd, path: PathBuf) -> PathBuf {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    fs::read_link(link).unwrap_or(path)
}

fn reach(path: &Path, flags: OFlags) -> Result<OwnedFd, Refused> {
    let flags = flags | OFlags::CLOEXEC;
    let file = open_by(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let file = file.map_err(|errno| refused(path, errno))?;
    let system = fstatfs(&file).map_err(|errno| refused(path, errno))?;
    let magic = u32::try_from(system.f_type).unwrap_or_default();
    if KERNELS.contains(&magic) {
        let problem = format!("{}: belongs to the kernel", path.display());
        return Err((Refusal::Invalid, problem));
    }
    Ok(file)
}

fn target(dir: &impl AsFd, name: impl rustix::path::Arg) -> String {
    let target = readlinkat(dir, name, Vec::new());
    target.map_or_else(|_| String::new(), |to| to.to_string_lossy().into_owned())
}

fn entry(name: String, stat: &Stat, target: Option<String>) -> Entry {
    Entry {
        name,
        kind: kind(stat),
        bytes: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: stat.st_mode & 0o7777,
        modified: stat.st_mtime,
        target,
    }
}

fn kind(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

fn not_regular(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "is a directory",
        _ => "not a regular file",
    }
}

fn refused(path: &Path, errno: Errno) -> Refused {
    let why = match errno {
        Errno::NOENT | Errno::NOTDIR => Refusal::Missing,
        _ => Refusal::Invalid,
    };
    (
        why,
        format!("{}: {}", path.display(), super::tools::explain(errno)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PACKS;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("hand-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn path(&self, below: &str) -> String {
            self.0.join(below).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_kernels_own_file_systems_are_out_of_reach_by_whatever_name() {
        let dir = Dir::new("kernels");
        std::os::unix::fs::symlink("/proc/self", dir.path("me")).unwrap();
        for path in ["/proc/self/mem", "/sys/kernel", &dir.path("me/environ")] {
            assert_eq!(open(path).err().unwrap().0, Refusal::Invalid, "{path}");
            assert!(Draft::new(path, None, 1).is_err(), "{path}");
            assert!(remove(path, true).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_is_put_together_from_parts_of_either_kind_of_server() {
        let dir = Dir::new("composed");
        fs::write(dir.path("roots"), "0123456789").unwrap();
        for version in [PACKS - 1, PACKS] {
            let roots = Part::File {
                path: dir.path("roots"),
                from: 2,
                length: 3,
            };
            let parts = vec![
                Part::of(b"\xfe\0 ", version),
                roots,
                Part::of(b"end", version),
            ];
            let asked = Composed {
                path: dir.path("whole"),
                mode: 0o640,
                parts,
            };
            let text = serde_json::to_string(&asked).unwrap();
            assert_eq!(text.contains("base64"), version >= PACKS, "{text}");
            compose(&[serde_json::from_str(&text).unwrap()], 1).unwrap();
            assert_eq!(fs::read(dir.path("whole")).unwrap(), b"\xfe\0 234end");
        }
        let broken = Part::Packed {
            base64: "no base64".to_owned(),
        };
        let asked = Composed {
            path: dir.path("whole"),
            mode: 0o640,
            parts: vec![broken],
        };
        assert_eq!(compose(&[asked], 1).unwrap_err().0, Refusal::Invalid);
        assert_eq!(fs::read(dir.path("whole")).unwrap(), b"\xfe\0 234end");
    }

    #[test]
    fn a_draft_takes_its_place_whole_or_leaves_no_trace() {
        use std::io::Write;
        let dir = Dir::new("draft");
        fs::write(dir.path("a"), "old").unwrap();
        let mut draft = Draft::new(&dir.path("a"), None, 1).unwrap();
        draft.file.write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read_to_string(dir.path("a")).unwrap(), "old");
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1);
        let mut draft = Draft::new(&dir.path("a"), Some(0o751), 2).unwrap();
        draft.file.write_all(b"new").unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::read_to_string(dir.path("a")).unwrap(), "new");
        assert_eq!(stat(&dir.path("a")).unwrap().mode, 0o751);
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1);
    }

    #[test]
    fn the_last_name_is_followed_by_reading_only() {
        use std::io::Write;
        let dir = Dir::new("links");
        fs::write(dir.path("kept"), "kept").unwrap();
        std::os::unix::fs::symlink("kept", dir.path("link")).unwrap();
        let seen = stat(&dir.path("link")).unwrap();
        assert_eq!(
            (seen.kind, seen.target.as_deref()),
            (Kind::Symlink, Some("kept"))
        );
        assert_eq!(open(&dir.path("link")).unwrap().1.bytes, 4);
        let mut draft = Draft::new(&dir.path("link"), None, 1).unwrap();
        draft.file.write_all(b"other").unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::read_to_string(dir.path("kept")).unwrap(), "kept");
        std::os::unix::fs::symlink(&dir.0, dir.path("up")).unwrap();
        remove(&dir.path("up"), true).unwrap();
        assert_eq!(fs::read_to_string(dir.path("link")).unwrap(), "other");
    }

    #[test]
    fn directories_are_made_listed_renamed_and_removed() {
        let dir = Dir::new("tree");
        make_directory(&dir.path("a/b/c")).unwrap();
        make_directory(&dir.path("a/b/c")).unwrap();
        fs::write(dir.path("a/b/z"), "").unwrap();
        let (entries, more) = list(&dir.path("a/b")).unwrap();
        let names: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
        assert_eq!(
            (names, more),
            (vec![("c", Kind::Directory), ("z", Kind::File)], false)
        );
        rename(&dir.path("a/b"), &dir.path("a/d")).unwrap();
        assert_eq!(
            remove(&dir.path("a/d"), false).unwrap_err().0,
            Refusal::Invalid
        );
        remove(&dir.path("a/d"), true).unwrap();
        assert_eq!(stat(&dir.path("a/d")).unwrap_err().0, Refusal::Missing);
        assert_eq!(stat("").unwrap_err().0, Refusal::Invalid);
        assert_eq!(remove("/", true).unwrap_err().0, Refusal::Invalid);
    }
}
