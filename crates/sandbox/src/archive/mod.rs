//! Owns the words of tar archives: reading those that anybody may have written, and writing ours. It touches no file and
//! believes no number before it was compared with a limit.
//!
//! What an archive of a workspace holds, in this order: the file [`OPENING`], which says what it is; then `root`,
//! `workspace` and `outputs`, each directory before what is in it and no other in between; then [`CLOSING`], which holds the
//! digest of all bytes before it. One that has no end was cut.

mod header;
mod landing;
mod opening;
mod pax;
pub(crate) mod pipe;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io;

pub(crate) use header::Kind;
pub(crate) use landing::{Bounds, Dress, Landing};
pub(crate) use opening::{OPENING, Opening};
pub(crate) use pax::{PARTS, Records, Sparse};
pub(crate) use reader::{Entry, Reader};
pub(crate) use writer::{Meta, Writer};

/// The last one: SHA-256 of every byte before its header, in hexadecimal digits.
pub(crate) const CLOSING: &str = "longhand.sha256";

/// What is wrong with an archive. Nothing of it was kept.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error(
        "the archive is no Longhand export: it does not begin with {OPENING} of a format that is known here"
    )]
    Foreign,
    #[error(
        "the workspace was made on the template {0}, which is not here: import that first (`longhand template import`)"
    )]
    Template(String),
    #[error("the archive was cut: it ends before {CLOSING}")]
    Cut,
    #[error("the archive does not unpack: {0}")]
    Broken(String),
    #[error("the archive's digest does not fit what is in it")]
    Digest,
    #[error("the archive goes on after its end")]
    Trailing,
    #[error("the archive stood still for {0} s")]
    Stalled(u64),
    #[error("{0}: a header's checksum is wrong")]
    Checksum(String),
    #[error("{0}: its header says {1} in no way that is understood")]
    Number(String, &'static str),
    #[error("{0}: a kind of entry that is not taken ({1:?})")]
    Unknown(String, char),
    #[error("{0}: a device")]
    Device(String),
    #[error("{0}: what is said about it takes more than {1} bytes")]
    Wordy(String, usize),
    #[error("{0}: what is said about it is not understood ({1})")]
    Record(String, &'static str),
    #[error("{0}: a name that begins with a slash")]
    Absolute(String),
    #[error("{0}: a name that leads upwards")]
    Upwards(String),
    #[error("{0}: no name of a file")]
    Name(String),
    #[error("{0}: lies neither in root nor in workspace nor in outputs")]
    Outside(String),
    #[error("{0}: comes before its directory, or after that was left")]
    Order(String),
    #[error("{0}: is there twice")]
    Twice(String),
    #[error("{0}: another name of {1}, which is no file before it and beside it")]
    Link(String, String),
    #[error("{0}: hides a name where nothing lies below")]
    Whiteout(String),
    #[error(
        "{0}: hides a name in a way that is not taken here: layers of OCI images do it by `.wh.NAME` and `.wh..wh..opq`, \
         other archives not at all"
    )]
    Dialect(String),
    #[error("{0}: lies below a name that is no directory")]
    NoDirectory(String),
    #[error("{0}: belongs to user {1} and group {2}, of which a sandbox has none")]
    Owner(String, u64, u64),
    #[error("{0}: has the attribute {1}, which is not taken")]
    Attribute(String, String),
    #[error("{0}: more than {1} directories in one another")]
    Depth(String, usize),
    #[error("the archive holds more than {0} files and directories")]
    Many(u64),
    #[error("the archive holds more than {0} bytes, which is what a sandbox may take of the disk")]
    Large(u64),
    #[error("the archive unpacks to more than {0} times what it is")]
    Bomb(u64),
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It is the archive.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It is this host.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// A name as it may stand in an error: the first of it, and nothing that a terminal would obey.
pub(crate) fn shown(name: &[u8]) -> String {
    const MOST: usize = 200;
    let name = &name[..name.len().min(MOST)];
    String::from_utf8_lossy(name).escape_debug().collect()
}
