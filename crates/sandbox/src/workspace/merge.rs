//! Owns making one layer that is what several are together. The files of the several are not copied: they have one
//! more name each, for nobody writes in a layer.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Stat, XattrFlags, fgetxattr, fremovexattr, fsetxattr, mkdirat,
    statat,
};
use rustix::io::Errno;

use super::copy::{Copier, Files, attributes, names, open_dir, too_deep};
use crate::limits::TREE_DEPTH;

/// What says that nothing below a directory is seen, by who mounted the overlay. Source: overlayfs in the kernel's
/// documentation.
pub(super) const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Merges trees of several layers.
pub(super) struct Merger {
    copier: Copier,
    /// The attribute for a directory that hides what is below; none where nothing is below.
    opaque: Option<&'static str>,
}

/// What becomes of a name.
pub(super) enum Found {
    /// Hidden, below too.
    Whiteout(Stat),
    /// Anything but a directory, of the layer of that number.
    Leaf(usize, Stat),
    Dir(Dirs),
}

/// Directories of one name, uppermost first.
pub(super) struct Dirs {
    pub(super) fds: Vec<OwnedFd>,
    /// Whether what is below the last is hidden.
    pub(super) hides: bool,
    /// Whether a layer below may still add to it.
    open: bool,
}

impl Dirs {
    /// Those of all layers, of which nothing is hidden yet.
    pub(super) fn of(fds: Vec<OwnedFd>) -> Self {
        Self {
            fds,
            hides: false,
            open: true,
        }
    }
}

impl Merger {
    /// `below` says whether anything lies below the lowest layer, and `own_ids` who mounts them.
    pub(super) fn new(below: bool, own_ids: bool) -> Self {
        let name = if own_ids { OPAQUE[0] } else { OPAQUE[1] };
        Self {
            copier: Copier::new(Files::Linked, None),
            opaque: below.then_some(name),
        }
    }

    /// Makes the directory `to` be what `layers`, uppermost first, show together. `to` is new.
    pub(super) fn merge(&mut self, layers: &[&Path], to: &Path) -> io::Result<()> {
        rustix::fs::mkdir(to, Mode::RWXU)?;
        let fds = layers.iter().map(|layer| open_dir(CWD, *layer));
        let dirs = Dirs::of(fds.collect::<io::Result<_>>()?);
        let target = open_dir(CWD, to)?;
        self.content(&dirs, &target, 0)?;
        attributes(&dirs.fds[0], &target)
    }

    fn content(&mut self, dirs: &Dirs, to: &OwnedFd, depth: usize) -> io::Result<()> {
        if depth > TREE_DEPTH {
            return Err(too_deep());
        }
        for (name, found) in look(&dirs.fds)? {
            match found {
                // Where a directory hides all that is below, nothing is left to be hidden.
                Found::Whiteout(_) if self.opaque.is_none() || dirs.hides => {}
                Found::Whiteout(stat) => {
                    rustix::fs::mknodat(
                        to,
                        &name,
                        FileType::CharacterDevice,
                        Mode::empty(),
                        stat.st_rdev,
                    )?;
                }
                Found::Leaf(layer, stat) => {
                    let from = &dirs.fds[layer];
                    self.copier
                        .leaf(from, to, &name, &stat, Path::new(""), to)?;
                }
                Found::Dir(below) => {
                    mkdirat(to, &name, Mode::RWXU)?;
                    let target = open_dir(to, &name)?;
                    self.content(&below, &target, depth + 1)?;
                    attributes(&below.fds[0], &target)?;
                    self.hide(&target, below.hides)?;
                }
            }
        }
        Ok(())
    }

    /// Says of a directory whether what is below it is seen.
    fn hide(&self, dir: &OwnedFd, hides: bool) -> io::Result<()> {
        for name in OPAQUE {
            match fremovexattr(dir, name) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        match self.opaque {
            Some(name) if hides => Ok(fsetxattr(dir, name, b"y", XattrFlags::empty())?),
            _ => Ok(()),
        }
    }
}

/// Everything that is in these directories together, uppermost first.
pub(super) fn look(dirs: &[OwnedFd]) -> io::Result<BTreeMap<CString, Found>> {
    let mut all = BTreeMap::new();
    for (number, dir) in dirs.iter().enumerate() {
        for name in names(dir)? {
            let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            match all.get_mut(&name) {
                None => {
                    let found = first(dir, &name, number, stat)?;
                    all.insert(name, found);
                }
                Some(Found::Dir(above)) if above.open => further(above, dir, &name, &stat)?,
                Some(Found::Dir(_) | Found::Leaf(..) | Found::Whiteout(_)) => {}
            }
        }
    }
    Ok(all)
}

/// A name that no layer above has.
fn first(dir: &OwnedFd, name: &CStr, number: usize, stat: Stat) -> io::Result<Found> {
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout(stat),
        FileType::Directory => {
            let fd = open_dir(dir, name)?;
            let hides = is_opaque(&fd)?;
            Found::Dir(Dirs {
                fds: vec![fd],
                hides,
                open: !hides,
            })
        }
        _ => Found::Leaf(number, stat),
    })
}

/// What a lower layer has of the name of a directory.
fn further(above: &mut Dirs, dir: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let fd = open_dir(dir, name)?;
        above.hides = is_opaque(&fd)?;
        above.open = !above.hides;
        above.fds.push(fd);
    } else {
        // A file or a whiteout hides what is below it, and is hidden itself.
        (above.hides, above.open) = (true, false);
    }
    Ok(())
}

fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    for name in OPAQUE {
        let mut value = [0; 4];
        match fgetxattr(dir, name, &mut value) {
            Ok(length) => return Ok(value[..length] == *b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}
