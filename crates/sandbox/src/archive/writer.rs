//! Owns writing an archive, an entry at a time. What it writes, GNU tar and others read.

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};

use super::header::{Announced, BLOCK, Header, Kind, fits};
use super::pax::Records;
use super::reader::pad;
use super::{CLOSING, OPENING, Opening};

/// What is said of an entry beside its name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and billionths.
    pub(crate) mtime: (i64, u32),
}

/// Writes an archive of a workspace.
pub(crate) struct Writer<W> {
    to: W,
    digest: Context,
    /// What pads the content that is being written.
    padding: u64,
}

impl<W: Write> Writer<W> {
    /// Says what it is.
    pub(crate) fn new(to: W, opening: &Opening) -> io::Result<Self> {
        let mut new = Self {
            to,
            digest: Context::new(&SHA256),
            padding: 0,
        };
        new.small(OPENING, opening.text().as_bytes())?;
        Ok(new)
    }

    /// Begins an entry whose content, `size` bytes, follows. `records` says what is said beside: attributes, holes.
    pub(crate) fn entry(
        &mut self,
        kind: Kind,
        path: &[u8],
        link: &[u8],
        meta: &Meta,
        size: u64,
        mut records: Records,
    ) -> io::Result<()> {
        self.pad()?;
        let mut header = Header {
            announced: Announced::Entry(kind),
            name: path.to_vec(),
            link: link.to_vec(),
            mode: meta.mode & 0o7777,
            uid: u64::from(meta.uid),
            gid: u64::from(meta.gid),
            size,
            mtime: meta.mtime.0,
        };
        const FIELD: usize = 100;
        records.path = (path.len() > FIELD).then(|| path.to_vec());
        records.link = (link.len() > FIELD).then(|| link.to_vec());
        records.size = (!fits(size)).then_some(size);
        let (seconds, nanos) = meta.mtime;
        let plain = nanos == 0 && u64::try_from(seconds).is_ok_and(fits);
        records.mtime = (!plain).then_some(meta.mtime);
        let text = records.text();
        if !text.is_empty() {
            let announced = Header {
                announced: Announced::Records,
                size: text.len() as u64,
                ..header.clone()
            };
            self.bytes(&announced.block())?;
            self.bytes(&text)?;
            self.padding = pad(text.len() as u64);
            self.pad()?;
        }
        header.name.truncate(FIELD);
        self.bytes(&header.block())?;
        self.padding = pad(size);
        Ok(())
    }

    /// Bytes of the content of the entry that was begun.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.to.write_all(bytes)
    }

    /// Ends the archive; what was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.pad()?;
        let digest = self.digest.clone().finish();
        let digits: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        self.small(CLOSING, digits.as_bytes())?;
        self.pad()?;
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }

    fn small(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let meta = Meta {
            mode: 0o644,
            ..Meta::default()
        };
        let size = content.len() as u64;
        self.entry(
            Kind::File,
            name.as_bytes(),
            b"",
            &meta,
            size,
            Records::default(),
        )?;
        self.bytes(content)
    }

    fn pad(&mut self) -> io::Result<()> {
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or(0);
        self.bytes(&[0; BLOCK][..padding])
    }
}
