//! Owns making the files of a layer from an archive that anybody may have written. It resolves no name that the archive
//! gives: it goes down one directory at a time, each made here and kept open, so that nothing in an archive leads elsewhere.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jail::image::SEALED;
use jail::plan::ID_COUNT;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, mkdirat, mknodat,
    openat, openat2, statat, symlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};

use super::copy::open_dir;
use super::merge::OPAQUE;
use crate::archive::{CLOSING, Entry, FORMAT, Fault, Kind, OPENING, Reader, Refused, shown};
use crate::limits::{ARCHIVE_FREE, ARCHIVE_LOOK, ARCHIVE_RATIO, ARCHIVE_ZEROS, TREE_DEPTH};

/// Bytes that are looked at whether they are zeros, and written at once.
const PIECE: usize = 64 * 1024;
const NAME: usize = 255;
const PATH: usize = 4095;
/// Of attributes, those that programs in a sandbox set by themselves.
const ATTRIBUTES: [&str; 3] = [
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
];

/// What an archive may take here.
pub(crate) struct Bounds {
    /// Bytes on the disk.
    pub(crate) bytes: u64,
    /// Files and directories.
    pub(crate) entries: u64,
    /// Bytes that have come of the archive itself.
    pub(crate) came: Arc<AtomicU64>,
    /// Whether sandboxes have ids of their own.
    pub(crate) own_ids: bool,
    /// Fails when the host's disk is nearly full; asked now and then.
    pub(crate) room: Box<dyn Fn() -> io::Result<()> + Send>,
}

/// Makes the parts of a layer in the directory `layer`, which is new and empty.
pub(super) fn unpack(from: impl Read, layer: &Path, bounds: &Bounds) -> Result<(), Fault> {
    let mut reader = Reader::new(from);
    opening(&mut reader)?;
    let mut tree = Tree::new(layer, bounds)?;
    loop {
        let Some(entry) = reader.next()? else {
            return Err(Refused::Cut.into());
        };
        if entry.path == CLOSING.as_bytes() {
            tree.leave(0)?;
            let said = small(&mut reader, &entry)?;
            if said != reader.digest_before().as_bytes() {
                return Err(Refused::Digest.into());
            }
            return match reader.next()? {
                None => Ok(reader.finish()?),
                Some(_) => Err(Refused::Trailing.into()),
            };
        }
        tree.put(&entry, &mut reader)?;
    }
}

fn opening<R: Read>(reader: &mut Reader<R>) -> Result<(), Refused> {
    let first = match reader.next() {
        Ok(Some(first)) if first.path == OPENING.as_bytes() => first,
        Err(cut @ (Refused::Cut | Refused::Stalled(_))) => return Err(cut),
        _ => return Err(Refused::Foreign),
    };
    match small(reader, &first)? == FORMAT.as_bytes() {
        true => Ok(()),
        false => Err(Refused::Foreign),
    }
}

/// The content of an entry of our own; of a longer one, its beginning.
fn small<R: Read>(reader: &mut Reader<R>, entry: &Entry) -> Result<Vec<u8>, Refused> {
    let mut content = Vec::new();
    while content.len() < usize::try_from(entry.size).unwrap_or(usize::MAX).min(1024) {
        let piece = reader.piece(1024)?;
        let length = piece.len();
        content.extend_from_slice(piece);
        reader.took(length);
    }
    Ok(content)
}

/// What a file or directory is given when all else is done.
struct Dress {
    mode: u32,
    owner: Option<(Uid, Gid)>,
    times: Timestamps,
    attributes: Vec<(String, Vec<u8>)>,
}

/// A directory that is being filled.
struct Open {
    name: Vec<u8>,
    fd: OwnedFd,
    dress: Option<Dress>,
}

struct Tree<'a> {
    bounds: &'a Bounds,
    /// The parts, in the order of [`SEALED`], until the archive comes to them.
    parts: Vec<Option<OwnedFd>>,
    /// From a part down to where things are made.
    open: Vec<Open>,
    entries: u64,
    /// Bytes that were written, and those that came.
    written: u64,
    unpacked: u64,
    /// When to look next whether there is room: bytes that were written.
    look: u64,
}

impl<'a> Tree<'a> {
    fn new(layer: &Path, bounds: &'a Bounds) -> io::Result<Self> {
        let mut parts = Vec::new();
        for (name, _) in SEALED {
            let path = layer.join(name);
            rustix::fs::mkdir(&path, Mode::RWXU)?;
            let fd = open_dir(CWD, &path)?;
            // One of which the archive says nothing is as a fresh sandbox has it.
            fchmod(&fd, Mode::from_raw_mode(0o755))?;
            parts.push(Some(fd));
        }
        Ok(Self {
            bounds,
            parts,
            open: Vec::new(),
            entries: 0,
            written: 0,
            unpacked: 0,
            look: ARCHIVE_LOOK,
        })
    }

    fn put<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), Fault> {
        self.entries += 1;
        if self.entries > self.bounds.entries {
            return Err(Refused::Many(self.bounds.entries).into());
        }
        let path = Names::of(&entry.path, entry.kind == Kind::Directory)?;
        let said = || shown(&entry.path);
        let dress = self.dress(entry)?;
        let Some((name, dirs)) = path.0.split_last() else {
            return Err(Refused::Name(said()).into());
        };
        let Some((part, _)) = dirs.split_first() else {
            return self.part(entry, name, dress);
        };
        let same = self.open.iter().zip(dirs);
        let same = same.take_while(|(open, name)| open.name == **name).count();
        self.leave(same)?;
        if same != dirs.len() {
            return Err(match part_number(part) {
                Some(_) => Refused::Order(said()),
                None => Refused::Outside(said()),
            }
            .into());
        }
        let name = CString::new(name.to_vec()).map_err(|_| Refused::Name(said()))?;
        if entry.records.whiteout {
            return self.whiteout(entry, &name);
        }
        match entry.kind {
            Kind::File => self.file(entry, &name, &dress, reader),
            Kind::Link => self.link(entry, &name),
            Kind::Directory => self.directory(entry, &name, dress),
            Kind::Symlink | Kind::Fifo => self.special(entry, &name, &dress),
        }
    }

    /// The directory where the next thing is made.
    fn here(&self) -> io::Result<&OwnedFd> {
        let last = self.open.last();
        last.map(|open| &open.fd)
            .ok_or_else(|| io::Error::other("no directory is open"))
    }

    /// One of the three directories that hold everything.
    fn part(&mut self, entry: &Entry, name: &[u8], dress: Dress) -> Result<(), Fault> {
        let said = || shown(&entry.path);
        let number = part_number(name).ok_or_else(|| Refused::Outside(said()))?;
        if entry.kind != Kind::Directory {
            return Err(Refused::Outside(said()).into());
        }
        self.leave(0)?;
        let fd = self.parts[number].take();
        self.open.push(Open {
            name: name.to_vec(),
            fd: fd.ok_or_else(|| Refused::Twice(said()))?,
            dress: Some(dress),
        });
        Ok(())
    }

    /// Leaves directories until so many are open; each gets what it is to have, for now nothing is made in it any more.
    fn leave(&mut self, depth: usize) -> io::Result<()> {
        while self.open.len() > depth
            && let Some(open) = self.open.pop()
        {
            if let Some(dress) = open.dress {
                dress.put_on(&open.fd)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, name: &CString, dress: Dress) -> Result<(), Fault> {
        if self.open.len() > TREE_DEPTH {
            return Err(Refused::Depth(shown(&entry.path), TREE_DEPTH).into());
        }
        new(mkdirat(self.here()?, name, Mode::RWXU), entry)?;
        let fd = open_dir(self.here()?, name)?;
        self.open.push(Open {
            name: name.to_bytes().to_vec(),
            fd,
            dress: Some(dress),
        });
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        name: &CString,
        dress: &Dress,
        reader: &mut Reader<R>,
    ) -> Result<(), Fault> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(self.here()?, name, flags, Mode::RUSR | Mode::WUSR);
        let file = new(made, entry)?;
        let whole = [(0, entry.size)];
        let (length, parts) = match &entry.records.sparse {
            Some(sparse) => (sparse.length, sparse.parts.as_slice()),
            None => (entry.size, whole.as_slice()),
        };
        for (start, length) in parts {
            let (mut at, end) = (*start, start.saturating_add(*length));
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let piece = reader.piece(most)?;
                let came = piece.len();
                if came == 0 {
                    return Err(Refused::Cut.into());
                }
                // What is nothing but zeros is left out: it takes no room.
                if piece.iter().any(|byte| *byte != 0) {
                    self.fits(write_all(&file, piece, at))?;
                    self.written += came as u64;
                }
                reader.took(came);
                at += came as u64;
                self.unpacked += came as u64;
                self.count()?;
            }
        }
        self.fits(ftruncate(&file, length).map_err(io::Error::from))?;
        Ok(dress.put_on(&file)?)
    }

    /// What a file says that would be longer than any can be.
    fn fits(&self, done: io::Result<()>) -> Result<(), Fault> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(Refused::Large(self.bounds.bytes).into())
            }
            other => Ok(other?),
        }
    }

    /// Whether there is too much of it.
    fn count(&mut self) -> Result<(), Fault> {
        let most = self.bounds.bytes;
        if self.written > most || self.unpacked > most.saturating_mul(ARCHIVE_ZEROS) {
            return Err(Refused::Large(most).into());
        }
        let came = self.bounds.came.load(Ordering::Relaxed);
        if self.written
            > came
                .saturating_mul(ARCHIVE_RATIO)
                .saturating_add(ARCHIVE_FREE)
        {
            return Err(Refused::Bomb(ARCHIVE_RATIO).into());
        }
        if self.written > self.look {
            self.look = self.written + ARCHIVE_LOOK;
            (self.bounds.room)()?;
        }
        Ok(())
    }

    /// Another name of a file of the same part.
    fn link(&self, entry: &Entry, name: &CString) -> Result<(), Fault> {
        let bad = || Refused::Link(shown(&entry.path), shown(&entry.link));
        let target = Names::of(&entry.link, false).map_err(|_| bad())?;
        let (part, rest) = (self.open.first(), target.0.split_first());
        let (Some(part), Some((of, rest))) = (part, rest) else {
            return Err(bad().into());
        };
        let Some((last, dirs)) = rest.split_last().filter(|_| part.name == *of) else {
            return Err(bad().into());
        };
        // In what was made here there may be symbolic links: none is followed.
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut way = b".".to_vec();
        for dir in dirs {
            way.push(b'/');
            way.extend_from_slice(dir);
        }
        let way = std::ffi::OsStr::from_bytes(&way);
        let dir = openat2(&part.fd, way, flags, Mode::empty(), beneath).map_err(|_| bad())?;
        let last = CString::new(last.to_vec()).map_err(|_| bad())?;
        let found = statat(&dir, &last, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| bad())?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
            _ => return Err(bad().into()),
        }
        let linked = linkat(&dir, &last, self.here()?, name, AtFlags::empty());
        new(linked, entry)
    }

    fn special(&self, entry: &Entry, name: &CString, dress: &Dress) -> Result<(), Fault> {
        let here = self.here()?;
        if entry.kind == Kind::Symlink {
            let bad = || Refused::Link(shown(&entry.path), shown(&entry.link));
            if entry.link.is_empty() || entry.link.len() > PATH {
                return Err(bad().into());
            }
            let text = CString::new(entry.link.clone()).map_err(|_| bad())?;
            new(symlinkat(text, here, name), entry)?;
        } else {
            let mode = Mode::RUSR | Mode::WUSR;
            new(mknodat(here, name, FileType::Fifo, mode, 0), entry)?;
        }
        if let Some((uid, gid)) = dress.owner {
            chownat(here, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io::Error::from)?;
        }
        if entry.kind == Kind::Fifo {
            let mode = Mode::from_raw_mode(dress.mode);
            chmodat(here, name, mode, AtFlags::empty()).map_err(io::Error::from)?;
        }
        let timed = utimensat(here, name, &dress.times, AtFlags::SYMLINK_NOFOLLOW);
        Ok(timed.map_err(io::Error::from)?)
    }

    /// A name of the template that is gone.
    fn whiteout(&self, entry: &Entry, name: &CString) -> Result<(), Fault> {
        let template = self
            .open
            .first()
            .is_some_and(|part| part.name == SEALED[0].0.as_bytes());
        if entry.kind != Kind::File || entry.size != 0 || !template {
            return Err(Refused::Whiteout(shown(&entry.path)).into());
        }
        let kind = FileType::CharacterDevice;
        new(mknodat(self.here()?, name, kind, Mode::empty(), 0), entry)
    }

    fn dress(&self, entry: &Entry) -> Result<Dress, Refused> {
        let said = || shown(&entry.path);
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id < ID_COUNT);
        let owner = match (id(entry.uid), id(entry.gid)) {
            (Some(uid), Some(gid)) => (Uid::from_raw(uid), Gid::from_raw(gid)),
            _ => return Err(Refused::Owner(said(), entry.uid, entry.gid)),
        };
        let mut attributes = entry.records.attributes.clone();
        for (name, _) in &attributes {
            let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
            if !users && !ATTRIBUTES.contains(&name.as_str()) {
                return Err(Refused::Attribute(said(), shown(name.as_bytes())));
            }
        }
        if entry.records.opaque {
            if entry.kind != Kind::Directory || !entry.path.starts_with(SEALED[0].0.as_bytes()) {
                return Err(Refused::Whiteout(said()));
            }
            let name = OPAQUE[usize::from(!self.bounds.own_ids)];
            attributes.push((name.to_owned(), b"y".to_vec()));
        }
        let (seconds, nanos) = entry.mtime;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanos),
        };
        Ok(Dress {
            mode: entry.mode & 0o7777,
            owner: self.bounds.own_ids.then_some(owner),
            times: Timestamps {
                last_access: time,
                last_modification: time,
            },
            attributes,
        })
    }
}

impl Dress {
    fn put_on(&self, fd: &OwnedFd) -> io::Result<()> {
        // In this order: a new owner takes set-id bits and capabilities away, and all of it sets the time.
        if let Some((uid, gid)) = self.owner {
            fchown(fd, Some(uid), Some(gid))?;
        }
        fchmod(fd, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.attributes {
            fsetxattr(fd, name.as_str(), value, XattrFlags::empty())?;
        }
        Ok(futimens(fd, &self.times)?)
    }
}

fn part_number(name: &[u8]) -> Option<usize> {
    SEALED.iter().position(|(part, _)| part.as_bytes() == name)
}

/// What was made, or who else had the name.
fn new<T>(made: rustix::io::Result<T>, entry: &Entry) -> Result<T, Fault> {
    match made {
        Err(Errno::EXIST) => Err(Refused::Twice(shown(&entry.path)).into()),
        Err(Errno::NAMETOOLONG) => Err(Refused::Name(shown(&entry.path)).into()),
        other => Ok(other.map_err(io::Error::from)?),
    }
}

fn write_all(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| pwrite(&file, bytes, at))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// The parts of a path that leads downwards and nowhere else.
struct Names<'a>(Vec<&'a [u8]>);

impl<'a> Names<'a> {
    fn of(path: &'a [u8], directory: bool) -> Result<Self, Refused> {
        if path.starts_with(b"/") {
            return Err(Refused::Absolute(shown(path)));
        }
        let plain = match directory {
            true => path.strip_suffix(b"/").unwrap_or(path),
            false => path,
        };
        let parts: Vec<&[u8]> = plain.split(|byte| *byte == b'/').collect();
        if parts.contains(&b"..".as_slice()) {
            return Err(Refused::Upwards(shown(path)));
        }
        let is_name = |part: &&[u8]| {
            !part.is_empty() && *part != b"." && part.len() <= NAME && !part.contains(&0)
        };
        if path.len() > PATH || !parts.iter().all(is_name) {
            return Err(Refused::Name(shown(path)));
        }
        Ok(Self(parts))
    }
}
