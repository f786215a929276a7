//! Owns the way of a template from an archive or an image to its place: unpacked, compared with what was said of it, made
//! ready, named by its digest. What fails leaves nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::apply::{Dialect, Tree};
use super::digest::sum;
use super::home::Home;
use super::known::Template;
use super::name::TemplateName;
use super::oci::{self, Image, Layer};
use super::rooted::Rooted;
use super::source::{Counted, Digested, Packing, Proportioned};
use super::{architecture, prepare};
use crate::archive::{Bounds, Fault, Refused};
use crate::error::{Doing, Error};
use crate::limits::{ARCHIVE_ENTRIES, ENV_VARS, IMAGE_ENV_BYTES, TEMPLATE_BYTES};
use crate::workspace::reached;

/// What a template is made from.
enum Source {
    /// All of a root, as one archive (tar, plain or packed with gzip or zstd).
    Archive(Box<dyn Read + Send>),
    /// The directory of an OCI image layout, and what the image is called there.
    Layout(PathBuf, Option<String>),
}

/// A template that is to be imported.
pub struct NewTemplate {
    source: Source,
    called: String,
    /// The name that it gets.
    pub name: Option<TemplateName>,
    /// The time, in microseconds since 1970.
    pub at: i64,
}

impl NewTemplate {
    /// From a file that holds an archive, or a directory that holds an OCI image layout. If there are several images in
    /// that, `image` says which, by its `org.opencontainers.image.ref.name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a directory of another kind; [`Error::Io`].
    pub fn at_path(path: &Path, image: Option<String>, at: i64) -> Result<Self, Error> {
        let doing = || format!("read {}", path.display());
        let called = path.display().to_string();
        if !fs::metadata(path).doing(doing)?.is_dir() {
            let file = File::open(path).doing(doing)?;
            return Ok(Self::from_archive(Box::new(file), called, at));
        }
        if !oci::is_layout(path) {
            return Err(Error::invalid(format!(
                "{called} is a directory without `oci-layout`: give an image layout, or a tar archive"
            )));
        }
        Ok(Self {
            source: Source::Layout(path.to_owned(), image),
            called,
            name: None,
            at,
        })
    }

    /// From an image layout that was put together here.
    pub(super) fn of_layout(dir: PathBuf, called: String, at: i64) -> Self {
        Self {
            source: Source::Layout(dir, None),
            called,
            name: None,
            at,
        }
    }

    /// From an archive that comes from anywhere; `called` says where from, for people.
    #[must_use]
    pub fn from_archive(archive: Box<dyn Read + Send>, called: String, at: i64) -> Self {
        Self {
            source: Source::Archive(archive),
            called,
            name: None,
            at,
        }
    }
}

/// How far an import is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    came: Arc<AtomicU64>,
}

impl Progress {
    /// Bytes that were read of what is imported. A layer of an image that hides names is read twice.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }
}

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// The template.
    pub template: Template,
    /// Whether it was here already.
    pub was_here: bool,
}

impl Home {
    /// Imports a template. Blocks.
    ///
    /// # Errors
    /// [`Error::Invalid`] says what is wrong with the archive or the image; [`Error::Busy`] while another is imported, or
    /// when the host's disk is nearly full; [`Error::Io`]. Nothing of it is kept then.
    pub fn import(&self, new: NewTemplate, progress: &Progress) -> Result<Imported, Error> {
        let right = self.begin()?;
        let doing = || format!("import a template from {}", new.called);
        let (draft, root) = self.draft(&right).doing(doing)?;
        let made = self.made(new.source, &new.called, &root, progress);
        let made = made.and_then(|made| {
            let found = sum(&root, self.own_ids).doing(doing)?;
            reached("summed");
            if let Some(template) = self.read(&found.id)? {
                return Ok((template, true));
            }
            prepare::prepare(&Rooted::open(&root).doing(doing)?)?;
            reached("prepared");
            let ready = sum(&root, self.own_ids).doing(doing)?;
            let template = Template {
                id: found.id,
                names: Vec::new(),
                source: made.source,
                at: new.at,
                architecture: made.architecture,
                bytes: found.bytes,
                files: found.files,
                env: made.env,
                sum: ready.id,
            };
            self.publish(&draft, &template, &right).doing(doing)?;
            Ok((template, false))
        });
        let (template, was_here) = match made {
            Ok((template, false)) => (template, false),
            other => {
                // What is left of it the next import removes.
                let _ = fs::remove_dir_all(&draft);
                other?
            }
        };
        if let Some(name) = &new.name {
            self.call(name, &template.id).doing(doing)?;
        }
        let template = self.read(&template.id)?.unwrap_or(template);
        Ok(Imported { template, was_here })
    }

    fn made(
        &self,
        source: Source,
        called: &str,
        root: &Path,
        progress: &Progress,
    ) -> Result<Made, Error> {
        let here = self.clone();
        let bounds = Bounds {
            bytes: TEMPLATE_BYTES,
            entries: ARCHIVE_ENTRIES,
            came: Arc::clone(&progress.came),
            own_ids: self.own_ids,
            room: Box::new(move || here.room()),
        };
        self.room().map_err(|error| told(error.into(), called))?;
        let told = |fault| told(fault, called);
        let mut tree = Tree::open(root, &bounds).map_err(|error| told(error.into()))?;
        let made = match source {
            Source::Archive(archive) => {
                whole(archive, &mut tree, &bounds.came).map_err(told)?;
                Made {
                    source: called.to_owned(),
                    ..Made::default()
                }
            }
            Source::Layout(dir, image) => {
                let image = oci::image(&dir, image.as_deref())?;
                layered(&image, &mut tree, &bounds.came)?;
                Made {
                    source: format!("{called} ({})", image.digest),
                    env: environment(image.env)?,
                    ..Made::default()
                }
            }
        };
        reached("unpacked");
        let (entries, _) = tree.landed();
        if entries == 0 {
            return Err(Error::invalid(format!("{called}: there is nothing in it")));
        }
        let rooted = Rooted::open(root).map_err(|error| told(error.into()))?;
        Ok(Made {
            architecture: fitting(&rooted, called).map_err(|error| told(error.into()))??,
            ..made
        })
    }
}

/// What is known of a tree beside what is in it.
#[derive(Default)]
struct Made {
    source: String,
    architecture: String,
    env: Vec<(String, String)>,
}

/// The tree's architecture, if it is this host's.
fn fitting(tree: &Rooted, called: &str) -> io::Result<Result<String, Error>> {
    let here = architecture::of_host();
    Ok(match architecture::of(tree)? {
        Some(made) if made != here => Err(Error::invalid(format!(
            "{called}: its programs are for {made}, and this host is {here}"
        ))),
        _ => Ok(here.to_owned()),
    })
}

/// Unpacks an archive that is a whole root.
fn whole(archive: impl Read, tree: &mut Tree<'_>, came: &Arc<AtomicU64>) -> Result<(), Fault> {
    let mut counted = BufReader::new(Counted::new(archive, Arc::clone(came)));
    let packing = Packing::of(counted.fill_buf()?);
    let unpacked = packing.unpacked(&mut counted)?;
    tree.put(
        Proportioned::new(unpacked, Arc::clone(came)),
        Dialect::Plain,
    )
}

/// Unpacks the layers of an image, one on the other.
fn layered(image: &Image, tree: &mut Tree<'_>, came: &Arc<AtomicU64>) -> Result<(), Error> {
    for (number, layer) in image.layers.iter().enumerate() {
        let called = format!("layer {} (sha256:{})", number + 1, layer.digest);
        // The lowest has nothing to hide.
        let hidden = match number {
            0 => Ok(()),
            _ => verified(layer, came, |from| tree.hide(from)),
        };
        let put =
            hidden.and_then(|()| verified(layer, came, |from| tree.put(from, Dialect::Layer)));
        put.map_err(|fault| told(fault, &called))?;
        reached("layer put");
    }
    Ok(())
}

/// Has `read` read what is unpacked of a layer, and compares all of it with what was said.
fn verified(
    layer: &Layer,
    came: &Arc<AtomicU64>,
    read: impl FnOnce(&mut dyn Read) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let blob = Counted::new(oci::open(&layer.path)?, Arc::clone(came));
    let mut blob = Digested::new(blob);
    let unpacked = layer.packing.unpacked(&mut blob)?;
    let mut unpacked = Digested::new(Proportioned::new(unpacked, Arc::clone(came)));
    read(&mut unpacked)?;
    let broken = |error: io::Error| Refused::Broken(error.to_string());
    let (_, content) = unpacked.finish().map_err(broken)?;
    let (size, digest) = blob.finish().map_err(broken)?;
    match size == layer.size && digest == layer.digest && content == layer.unpacked {
        true => Ok(()),
        false => Err(Refused::Digest.into()),
    }
}

/// What a sandbox can be given of an image's environment.
fn environment(env: Vec<(String, String)>) -> Result<Vec<(String, String)>, Error> {
    let bytes: usize = env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let unnamed = env.iter().any(|(name, _)| name.is_empty());
    let zero = env
        .iter()
        .any(|(name, value)| name.contains('\0') || value.contains('\0'));
    if env.len() > ENV_VARS / 2 || bytes > IMAGE_ENV_BYTES || unnamed || zero {
        return Err(Error::invalid(format!(
            "the image's environment is none: {} variables of {IMAGE_ENV_BYTES} bytes together are taken, each with a name",
            ENV_VARS / 2
        )));
    }
    Ok(env)
}

/// What whoever imports can do about it.
fn told(fault: Fault, called: &str) -> Error {
    match fault {
        // What these say beside it is of workspaces.
        Fault::Refused(Refused::Cut) => Error::invalid(format!("{called}: the archive was cut")),
        Fault::Refused(Refused::Large(most)) => {
            Error::invalid(format!("{called}: more than {most} bytes"))
        }
        Fault::Refused(refused) => Error::invalid(format!("{called}: {refused}")),
        Fault::Host(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::busy("the host's disk is full: nothing of the template was kept")
            }
            io::ErrorKind::NotFound => Error::invalid(format!("{called}: it is not there")),
            _ => Error::Io {
                doing: format!("import {called}"),
                source: error,
            },
        },
    }
}
