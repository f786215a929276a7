//! Owns the digest of a tree: the same for the same names, owners, modes, times, attributes and contents, however they
//! came to be there. It changes nothing.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::read;

use super::name::TemplateId;
use crate::limits::TREE_DEPTH;
use crate::workspace::{each_attribute_of, names, open_dir, too_deep};

/// Said first: another way of counting is another digest.
const FORMAT: &[u8] = b"longhand template 1\n";
/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// What a tree comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) id: TemplateId,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

struct Summing {
    digest: Context,
    own_ids: bool,
    files: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

/// The digest of the tree in `root`.
///
/// Times of directories do not count: each file that is made in one sets it anew. That two names are one file does not
/// count either.
pub(super) fn sum(root: &Path, own_ids: bool) -> io::Result<Sum> {
    let mut summing = Summing {
        digest: Context::new(&SHA256),
        own_ids,
        files: 0,
        bytes: 0,
        buffer: vec![0; PIECE],
    };
    summing.digest.update(FORMAT);
    let root = open_dir(CWD, root)?;
    summing.directory(&root, &rustix::fs::fstat(&root)?, b"", 0)?;
    Ok(Sum {
        id: TemplateId::of(summing.digest.finish().as_ref()),
        files: summing.files,
        bytes: summing.bytes,
    })
}

impl Summing {
    fn directory(
        &mut self,
        dir: &OwnedFd,
        stat: &Stat,
        name: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        if depth > TREE_DEPTH {
            return Err(too_deep());
        }
        self.head(b'd', name, stat);
        self.attributes(dir)?;
        let mut all = names(dir)?;
        all.sort();
        for name in &all {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let below = open_dir(dir, name)?;
                self.directory(&below, &stat, name.to_bytes(), depth + 1)?;
            } else {
                self.leaf(dir, name, &stat)?;
            }
        }
        // Where a directory ends is part of what is in it.
        self.digest.update(b"u");
        Ok(())
    }

    fn leaf(&mut self, dir: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => b'f',
            FileType::Symlink => b'l',
            FileType::Fifo => b'p',
            _ => {
                let problem = format!("{name:?} is no file that a template has");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        };
        self.head(kind, name.to_bytes(), stat);
        self.number(stat.st_mtime.cast_unsigned());
        match kind {
            b'f' => self.content(dir, name, stat),
            b'l' => {
                let text = readlinkat(dir, name, Vec::new())?;
                self.text(text.to_bytes());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn content(&mut self, dir: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(dir, name, flags, Mode::empty())?;
        self.attributes(&file)?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        self.number(length);
        self.bytes += length;
        loop {
            let some = rustix::io::retry_on_intr(|| read(&file, &mut self.buffer[..]))?;
            if some == 0 {
                return Ok(());
            }
            self.digest.update(&self.buffer[..some]);
        }
    }

    fn head(&mut self, kind: u8, name: &[u8], stat: &Stat) {
        self.files += 1;
        self.digest.update(&[kind]);
        self.text(name);
        // Without ids of its own the host's are those seen inside: there is one.
        let id = |id: u32| if self.own_ids { id } else { 0 };
        let (uid, gid) = (id(stat.st_uid), id(stat.st_gid));
        // A link's mode is the kernel's matter.
        let mode = if kind == b'l' {
            0
        } else {
            stat.st_mode & 0o7777
        };
        for number in [mode, uid, gid] {
            self.number(u64::from(number));
        }
    }

    fn attributes(&mut self, fd: &OwnedFd) -> io::Result<()> {
        let mut all = Vec::new();
        each_attribute_of(fd, |name, value| {
            // What the host says of its files is the host's.
            let users = name.starts_with("user.") && !name.starts_with("user.overlay.");
            let shared = name == "security.capability" || name.starts_with("system.posix_acl_");
            if users || shared {
                all.push((name.to_owned(), value.to_vec()));
            }
            Ok(())
        })?;
        all.sort();
        self.number(all.len() as u64);
        for (name, value) in &all {
            self.text(name.as_bytes());
            self.text(value);
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.digest.update(text);
    }

    fn number(&mut self, number: u64) {
        self.digest.update(&number.to_le_bytes());
    }
}
