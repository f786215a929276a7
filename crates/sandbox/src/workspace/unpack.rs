//! Owns making the files of a layer from an archive that anybody may have written. It resolves no name that the archive
//! gives: it goes down one directory at a time, each made here and kept open, so that nothing in an archive leads elsewhere.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jail::image::SEALED;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, chmodat, chownat, fchmod, linkat, mkdirat,
    mknodat, openat, openat2, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::copy::open_dir;
use super::merge::OPAQUE;
use crate::archive::{
    Bounds, CLOSING, Dress, Entry, Fault, Kind, Landing, OPENING, Opening, Reader, Refused, shown,
};
use crate::limits::TREE_DEPTH;
use crate::template::TemplateId;

const NAME: usize = 255;
const PATH: usize = 4095;

/// Makes the parts of a layer in the directory `layer`, which is new and empty. Gives the template that the workspace
/// was made on; `has` says whether one is here.
pub(super) fn unpack(
    from: impl Read,
    layer: &Path,
    bounds: &Bounds,
    has: &dyn Fn(&TemplateId) -> bool,
) -> Result<Option<TemplateId>, Fault> {
    let mut reader = Reader::new(from);
    let template = opening(&mut reader)?.template;
    if let Some(template) = template.as_ref().filter(|template| !has(template)) {
        return Err(Refused::Template(template.to_string()).into());
    }
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
                None => {
                    reader.finish()?;
                    Ok(template)
                }
                Some(_) => Err(Refused::Trailing.into()),
            };
        }
        tree.put(&entry, &mut reader)?;
    }
}

fn opening<R: Read>(reader: &mut Reader<R>) -> Result<Opening, Refused> {
    let first = match reader.next() {
        Ok(Some(first)) if first.path == OPENING.as_bytes() => first,
        Err(cut @ (Refused::Cut | Refused::Stalled(_))) => return Err(cut),
        _ => return Err(Refused::Foreign),
    };
    Opening::parse(&small(reader, &first)?).ok_or(Refused::Foreign)
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

/// A directory that is being filled.
struct Open {
    name: Vec<u8>,
    fd: OwnedFd,
    dress: Option<Dress>,
}

struct Tree<'a> {
    landing: Landing<'a>,
    /// The parts, in the order of [`SEALED`], until the archive comes to them.
    parts: Vec<Option<OwnedFd>>,
    /// From a part down to where things are made.
    open: Vec<Open>,
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
            landing: Landing::new(bounds),
            parts,
            open: Vec::new(),
        })
    }

    fn put<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), Fault> {
        self.landing.entry()?;
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
            Kind::Device => Err(Refused::Device(said()).into()),
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
        self.landing.content(&file, entry, reader)?;
        Ok(dress.put_on(&file)?)
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
        let own_ids = self.landing.bounds.own_ids;
        let mut dress = Dress::of(entry, own_ids)?;
        if entry.records.opaque {
            if entry.kind != Kind::Directory || !entry.path.starts_with(SEALED[0].0.as_bytes()) {
                return Err(Refused::Whiteout(shown(&entry.path)));
            }
            let name = OPAQUE[usize::from(!own_ids)];
            dress.attributes.push((name.to_owned(), b"y".to_vec()));
        }
        Ok(dress)
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
