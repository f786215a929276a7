//! Owns the 512 bytes before each entry of a tar archive (POSIX.1-1988 ustar, and GNU's large numbers). It reads no
//! stream.

use super::{Refused, shown};

/// Bytes of a header, and what everything is padded to.
pub(super) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// Another name of a file before it.
    Link,
    Symlink,
    Directory,
    Fifo,
    /// A character or block device: nobody here makes one.
    Device,
}

/// What the header itself may also announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Entry(Kind),
    /// Records about the next entry.
    Records,
    /// Records about all that follow.
    Global,
    /// GNU: the next entry's name.
    LongName,
    /// GNU: where it leads.
    LongLink,
}

/// One header, as it stands there.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) announced: Announced,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
}

/// Up to the first zero.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// Octal digits between blanks; or, with the first bit set, the bits of the number (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256)? | u64::from(*byte);
        }
        return Some(value);
    }
    let digits = text(field).trim_ascii();
    let mut value = 0_u64;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)? | u64::from(digit - b'0');
    }
    Some(value)
}

impl Header {
    /// None for a block of zeros, which ends an archive.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, Refused> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut name = text(&block[..100]).to_vec();
        let said = shown(&name);
        if number(&block[148..156]) != Some(sum(block)) {
            return Err(Refused::Checksum(said));
        }
        let field = |range: std::ops::Range<usize>, what| {
            number(&block[range]).ok_or_else(|| Refused::Number(said.clone(), what))
        };
        let announced = match block[156] {
            b'0' | b'7' | 0 if name.ends_with(b"/") => Announced::Entry(Kind::Directory),
            b'0' | b'7' | 0 => Announced::Entry(Kind::File),
            b'1' => Announced::Entry(Kind::Link),
            b'2' => Announced::Entry(Kind::Symlink),
            b'3' | b'4' => Announced::Entry(Kind::Device),
            b'5' => Announced::Entry(Kind::Directory),
            b'6' => Announced::Entry(Kind::Fifo),
            b'x' => Announced::Records,
            b'g' => Announced::Global,
            b'L' => Announced::LongName,
            b'K' => Announced::LongLink,
            other => return Err(Refused::Unknown(said, char::from(other))),
        };
        let prefix = text(&block[345..500]);
        if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let mode = field(100..108, "its mode")?;
        Ok(Some(Self {
            announced,
            link: text(&block[157..257]).to_vec(),
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: field(108..116, "its user")?,
            gid: field(116..124, "its group")?,
            size: field(124..136, "its size")?,
            mtime: i64::try_from(field(136..148, "its time")?).unwrap_or(i64::MAX),
            name,
        }))
    }

    /// As a block. What does not fit its field stands there cut: records say it whole.
    pub(super) fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block[..100], &self.name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], self.uid);
        octal(&mut block[116..124], self.gid);
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], u64::try_from(self.mtime).unwrap_or(0));
        block[156] = match self.announced {
            Announced::Entry(Kind::File) => b'0',
            Announced::Entry(Kind::Link) => b'1',
            Announced::Entry(Kind::Symlink) => b'2',
            Announced::Entry(Kind::Directory) => b'5',
            Announced::Entry(Kind::Fifo) => b'6',
            Announced::Entry(Kind::Device) => b'3',
            Announced::Records => b'x',
            Announced::Global => b'g',
            Announced::LongName => b'L',
            Announced::LongLink => b'K',
        };
        put(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum = sum(&block);
        octal(&mut block[148..155], sum);
        block[155] = b' ';
        block
    }
}

/// Of all bytes, the field for the sum itself taken as blanks.
fn sum(block: &[u8; BLOCK]) -> u64 {
    let bytes = block.iter().enumerate();
    bytes
        .map(|(at, byte)| match at {
            148..156 => u64::from(b' '),
            _ => u64::from(*byte),
        })
        .sum()
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Digits and a zero byte; one too large for them as zero.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let fits = value >> (3 * digits).min(63) == 0;
    let text = format!("{:0digits$o}", if fits { value } else { 0 });
    put(field, text.as_bytes());
}

/// Whether so large a number fits eleven octal digits, as sizes and times have.
pub(super) const fn fits(value: u64) -> bool {
    value < 1 << 33
}
