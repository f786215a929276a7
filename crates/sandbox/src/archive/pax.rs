//! Owns the records that say of an entry what its header cannot (POSIX.1-2001 pax; GNU's sparse files; our own). It
//! reads no stream.

use super::{Refused, shown};

/// Ours: the entry stands for a name of the template that is gone.
const WHITEOUT: &str = "LONGHAND.whiteout";
/// Ours: nothing that the template has in this directory is seen.
const OPAQUE: &str = "LONGHAND.opaque";
const XATTR: &str = "SCHILY.xattr.";
/// Parts of a file between holes that are told one by one; what follows is written as it is read.
pub(crate) const PARTS: usize = 1_000;

/// Where the bytes of a file with holes belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// How long the file is with its holes.
    pub(crate) length: u64,
    /// Where a part begins and how long it is, in order.
    pub(crate) parts: Vec<(u64, u64)>,
}

/// What is said of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    /// Seconds and billionths.
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
    pub(crate) whiteout: bool,
    pub(crate) opaque: bool,
}

impl Records {
    /// Adds what `text` says of the entry `name`. Words that are not known say nothing.
    pub(super) fn parse(&mut self, mut text: &[u8], name: &[u8]) -> Result<(), Refused> {
        let bad = |what| Refused::Record(shown(name), what);
        while !text.is_empty() {
            let blank = text.iter().take(20).position(|byte| *byte == b' ');
            let blank = blank.ok_or_else(|| bad("no length"))?;
            let length: usize = digits(&text[..blank]).ok_or_else(|| bad("no length"))?;
            if length <= blank + 1 || length > text.len() || text[length - 1] != b'\n' {
                return Err(bad("a wrong length"));
            }
            let record = &text[blank + 1..length - 1];
            text = &text[length..];
            let equals = record.iter().position(|byte| *byte == b'=');
            let equals = equals.ok_or_else(|| bad("no value"))?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| bad("no word"))?;
            self.take(key, &record[equals + 1..]).map_err(bad)?;
        }
        Ok(())
    }

    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), &'static str> {
        match key {
            "path" | "GNU.sparse.name" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(digits(value).ok_or("size")?),
            "uid" => self.uid = Some(digits(value).ok_or("uid")?),
            "gid" => self.gid = Some(digits(value).ok_or("gid")?),
            "mtime" => self.mtime = Some(time(value).ok_or("mtime")?),
            "GNU.sparse.size" => self.sparse().length = digits(value).ok_or("GNU.sparse.size")?,
            "GNU.sparse.map" => {
                self.sparse().parts = parts(value).ok_or("GNU.sparse.map")?;
            }
            // The form whose map stands in the content, which nobody here writes.
            "GNU.sparse.major" => return Err("GNU.sparse.major"),
            WHITEOUT => self.whiteout = true,
            OPAQUE => self.opaque = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.attributes.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn sparse(&mut self) -> &mut Sparse {
        self.sparse.get_or_insert_default()
    }

    /// As they are written; empty if there is nothing to say.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut say = |key: &str, value: &[u8]| record(&mut text, key, value);
        if let Some(path) = &self.path {
            say("path", path);
        }
        if let Some(link) = &self.link {
            say("linkpath", link);
        }
        if let Some(size) = self.size {
            say("size", size.to_string().as_bytes());
        }
        if let Some((seconds, nanos)) = self.mtime {
            say("mtime", said(seconds, nanos).as_bytes());
        }
        if let Some(sparse) = &self.sparse {
            let parts = sparse.parts.iter();
            let map: Vec<String> = parts.map(|(at, length)| format!("{at},{length}")).collect();
            say("GNU.sparse.size", sparse.length.to_string().as_bytes());
            say("GNU.sparse.numblocks", map.len().to_string().as_bytes());
            say("GNU.sparse.map", map.join(",").as_bytes());
        }
        for (name, value) in &self.attributes {
            say(&format!("{XATTR}{name}"), value);
        }
        if self.whiteout {
            say(WHITEOUT, b"1");
        }
        if self.opaque {
            say(OPAQUE, b"1");
        }
        text
    }
}

/// One record: it says first how long it is, that number with it.
fn record(text: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    text.extend_from_slice(format!("{length} {key}=").as_bytes());
    text.extend_from_slice(value);
    text.push(b'\n');
}

fn digits<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    let all = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| all)?.parse().ok()
}

/// `-12.034`: what is left of the point is cut towards zero, so below zero it is one less.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut halves = text.splitn(2, |byte| *byte == b'.');
    let whole: i64 = digits(halves.next()?)?;
    let mut nanos = 0_u32;
    let fraction = halves.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    for at in 0..9 {
        let digit = fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
        nanos = nanos * 10 + digit;
    }
    Some(match (negative, nanos) {
        (false, nanos) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, nanos) => (-whole - 1, 1_000_000_000 - nanos),
    })
}

fn said(seconds: i64, nanos: u32) -> String {
    match (seconds, nanos) {
        (seconds, 0) => seconds.to_string(),
        (seconds, nanos) if seconds < 0 => {
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos)
        }
        (seconds, nanos) => format!("{seconds}.{nanos:09}"),
    }
}

/// In order, none over another.
fn parts(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut numbers = text.split(|byte| *byte == b',').map(digits::<u64>);
    let (mut parts, mut end) = (Vec::new(), 0);
    while let Some(at) = numbers.next() {
        let (at, length) = (at?, numbers.next()??);
        if at < end {
            return None;
        }
        end = at.checked_add(length)?;
        parts.push((at, length));
    }
    Some(parts)
}
