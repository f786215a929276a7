//! Owns the place where an image is put together that comes blob by blob, from a registry: which blobs it lacks, and that
//! one has its name there only when all of it came and its digest is right. It speaks to nobody, and imports nothing.
//!
//! **What is left.** What came of a blob stays when whoever brings it stops or is killed, and the next one goes on from
//! there. Whoever is done, or sees that the image is not to be had, removes the place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::home::Home;
use super::import::NewTemplate;
use super::oci::{self, Blob};
use crate::archive::shown;
use crate::error::{Doing, Error};
use crate::limits::{ARCHIVE_LOOK, IMAGE_JSON_BYTES};

const PLACE: &str = "gathered";
/// Bytes that are read at once of what had come before.
const PIECE: usize = 256 * 1024;

/// An image that is being put together. There is one at a time below one directory of templates.
#[derive(Debug)]
pub struct Gathering {
    home: Home,
    dir: PathBuf,
    _lock: File,
}

/// A blob that is coming. What came stays when it is dropped.
pub struct Incoming<'a> {
    home: &'a Home,
    blob: Blob,
    file: File,
    draft: PathBuf,
    place: PathBuf,
    digest: Context,
    bytes: u64,
    /// When the room on the disk is looked at next.
    look: u64,
}

impl Home {
    /// Begins to put an image together, or goes on with what was left. Blocks.
    ///
    /// # Errors
    /// [`Error::Busy`] while another is put together; [`Error::Io`].
    pub fn gather(&self) -> Result<Gathering, Error> {
        let dir = self.dir().join(PLACE);
        let doing = || format!("make {}", dir.display());
        let lock = self.locked("gathered.lock").doing(doing)?;
        let lock = lock.ok_or_else(|| Error::busy("another image is being fetched"))?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.doing(doing)?;
        Ok(Gathering {
            home: self.clone(),
            dir,
            _lock: lock,
        })
    }
}

impl Gathering {
    /// Bytes that a manifest, an index or a configuration may have.
    pub const DOCUMENT_BYTES: u64 = IMAGE_JSON_BYTES;

    /// Takes what the image begins with: a manifest or an index, as the registry gave it and calls it (`said`, a media
    /// type). `wanted` is the digest that it must have (`sha256:…`).
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is none, or not the wanted one; [`Error::Io`].
    pub fn begin(&self, top: &[u8], said: &str, wanted: Option<&str>) -> Result<(), Error> {
        let digest = format!("sha256:{}", oci::sha256(top));
        if let Some(wanted) = wanted.filter(|wanted| **wanted != digest) {
            return Err(Error::invalid(format!(
                "the registry answered with {digest}, and not with {wanted}"
            )));
        }
        let kind = kind(top, said)?;
        let blob = Blob {
            digest,
            size: top.len() as u64,
            is_manifest: true,
        };
        let doing = || format!("begin {}", self.dir.display());
        oci::begin(&self.dir, &kind, &blob).doing(doing)?;
        let mut incoming = self.incoming(&blob)?;
        incoming.restart()?;
        incoming.put(top)?;
        incoming.end()
    }

    /// What has to come next; nothing when the image is whole. What an image is made of shows only as it comes: ask
    /// again when these are there.
    ///
    /// # Errors
    /// [`Error::Invalid`] says why it is no image that can be imported here.
    pub fn lacking(&self) -> Result<Vec<Blob>, Error> {
        oci::lacking(&self.dir)
    }

    /// Takes a blob that is lacking, from where it was left. Blocks: what came before is read.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a digest of another kind; [`Error::Io`].
    pub fn incoming(&self, blob: &Blob) -> Result<Incoming<'_>, Error> {
        let digits = oci::digits(&blob.digest)?;
        let place = oci::place(&self.dir, digits);
        let draft = place.with_extension("part");
        let doing = || format!("open the draft of {}", blob.digest);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&draft).doing(doing)?;
        let mut incoming = Incoming {
            home: &self.home,
            blob: blob.clone(),
            file,
            draft,
            place,
            digest: Context::new(&SHA256),
            bytes: 0,
            look: 0,
        };
        incoming.read().doing(doing)?;
        if incoming.bytes > blob.size {
            incoming.restart()?;
        }
        Ok(incoming)
    }

    /// The template that is made of it when nothing is lacking; `called` says where from, `at` is the time, in
    /// microseconds since 1970.
    #[must_use]
    pub fn new_template(&self, called: String, at: i64) -> NewTemplate {
        NewTemplate::of_layout(self.dir.clone(), called, at)
    }

    /// Whether nothing of any image has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        fs::read_dir(self.dir.join("blobs/sha256")).map_or(true, |mut blobs| blobs.next().is_none())
    }

    /// Removes all of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.dir).doing(|| format!("remove {}", self.dir.display()))
    }
}

impl Incoming<'_> {
    /// How much of it is there.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all of it is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.bytes == self.blob.size
    }

    /// Has it begin anew.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restart(&mut self) -> Result<(), Error> {
        let begun = self.file.set_len(0);
        let begun = begun.and_then(|()| io::Seek::rewind(&mut self.file));
        begun.doing(|| format!("empty {}", self.draft.display()))?;
        (self.digest, self.bytes, self.look) = (Context::new(&SHA256), 0, 0);
        Ok(())
    }

    /// Takes more of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is more than it has; [`Error::Busy`] when the host's disk is nearly full;
    /// [`Error::Io`].
    pub fn put(&mut self, piece: &[u8]) -> Result<(), Error> {
        let bytes = self.bytes + piece.len() as u64;
        if bytes > self.blob.size {
            return Err(self.refused(&format!("more than its {} bytes came", self.blob.size)));
        }
        if bytes >= self.look {
            self.look = bytes.saturating_add(ARCHIVE_LOOK);
            self.home.room().map_err(|_| full())?;
        }
        let written = self.file.write_all(piece);
        written.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(),
            _ => Error::Io {
                doing: format!("write {}", self.draft.display()),
                source: error,
            },
        })?;
        self.digest.update(piece);
        self.bytes = bytes;
        Ok(())
    }

    /// Gives it its name: all of it is there. Blocks, until it is on the disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not what its digest says; nothing of it is kept then. [`Error::Io`].
    pub fn end(self) -> Result<(), Error> {
        let digest = self.digest.clone().finish();
        let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let found = format!("sha256:{}", digits.collect::<String>());
        let doing = || format!("keep {}", self.place.display());
        if !self.is_whole() || found != self.blob.digest {
            fs::remove_file(&self.draft).doing(doing)?;
            return Err(self.refused(&format!("what came is {found}")));
        }
        self.file.sync_data().doing(doing)?;
        fs::rename(&self.draft, &self.place).doing(doing)
    }

    /// Reads what came before.
    fn read(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let length = self.file.read(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            self.digest.update(&piece[..length]);
            self.bytes += length as u64;
        }
    }

    fn refused(&self, problem: &str) -> Error {
        Error::invalid(format!("{}: {problem}", self.blob.digest))
    }
}

/// What kind of document a registry answered with, if it is one that an image begins with: `said` is what it called it.
///
/// # Errors
/// [`Error::Invalid`]: it is of another kind, or of two at once.
fn kind(document: &[u8], said: &str) -> Result<String, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Any {
        media_type: Option<String>,
        layers: Option<IgnoredAny>,
        manifests: Option<IgnoredAny>,
    }
    let what = "what the registry answers with";
    let any: Any = oci::parsed(what, document)?;
    let kind = any.media_type.unwrap_or_else(|| said.to_owned());
    let is_manifest = oci::MANIFESTS.contains(&kind.as_str());
    if !is_manifest && !oci::INDICES.contains(&kind.as_str()) {
        let kind = shown(kind.as_bytes());
        return Err(oci::bad(
            what,
            &format!("no image and no index, but {kind}"),
        ));
    }
    // One reader must not take for an index what another takes for an image (CVE-2021-41190).
    if any.layers.is_some() != is_manifest || any.manifests.is_some() == is_manifest {
        return Err(oci::bad(what, "it is not of the kind that it says it is"));
    }
    Ok(kind)
}

fn full() -> Error {
    Error::busy("the host's disk is full: make room, what came of the image is kept")
}
