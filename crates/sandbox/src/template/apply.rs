//! Owns putting one archive after another into a tree, as their writers mean it: what comes later takes the place of what
//! was there, and a layer of an image may hide names of those below it (OCI image specification, `layer.md`). The
//! archives may be anybody's; where their names lead is the matter of [`Rooted`].

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, chownat, linkat, mkdirat, mknodat, openat, symlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::rooted::{Rooted, clear, is_directory, look, remove};
use crate::archive::{Bounds, Dress, Entry, Fault, Kind, Landing, Reader, Refused, shown};
use crate::limits::TREE_DEPTH;
use crate::workspace::open_dir;

const NAME: usize = 255;
const PATH: usize = 4095;
/// Before the name that a layer hides.
const WHITEOUT: &[u8] = b".wh.";
/// In a directory of which a layer hides all that was there.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What a writer of layers may have left of its own.
const OTHERS: &[u8] = b".wh..wh.";
const CAPABILITY: &str = "security.capability";
/// Sandboxes have devices of their own.
const DEVICES: &[u8] = b"dev";

/// What kind of archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// All of a root.
    Plain,
    /// Changes of what was there before.
    Layer,
}

/// A tree that is being made.
pub(super) struct Tree<'a> {
    rooted: Rooted,
    landing: Landing<'a>,
}

impl<'a> Tree<'a> {
    /// The one in `root`, a directory that is there.
    pub(super) fn open(root: &Path, bounds: &'a Bounds) -> io::Result<Self> {
        Ok(Self {
            rooted: Rooted::open(root)?,
            landing: Landing::new(bounds),
        })
    }

    /// How many files and directories came, and how many bytes were written.
    pub(super) fn landed(&self) -> (u64, u64) {
        self.landing.landed()
    }

    /// Hides what a layer hides: before anything of it is put, for it hides nothing of its own.
    pub(super) fn hide(&mut self, from: impl Read) -> Result<(), Fault> {
        let mut reader = Reader::new(from);
        while let Some(entry) = reader.next()? {
            let path = Names::of(&entry.path)?;
            if let Some(hides) = Hides::of(&entry, &path)? {
                self.hidden(&path, hides)
                    .map_err(|error| no_place(&entry, error))?;
            }
        }
        Ok(reader.finish()?)
    }

    /// Puts all that is in an archive.
    pub(super) fn put(&mut self, from: impl Read, dialect: Dialect) -> Result<(), Fault> {
        let mut reader = Reader::new(from);
        while let Some(entry) = reader.next()? {
            self.landing.entry()?;
            let path = Names::of(&entry.path)?;
            if path.is_below(DEVICES) {
                continue;
            }
            match (Hides::of(&entry, &path)?, dialect) {
                (None, _) => self.one(&entry, &path, &mut reader)?,
                (Some(_), Dialect::Layer) => {}
                (Some(_), Dialect::Plain) => {
                    return Err(Refused::Dialect(shown(&entry.path)).into());
                }
            }
        }
        Ok(reader.finish()?)
    }

    fn hidden(&self, path: &Names, hides: Hides<'_>) -> io::Result<()> {
        let Some(dir) = self.rooted.directory(path.above())? else {
            return Ok(());
        };
        match hides {
            Hides::All => clear(&dir, 0),
            Hides::One(name) => remove(&dir, name),
        }
    }

    fn one<R: Read>(
        &mut self,
        entry: &Entry,
        path: &Names,
        reader: &mut Reader<R>,
    ) -> Result<(), Fault> {
        let mut dress = Dress::of(entry, self.landing.bounds.own_ids)?;
        if dress.owner.is_none() {
            // Who is root nowhere gives nobody capabilities, and must be let into what he makes.
            dress.attributes.retain(|(name, _)| name != CAPABILITY);
            if entry.kind == Kind::Directory {
                dress.mode |= 0o700;
            }
        }
        let Some(last) = path.last() else {
            return match entry.kind {
                Kind::Directory => Ok(dress.put_on(self.rooted.root())?),
                _ => Err(Refused::Name(shown(&entry.path)).into()),
            };
        };
        let dir = self.rooted.make_directories(path.above());
        let dir = dir.map_err(|error| no_place(entry, error))?;
        let last = CString::new(last).map_err(|_| Refused::Name(shown(&entry.path)))?;
        if entry.kind == Kind::Directory {
            return Ok(directory(&dir, &last, &dress)?);
        }
        if entry.kind == Kind::Link && self.is_itself(entry, &dir, &last)? {
            return Ok(());
        }
        remove(&dir, last.to_bytes())?;
        match entry.kind {
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
                let flags = flags | OFlags::CLOEXEC;
                let file = openat(&dir, &last, flags, Mode::RUSR | Mode::WUSR);
                let file = file.map_err(io::Error::from)?;
                self.landing.content(&file, entry, reader)?;
                Ok(dress.put_on(&file)?)
            }
            Kind::Link => self.link(entry, &dir, &last),
            Kind::Symlink | Kind::Fifo => special(entry, &dir, &last, &dress),
            Kind::Device => Err(Refused::Device(shown(&entry.path)).into()),
            Kind::Directory => Ok(()),
        }
    }

    /// The directory and the name of the file that a link is another name of.
    fn target(&self, entry: &Entry) -> Result<(OwnedFd, CString), Refused> {
        let bad = || Refused::Link(shown(&entry.path), shown(&entry.link));
        let target = Names::of(&entry.link).map_err(|_| bad())?;
        let last = target.last().ok_or_else(bad)?;
        let dir = self.rooted.directory(target.above()).ok().flatten();
        let last = CString::new(last).map_err(|_| bad())?;
        Ok((dir.ok_or_else(bad)?, last))
    }

    /// Whether a link names the very file that has its name: to make room for it would remove that.
    fn is_itself(&self, entry: &Entry, dir: &OwnedFd, last: &CString) -> Result<bool, Fault> {
        let (target, name) = self.target(entry)?;
        let (there, here) = (look(&target, name.to_bytes())?, look(dir, last.to_bytes())?);
        Ok(match (there, here) {
            (Some(a), Some(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        })
    }

    fn link(&self, entry: &Entry, dir: &OwnedFd, last: &CString) -> Result<(), Fault> {
        let bad = || Refused::Link(shown(&entry.path), shown(&entry.link));
        let (target, name) = self.target(entry)?;
        match look(&target, name.to_bytes())? {
            Some(stat) if !is_directory(&stat) => {}
            _ => return Err(bad().into()),
        }
        let linked = linkat(&target, &name, dir, last, AtFlags::empty());
        Ok(linked.map_err(io::Error::from)?)
    }
}

/// One that is there keeps what is in it.
fn directory(dir: &OwnedFd, last: &CString, dress: &Dress) -> io::Result<()> {
    match look(dir, last.to_bytes())? {
        Some(stat) if is_directory(&stat) => {}
        Some(_) => {
            remove(dir, last.to_bytes())?;
            mkdirat(dir, last, Mode::RWXU)?;
        }
        None => mkdirat(dir, last, Mode::RWXU)?,
    }
    dress.put_on(&open_dir(dir, last)?)
}

fn special(entry: &Entry, dir: &OwnedFd, last: &CString, dress: &Dress) -> Result<(), Fault> {
    if entry.kind == Kind::Symlink {
        let bad = || Refused::Link(shown(&entry.path), shown(&entry.link));
        if entry.link.is_empty() || entry.link.len() > PATH {
            return Err(bad().into());
        }
        let text = CString::new(entry.link.clone()).map_err(|_| bad())?;
        symlinkat(text, dir, last).map_err(io::Error::from)?;
    } else {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(dir, last, FileType::Fifo, mode, 0).map_err(io::Error::from)?;
    }
    let finished = || -> io::Result<()> {
        if let Some((uid, gid)) = dress.owner {
            chownat(dir, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if entry.kind == Kind::Fifo {
            chmodat(dir, last, Mode::from_raw_mode(dress.mode), AtFlags::empty())?;
        }
        Ok(utimensat(
            dir,
            last,
            &dress.times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    };
    Ok(finished()?)
}

/// What an entry says that has nowhere to lie.
fn no_place(entry: &Entry, error: io::Error) -> Fault {
    match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => {
            Refused::NoDirectory(shown(&entry.path)).into()
        }
        Some(Errno::NAMETOOLONG) => Refused::Name(shown(&entry.path)).into(),
        _ => error.into(),
    }
}

/// What an entry hides.
enum Hides<'a> {
    /// All that was in its directory.
    All,
    /// A name there.
    One(&'a [u8]),
}

impl<'a> Hides<'a> {
    fn of(entry: &Entry, path: &'a Names) -> Result<Option<Self>, Refused> {
        let bad = || Refused::Dialect(shown(&entry.path));
        // Ours, of archives of workspaces.
        if entry.records.whiteout || entry.records.opaque {
            return Err(bad());
        }
        // What is below such a name, or a directory of such a name, is another dialect's.
        let above = path.above().split(|byte| *byte == b'/');
        let mut above = above.filter(|part| part.starts_with(WHITEOUT));
        if above.next().is_some() {
            return Err(bad());
        }
        let Some(hidden) = path.last().and_then(|last| last.strip_prefix(WHITEOUT)) else {
            return Ok(None);
        };
        if path.last() == Some(OPAQUE) {
            return Ok(Some(Self::All));
        }
        let others = path.last().is_some_and(|last| last.starts_with(OTHERS));
        if others || hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(bad());
        }
        Ok(Some(Self::One(hidden)))
    }
}

/// The parts of a path that leads downwards and nowhere else; none of the root.
struct Names(Vec<u8>);

impl Names {
    fn of(path: &[u8]) -> Result<Self, Refused> {
        if path.starts_with(b"/") {
            return Err(Refused::Absolute(shown(path)));
        }
        let parts = path.split(|byte| *byte == b'/');
        let parts = parts.filter(|part| !part.is_empty() && *part != b".");
        let parts: Vec<&[u8]> = parts.collect();
        if parts.contains(&b"..".as_slice()) {
            return Err(Refused::Upwards(shown(path)));
        }
        let is_name = |part: &&[u8]| part.len() <= NAME && !part.contains(&0);
        if path.len() > PATH || !parts.iter().all(is_name) {
            return Err(Refused::Name(shown(path)));
        }
        if parts.len() > TREE_DEPTH {
            return Err(Refused::Depth(shown(path), TREE_DEPTH));
        }
        Ok(Self(parts.join(&b'/')))
    }

    /// None of the root.
    fn last(&self) -> Option<&[u8]> {
        let last = self.0.rsplit(|byte| *byte == b'/').next();
        last.filter(|last| !last.is_empty())
    }

    fn above(&self) -> &[u8] {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &self.0[..slash],
            None => &[],
        }
    }

    /// Whether it leads to what is in that directory of the root.
    fn is_below(&self, directory: &[u8]) -> bool {
        let rest = self.0.strip_prefix(directory);
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    }
}
