//! Owns reading an archive that anybody may have written, an entry at a time. What it keeps in memory is bounded,
//! whatever the archive says.

use std::io::{self, BufRead, BufReader, Read};

use aws_lc_rs::digest::{Context, SHA256};

use super::header::{Announced, BLOCK, Header, Kind};
use super::pax::Records;
use super::{Refused, shown};
use crate::limits::ARCHIVE_WORDS;

/// Bytes that are read ahead.
const AHEAD: usize = 256 * 1024;

/// One entry of an archive. Its content comes from the [`Reader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it stands there: nobody has looked at it yet.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds and billionths.
    pub(crate) mtime: (i64, u32),
    /// Bytes of its content in the archive.
    pub(crate) size: u64,
    /// Where it leads, as it stands there.
    pub(crate) link: Vec<u8>,
    /// What else is said of it.
    pub(crate) records: Records,
}

/// Reads an archive to its end.
pub(crate) struct Reader<R> {
    from: BufReader<R>,
    /// Of all bytes so far.
    digest: Context,
    /// Of all before the entry that was read last.
    before: Context,
    /// Bytes of the entry's content that are still to come, and of what pads it.
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from: BufReader::with_capacity(AHEAD, from),
            digest: Context::new(&SHA256),
            before: Context::new(&SHA256),
            left: 0,
            padding: 0,
        }
    }

    /// The next entry, whatever was left unread of the last; `None` at the archive's end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Refused> {
        self.skip()?;
        self.before = self.digest.clone();
        let (mut records, mut words) = (Records::default(), 0_u64);
        let (mut name, mut link) = (None, None);
        loop {
            let mut block = [0; BLOCK];
            self.exact(&mut block)?;
            let Some(header) = Header::parse(&block)? else {
                return Ok(None);
            };
            let Announced::Entry(kind) = header.announced else {
                words = words.saturating_add(header.size);
                let text = self.words(&header, words)?;
                match header.announced {
                    Announced::Records => records.parse(&text, &header.name)?,
                    Announced::LongName => name = Some(until_zero(text)),
                    Announced::LongLink => link = Some(until_zero(text)),
                    Announced::Global | Announced::Entry(_) => {}
                }
                continue;
            };
            let size = match kind {
                Kind::File => records.size.unwrap_or(header.size),
                // Some writers give a size to what has no content.
                Kind::Link | Kind::Symlink | Kind::Directory | Kind::Fifo | Kind::Device => 0,
            };
            self.left = size;
            self.padding = pad(size);
            let entry = Entry {
                path: records.path.take().or(name).unwrap_or(header.name),
                link: records.link.take().or(link).unwrap_or(header.link),
                kind,
                mode: header.mode,
                uid: records.uid.unwrap_or(header.uid),
                gid: records.gid.unwrap_or(header.gid),
                mtime: records.mtime.unwrap_or((header.mtime, 0)),
                size,
                records,
            };
            return check_sparse(entry).map(Some);
        }
    }

    /// The next bytes of the entry's content, at most so many; empty after the last.
    pub(crate) fn piece(&mut self, most: usize) -> Result<&[u8], Refused> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let ready = self.from.fill_buf().map_err(|error| broken(&error))?.len();
        if ready == 0 {
            return Err(Refused::Cut);
        }
        let most = ready
            .min(most)
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= most as u64;
        // Borrowed again, for what is given back is of the same buffer.
        let buffered = &self.from.buffer()[..most];
        self.digest.update(buffered);
        Ok(buffered)
    }

    /// Takes so many bytes of the last piece as read.
    pub(crate) fn took(&mut self, length: usize) {
        self.from.consume(length);
    }

    /// SHA-256 of all that came before the entry that was read last.
    pub(crate) fn digest_before(&self) -> String {
        let digest = self.before.clone().finish();
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    }

    /// After the last entry nothing but zeros may come, and not many.
    pub(crate) fn finish(mut self) -> Result<(), Refused> {
        let mut blocks = 0;
        loop {
            let ready = self.from.fill_buf().map_err(|error| broken(&error))?;
            if ready.is_empty() {
                return Ok(());
            }
            blocks += ready.len();
            if blocks > ARCHIVE_WORDS || ready.iter().any(|byte| *byte != 0) {
                return Err(Refused::Trailing);
            }
            let length = ready.len();
            self.from.consume(length);
        }
    }

    fn skip(&mut self) -> Result<(), Refused> {
        self.left = self.left.saturating_add(std::mem::take(&mut self.padding));
        loop {
            let length = self.piece(AHEAD)?.len();
            if length == 0 {
                return Ok(());
            }
            self.took(length);
        }
    }

    /// What a header announces that is about the next entry.
    fn words(&mut self, header: &Header, so_far: u64) -> Result<Vec<u8>, Refused> {
        if so_far > ARCHIVE_WORDS as u64 {
            return Err(Refused::Wordy(shown(&header.name), ARCHIVE_WORDS));
        }
        let length = usize::try_from(header.size).unwrap_or(ARCHIVE_WORDS);
        let mut text = vec![0; length];
        self.exact(&mut text)?;
        let mut padding = [0; BLOCK];
        let padded = usize::try_from(pad(header.size)).unwrap_or(0);
        self.exact(&mut padding[..padded])?;
        Ok(text)
    }

    fn exact(&mut self, into: &mut [u8]) -> Result<(), Refused> {
        self.from.read_exact(into).map_err(|error| broken(&error))?;
        self.digest.update(into);
        Ok(())
    }
}

/// What pads content of that length to whole blocks.
pub(super) const fn pad(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

/// The parts of a file with holes are what is in the archive, and lie within it.
fn check_sparse(entry: Entry) -> Result<Entry, Refused> {
    if let Some(sparse) = &entry.records.sparse {
        let sum: u64 = sparse.parts.iter().map(|(_, length)| length).sum();
        let end = sparse.parts.last().map_or(0, |(at, length)| at + length);
        let most = i64::MAX.cast_unsigned();
        let fits = end <= sparse.length && sparse.length <= most;
        if entry.kind != Kind::File || sum != entry.size || !fits {
            return Err(Refused::Record(shown(&entry.path), "GNU.sparse.map"));
        }
    }
    Ok(entry)
}

/// What a source says that cannot go on.
fn broken(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Refused::Cut,
        io::ErrorKind::TimedOut => Refused::Stalled(crate::limits::ARCHIVE_STALL.as_secs()),
        _ => Refused::Broken(error.to_string()),
    }
}
