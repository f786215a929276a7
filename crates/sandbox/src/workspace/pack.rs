//! Owns writing what several layers are together into an archive. It makes no layer and changes none.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use jail::image::SEALED;
use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom, Stat, fstat, openat, readlinkat, seek};
use rustix::io::{Errno, pread};

use super::copy::{each_attribute_of, open_dir, too_deep};
use super::merge::{Dirs, Found, look};
use crate::archive::{Kind, Meta, Opening, PARTS, Records, Sparse, Writer};
use crate::limits::{ARCHIVE_NAMES, TREE_DEPTH};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// The unit of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

/// Writes an archive of what layers show together.
pub(super) struct Packer<W> {
    to: Writer<W>,
    own_ids: bool,
    /// Of files with several names, the first that was written: by number of device and inode.
    names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// Writes it; `layers` are the directories of the layers, uppermost first, and `opening` says what they lie on.
pub(super) fn pack<W: Write>(
    layers: &[PathBuf],
    opening: &Opening,
    to: W,
    own_ids: bool,
) -> io::Result<W> {
    let mut packer = Packer {
        to: Writer::new(to, opening)?,
        own_ids,
        names: HashMap::new(),
        buffer: vec![0; PIECE],
    };
    for (name, _) in SEALED {
        let parts = layers.iter().map(|layer| open_dir(CWD, layer.join(name)));
        let dirs = Dirs::of(parts.collect::<io::Result<_>>()?);
        // Only below the root lies something, the template.
        let template = name == SEALED[0].0;
        packer.names.clear();
        packer.directory(&dirs, name.as_bytes(), template, 0)?;
    }
    packer.to.finish()
}

impl<W: Write> Packer<W> {
    fn directory(
        &mut self,
        dirs: &Dirs,
        path: &[u8],
        template: bool,
        depth: usize,
    ) -> io::Result<()> {
        if depth > TREE_DEPTH {
            return Err(too_deep());
        }
        let top = &dirs.fds[0];
        let mut records = attributes(top)?;
        // Where the directory is hidden as a whole already, nothing is left to be hidden.
        records.opaque = template && dirs.hides;
        let below = template && !dirs.hides;
        let mut name = path.to_vec();
        name.push(b'/');
        let meta = self.meta(&fstat(top)?);
        self.to
            .entry(Kind::Directory, &name, b"", &meta, 0, records)?;
        for (last, found) in look(&dirs.fds)? {
            name.truncate(path.len() + 1);
            name.extend_from_slice(last.to_bytes());
            match found {
                Found::Whiteout(_) if !below => {}
                Found::Whiteout(_) => {
                    let records = Records {
                        whiteout: true,
                        ..Records::default()
                    };
                    let meta = Meta::default();
                    self.to.entry(Kind::File, &name, b"", &meta, 0, records)?;
                }
                Found::Leaf(layer, stat) => self.leaf(&dirs.fds[layer], &last, &name, &stat)?,
                Found::Dir(dirs) => self.directory(&dirs, &name, below, depth + 1)?,
            }
        }
        Ok(())
    }

    fn leaf(&mut self, dir: &OwnedFd, last: &CStr, name: &[u8], stat: &Stat) -> io::Result<()> {
        let meta = self.meta(stat);
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.names.get(&key) {
                let records = Records::default();
                return self.to.entry(Kind::Link, name, first, &meta, 0, records);
            }
            // Beyond so many, names of one file become files of their own.
            if self.names.len() < ARCHIVE_NAMES {
                self.names.insert(key, name.to_vec());
            }
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(dir, last, name),
            FileType::Symlink => {
                let text = readlinkat(dir, last, Vec::new())?;
                let records = Records::default();
                self.to
                    .entry(Kind::Symlink, name, text.to_bytes(), &meta, 0, records)
            }
            FileType::Fifo => self
                .to
                .entry(Kind::Fifo, name, b"", &meta, 0, Records::default()),
            // A socket is nothing without who listens; nobody can make a device.
            _ => Ok(()),
        }
    }

    fn file(&mut self, dir: &OwnedFd, last: &CStr, name: &[u8]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(dir, last, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        let mut records = attributes(&file)?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let room = u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK;
        let mut parts = vec![(0, length)];
        if room < length {
            parts = parts_of(&file, length)?;
            let parts = parts.clone();
            records.sparse = Some(Sparse { length, parts });
        }
        let size = parts.iter().map(|(_, length)| length).sum();
        let meta = self.meta(&stat);
        self.to.entry(Kind::File, name, b"", &meta, size, records)?;
        for (start, length) in parts {
            let (mut at, end) = (start, start + length);
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let read =
                    rustix::io::retry_on_intr(|| pread(&file, &mut self.buffer[..most], at))?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.to.bytes(&self.buffer[..read])?;
                at += read as u64;
            }
        }
        Ok(())
    }

    fn meta(&self, stat: &Stat) -> Meta {
        // Without ids of its own the host's are those seen inside: there is one.
        let id = |id: u32| if self.own_ids { id } else { 0 };
        Meta {
            mode: stat.st_mode & 0o7777,
            uid: id(stat.st_uid),
            gid: id(stat.st_gid),
            mtime: (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        }
    }
}

/// What else is to be said of a file or directory.
fn attributes(fd: &OwnedFd) -> io::Result<Records> {
    let mut records = Records::default();
    each_attribute_of(fd, |name, value| {
        // What overlayfs says is said otherwise, and what the host says is the host's.
        let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
        let shared = name == "security.capability" || name.starts_with("system.posix_acl_");
        if users || shared {
            records.attributes.push((name.to_owned(), value.to_vec()));
        }
        Ok(())
    })?;
    Ok(records)
}

/// Where a file with holes has bytes. Of very many parts, the last is all that follows.
fn parts_of(file: &OwnedFd, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < length {
        let start = match seek(file, SeekFrom::Data(at)) {
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        if parts.len() + 1 == PARTS {
            parts.push((start, length - start));
            break;
        }
        let end = seek(file, SeekFrom::Hole(start))?.min(length);
        parts.push((start, end - start));
        at = end;
    }
    // Others learn from a last part without bytes how long the file is.
    if parts
        .last()
        .is_none_or(|(start, some)| start + some < length)
    {
        parts.push((length, 0));
    }
    Ok(parts)
}
