//! Owns the directory of templates: which are there, what they are called, and that each is there whole or not at all. It
//! reads no archive, and knows no sandbox.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs, syncfs};
use rustix::io::Errno;

use super::digest::sum;
use super::known::Template;
use super::name::{TemplateId, TemplateName, TemplateRef};
use crate::error::{Doing, Error};
use crate::workspace::reached;

const TREE: &str = "tree";
const MANIFEST: &str = "template.json";
/// Given the place of a name when it is whole. No template can be called so.
const NEW_NAME: &str = ".new";

/// The templates below one directory. All of it blocks.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    pub(super) own_ids: bool,
    /// Bytes that stay free on its disk.
    reserve: u64,
}

/// The right to import: one has it at a time.
pub(super) struct Importing {
    _lock: File,
}

impl Home {
    /// Those in `dir`, which is private and on the same file system as the sandboxes. `own_ids` says whether those have
    /// ids of their own.
    pub(crate) fn new(dir: PathBuf, own_ids: bool, reserve: u64) -> Self {
        Self {
            dir,
            own_ids,
            reserve,
        }
    }

    /// Where all of them are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn all(&self) -> PathBuf {
        self.dir.join("sha256")
    }

    fn names(&self) -> PathBuf {
        self.dir.join("names")
    }

    fn drafts(&self) -> PathBuf {
        self.dir.join("drafts")
    }

    fn place(&self, id: &TemplateId) -> PathBuf {
        self.all().join(id.as_str())
    }

    /// The root of one that is here.
    pub(crate) fn tree(&self, id: &TemplateId) -> PathBuf {
        self.place(id).join(TREE)
    }

    /// Whether it is here.
    pub(crate) fn has(&self, id: &TemplateId) -> bool {
        self.tree(id).is_dir()
    }

    /// Fails when its disk is nearly full.
    pub(super) fn room(&self) -> io::Result<()> {
        let disk = statvfs(&self.dir)?;
        match disk.f_bavail.saturating_mul(disk.f_frsize) < self.reserve {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// Every template that is here, in the order of their import.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<Template>, Error> {
        let doing = || "list the templates".to_owned();
        let mut all = Vec::new();
        for entry in entries(&self.all()).doing(doing)? {
            if let Ok(id) = TemplateId::try_from(entry) {
                all.extend(self.read(&id)?);
            }
        }
        all.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(all)
    }

    /// What is known of one; none if it is not here.
    pub(crate) fn read(&self, id: &TemplateId) -> Result<Option<Template>, Error> {
        let doing = || format!("read the template {id}");
        let bytes = match fs::read(self.place(id).join(MANIFEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(doing)?,
        };
        let mut template: Template = serde_json::from_slice(&bytes).doing(doing)?;
        for name in entries(&self.names()).doing(doing)? {
            if self.named(&name).doing(doing)?.as_ref() == Some(id) {
                template.names.push(name);
            }
        }
        template.names.sort();
        Ok(Some(template))
    }

    /// The one that somebody means; none for the host's.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Io`].
    pub fn find(&self, which: &TemplateRef) -> Result<Option<TemplateId>, Error> {
        let found = match which {
            TemplateRef::Host => return Ok(None),
            TemplateRef::Id(id) => Some(id.clone()),
            TemplateRef::Name(name) => self
                .named(name.as_str())
                .doing(|| format!("find the template {name}"))?,
        };
        let found = found.filter(|id| self.has(id));
        found.map(Some).ok_or_else(|| Error::Missing {
            problem: format!(
                "there is no template {which} here; `longhand template list` says which there are"
            ),
        })
    }

    fn named(&self, name: &str) -> io::Result<Option<TemplateId>> {
        match fs::read_link(self.names().join(name)) {
            Ok(text) => Ok(TemplateId::try_from(text.to_string_lossy().into_owned()).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a template still is what was imported: all of it is read.
    ///
    /// # Errors
    /// As [`Home::find`]; [`Error::Invalid`] for the host's, which may change.
    pub fn verify(&self, which: &TemplateRef) -> Result<(Template, bool), Error> {
        let id = self.find(which)?.ok_or_else(of_the_host)?;
        let doing = || format!("verify the template {id}");
        let template = self.read(&id)?.ok_or_else(|| Error::Missing {
            problem: format!("the template {id} has just gone"),
        })?;
        let found = sum(&self.tree(&id), self.own_ids).doing(doing)?;
        let same = found.id == template.sum;
        Ok((template, same))
    }

    /// Removes one with its names: `trash` gets what it was. Nobody lies on it.
    pub(crate) fn remove(
        &self,
        id: &TemplateId,
        trash: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let doing = || format!("remove the template {id}");
        for name in entries(&self.names()).doing(doing)? {
            if self.named(&name).doing(doing)?.as_ref() == Some(id) {
                fs::remove_file(self.names().join(name)).doing(doing)?;
                reached("name removed");
            }
        }
        trash(&self.place(id))
    }

    /// The right to import, and nothing left of those that had it and were killed.
    pub(super) fn begin(&self) -> Result<Importing, Error> {
        let doing = || format!("begin an import into {}", self.dir.display());
        for dir in [self.all(), self.names(), self.drafts()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.doing(doing)?;
        }
        let lock = self.locked("import.lock").doing(doing)?;
        let lock = lock.ok_or_else(|| Error::busy("another template is being imported"))?;
        for left in entries(&self.drafts()).doing(doing)? {
            fs::remove_dir_all(self.drafts().join(left)).doing(doing)?;
        }
        Ok(Importing { _lock: lock })
    }

    /// A lock beside the templates that ends with who has it; none while somebody else has.
    pub(super) fn locked(&self, name: &str) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(self.dir.join(name))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(None),
            other => Ok(other.map(|()| Some(lock))?),
        }
    }

    /// An empty draft: its directory, and the one for its files.
    pub(super) fn draft(&self, _right: &Importing) -> io::Result<(PathBuf, PathBuf)> {
        let draft = self.drafts().join("draft");
        let tree = draft.join(TREE);
        DirBuilder::new().mode(0o700).create(&draft)?;
        DirBuilder::new().mode(0o755).create(&tree)?;
        reached("draft made");
        Ok((draft, tree))
    }

    /// Gives a draft its place, once all of it is on the disk.
    pub(super) fn publish(
        &self,
        draft: &Path,
        template: &Template,
        _right: &Importing,
    ) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut manifest = options.open(draft.join(MANIFEST))?;
        manifest.write_all(&serde_json::to_vec(template)?)?;
        reached("manifest written");
        syncfs(File::open(&self.dir)?)?;
        reached("flushed");
        fs::rename(draft, self.place(&template.id))?;
        reached("published");
        File::open(self.all())?.sync_all()
    }

    /// Has that name mean that template from now on, whatever it meant before.
    pub(super) fn call(&self, name: &TemplateName, id: &TemplateId) -> io::Result<()> {
        let draft = self.names().join(NEW_NAME);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(id.as_str(), &draft)?;
        fs::rename(&draft, self.names().join(name.as_str()))?;
        reached("named");
        File::open(self.names())?.sync_all()
    }
}

/// What whoever wants to do something with the host's template is told.
pub(crate) fn of_the_host() -> Error {
    Error::invalid("`host` is the host's own /usr, and no template that was imported")
}

/// The names in a directory; none if it is not there.
fn entries(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}
